//! The Prometheus that looks at the dashboard while the chaos test runs: the one on the search path, or that of Debian's
//! package, unpacked with the other servers under the target directory and not installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// The variable that names the program to tests.
pub(crate) const VARIABLE: &str = "LMAO_TEST_PROMETHEUS";
/// The name of the program and of its package.
const NAME: &str = "prometheus";

/// Sets the variable for a command, unless it is set. Its value is empty, and it is said so, where Prometheus cannot be had.
pub(crate) fn name_to(command: &mut Command) {
    if env::var_os(VARIABLE).is_none() {
        let obtained = obtain().unwrap_or_else(|error| {
            eprintln!(
                "Prometheus cannot be obtained, nobody looks at the dashboard while the chaos test runs: {error:#}"
            );
            None
        });
        command.env(VARIABLE, obtained.unwrap_or_default());
    }
}

fn obtain() -> Result<Option<PathBuf>> {
    let folder = crate::target().join("servers").join(NAME);
    let unpacked = folder.join("usr/bin").join(NAME);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut installed = env::split_paths(&path).map(|folder| folder.join(NAME));
    if let Some(program) = installed.find(|program| program.is_file()) {
        return Ok(Some(program));
    }
    if unpacked.is_file() {
        return Ok(Some(unpacked));
    }
    if Command::new("apt-get").arg("--version").output().is_err() {
        eprintln!("Prometheus is not installed: nobody looks at the dashboard while the chaos test runs");
        return Ok(None);
    }
    let work = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;
    let outcome = unpack(&work).and_then(|()| {
        // Another command may have been quicker.
        fs::rename(&work, &folder).or_else(|error| if unpacked.is_file() { Ok(()) } else { Err(error.into()) })
    });
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("{} cannot be removed", work.display()))?;
    }
    outcome.map(|()| Some(unpacked))
}

/// The package, without what it depends on: the program needs the C library only.
fn unpack(work: &Path) -> Result<()> {
    eprintln!("> apt-get download {NAME} (once)");
    let download = || run(Command::new("apt-get").args(["download", NAME]).current_dir(work));
    // A fresh image has no lists of packages; only root can obtain them.
    download().or_else(|_| run(Command::new("apt-get").arg("update")).and_then(|()| download()))?;
    let package = fs::read_dir(work)?.filter_map(Result::ok).map(|entry| entry.path());
    let package = package.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.context("apt-get downloaded no package")?;
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(work))?;
    fs::remove_file(package).context("the package cannot be removed")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?} could not be started"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
