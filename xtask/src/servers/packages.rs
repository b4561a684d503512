//! What this machine lacks, obtained by the ordinary clients: apt-get for programs, pip and Maven for pinned files.
//!
//! Only root installs programs; everybody else is told the command. Downloaded files are kept and checked by SHA-256.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{Kind, Origin, elasticsearch, nats, postgres, s3};

/// Kept here where root's repository cannot be entered by the users that servers run as.
const SYSTEM_CACHE: &str = "/var/cache/lmao-servers";

/// A file that is not there yet is written beside this name first.
const PART: &str = ".part";

/// Installs the programs that starting these servers takes.
///
/// # Errors
/// Something is missing and cannot be installed: with the command that does.
pub(super) fn install(wanted: &[(Kind, Origin)]) -> Result<()> {
    let mut missing = vec![];
    for (kind, origin) in wanted {
        match (kind, origin) {
            (Kind::Nats, _) => missing.extend(nats::missing_packages()),
            (Kind::Redis, _) if kind.given_program().is_none() && program("redis-server").is_none() => {
                missing.push("redis-server");
            }
            (Kind::Postgres, Origin::Process) if postgres::programs().is_none() => missing.push("postgresql"),
            (Kind::S3, Origin::Process) => missing.extend(s3::missing_packages()),
            (Kind::Elasticsearch, Origin::Process) => missing.extend(elasticsearch::missing_packages()),
            _ => {}
        }
    }
    // Two that come by pip need it once.
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if program("apt-get").is_none() {
        bail!("missing: {} (names of Debian's packages); install them by your system's means", missing.join(", "));
    }
    if !is_root()? {
        bail!("missing: {}; run `sudo {command}`", missing.join(", "));
    }
    eprintln!("> {command}");
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "DPkg::Lock::Timeout=120"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt.stdin(Stdio::null()).status().context("apt-get could not be started")
    };
    let install = [&["install", "-y", "--no-install-recommends"][..], &missing].concat();
    // A fresh image has no lists of packages, an old one outdated ones.
    if apt(&install)?.success() || apt(&["update"])?.success() && apt(&install)?.success() {
        return Ok(());
    }
    bail!("`{command}` failed; what it said is above")
}

/// Whether this process may do everything.
pub(super) fn is_root() -> Result<bool> {
    Ok(number(&["-u"])? == 0)
}

/// The account that a server runs as which refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(super) enum Account {
    /// The one of this process.
    Own,
    /// Another one; this process is root's.
    Other { user: u32, group: u32 },
}

impl Account {
    /// `name` if this process is root's.
    pub(super) fn unprivileged(name: &str) -> Result<Self> {
        if !is_root()? {
            return Ok(Self::Own);
        }
        let (user, group) = (number(&["-u", name])?, number(&["-g", name])?);
        Ok(Self::Other { user, group })
    }

    /// Makes `command` run as it.
    pub(super) fn run(self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        if let Self::Other { user, group } = self {
            command.uid(user).gid(group);
        }
    }

    /// Makes an empty directory its own.
    pub(super) fn create_dir(self, path: &Path) -> Result<()> {
        let created = fs::create_dir_all(path).and_then(|()| match self {
            Self::Own => Ok(()),
            Self::Other { user, group } => std::os::unix::fs::chown(path, Some(user), Some(group)),
        });
        created.with_context(|| format!("cannot create {}", path.display()))
    }
}

fn number(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output().context("id could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("`id {}` says no number", arguments.join(" ")))
}

/// The program of this name on the search path.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|path| is_program(path))
}

/// Whether it can be executed.
pub(super) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Where what was downloaded is kept between runs: under `target`, if the users that servers run as get there.
pub(super) fn cache() -> Result<PathBuf> {
    let own = crate::target().join("servers");
    let cache = if is_root()? && !open_to_all(&own) { PathBuf::from(SYSTEM_CACHE) } else { own };
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

/// Whether every account can enter it.
fn open_to_all(path: &Path) -> bool {
    path.ancestors().all(|folder| fs::metadata(folder).map_or(true, |about| about.mode() & 0o001 != 0))
}

/// What of a client's output is for the reader.
#[derive(Debug, Clone, Copy)]
pub(super) enum Show {
    Everything,
    /// Lines that hold this; all of them if it fails.
    Lines(&'static str),
}

/// Where servers of every account may keep what they need while they run.
pub(super) fn temporary() -> Result<PathBuf> {
    let own = env::temp_dir();
    Ok(if is_root()? && !open_to_all(&own) { PathBuf::from("/tmp") } else { own })
}

/// Runs a client that downloads.
pub(super) fn download(command: &mut Command, show: Show) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let name = command.get_program().to_string_lossy().into_owned();
    eprintln!("> {name} {}", words.join(" "));
    command.stdin(Stdio::null());
    let mut hidden = String::new();
    let status = match show {
        Show::Everything => command.stdout(std::io::stderr()).status(),
        Show::Lines(part) => command.stdout(Stdio::piped()).spawn().and_then(|mut client| {
            for line in client.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
                let line = line?;
                if line.contains(part) {
                    eprintln!("{line}");
                }
                hidden += &(line + "\n");
            }
            client.wait()
        }),
    };
    let status = status.with_context(|| format!("{name} could not be started"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})\n{hidden}");
    }
    Ok(())
}

/// Fails unless the file is the one that was meant; it is removed then, to be downloaded again.
pub(super) fn check(path: &Path, sha256: &str) -> Result<()> {
    let mut file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (mut hash, mut part) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut part).with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            break;
        }
        hash.update(part.get(..n).unwrap_or_default());
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found != sha256 {
        fs::remove_file(path).ok();
        bail!("{} has SHA-256 {found}, not the expected {sha256}; it was removed", path.display());
    }
    Ok(())
}

/// Unpacks a zip archive to `folder`, which is there only when all of it is.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let mut part = folder.as_os_str().to_owned();
    part.push(PART);
    let part = PathBuf::from(part);
    let unpacked = || -> Result<()> {
        if part.exists() {
            fs::remove_dir_all(&part)?;
        }
        zip::ZipArchive::new(fs::File::open(archive)?)?.extract(&part)?;
        fs::rename(&part, folder)?;
        Ok(())
    };
    unpacked().with_context(|| format!("cannot unpack {} to {}", archive.display(), folder.display()))
}
