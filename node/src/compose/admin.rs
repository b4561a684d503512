//! The first administrator. The password is in its file, whole, before the account is opened: a process that dies in between
//! goes on with the same password at its next start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use lmao_events::Position;
use lmao_gateway::{FirstAdmin, State, ensure_admin};
use lmao_ports::{Secret, Vault, VaultError};
use rand::seq::IndexedRandom as _;

use crate::exit::{Code, Stop};

/// The account that the first start opens.
pub(crate) const ADMIN: &str = "admin";
/// Characters of a password that is made here: 24 of 58 are 140 bits.
const PASSWORD_CHARS: usize = 24;
/// Without those that look alike.
const ALPHABET: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What is to be told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstStart {
    /// The administrator's name.
    pub username: &'static str,
    /// Its password, if it was made here: one that was given is known already, and output ends up in files.
    pub password: Option<String>,
}

/// The vault's name of the password that the first of several gateways made: all of them try to open the account.
const SHARED_PASSWORD: &str = "system/first-password";

/// Who else may be opening the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nobody: there is one process.
    None,
    /// Gateways that share the vault.
    Gateways,
}

/// Opens the account on the first start with `given` or a password made here; `None` when it is open already. `file` is
/// where the password is kept.
///
/// # Errors
/// When the file cannot be written, or the account not be opened.
pub(crate) async fn first_start(
    state: &State,
    file: &Path,
    given: Option<&str>,
    others: Others,
) -> anyhow::Result<Option<FirstStart>> {
    let password = match fs::read_to_string(file) {
        Ok(password) => password.trim_end().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A gateway that was told the password may have to go on where another died.
            if let (Some(given), Others::Gateways) = (given, others) {
                return opened(ensure_admin(state, ADMIN, Some(given.to_owned())).await, Some(given));
            }
            // Somebody who has taken the password away does not want it back.
            if state.journal.tail().await? > Position(0) {
                return Ok(None);
            }
            let password = match (given, others) {
                (Some(given), _) => given.to_owned(),
                (None, Others::None) => random_password(),
                (None, Others::Gateways) => shared_password(state.vault.as_ref()).await?,
            };
            keep(file, &password).map_err(|error| {
                Stop::new(Code::Failed, format!("the first password cannot be kept in {}", file.display()))
                    .because(error)
            })?;
            password
        }
        Err(error) => {
            let text = format!("the administrator's password in {} cannot be read", file.display());
            return Err(Stop::new(Code::Failed, text).because(error).into());
        }
    };
    let ensured = ensure_admin(state, ADMIN, Some(password)).await;
    if ensured.as_ref().is_err_and(|error| error.reason == "bad_password") {
        // Else the next start would meet it again.
        fs::remove_file(file).ok();
    }
    opened(ensured, given)
}

fn opened(ensured: Result<FirstAdmin, lmao_gateway::Error>, given: Option<&str>) -> anyhow::Result<Option<FirstStart>> {
    match ensured {
        Ok(FirstAdmin::Opened { password, .. }) => {
            let password = Some(password).filter(|password| given != Some(password));
            Ok(Some(FirstStart { username: ADMIN, password }))
        }
        Ok(FirstAdmin::Existed { .. }) => Ok(None),
        Err(error) => {
            Err(Stop::new(Code::Failed, "the administrator's account cannot be opened").because(error).into())
        }
    }
}

/// One random password for all gateways, whichever of them opens the account.
async fn shared_password(vault: &dyn Vault) -> Result<String, VaultError> {
    let Secret(standing) = vault.put_new(SHARED_PASSWORD, &Secret(random_password().into_bytes())).await?;
    String::from_utf8(standing).map_err(|_| VaultError::Sealed(format!("{SHARED_PASSWORD} is no text")))
}

/// A random password.
pub(crate) fn random_password() -> String {
    let mut random = rand::rng();
    (0..PASSWORD_CHARS).filter_map(|_| ALPHABET.choose(&mut random)).map(|byte| char::from(*byte)).collect()
}

/// Writes the file, readable by its owner alone; it is there whole, or not at all.
fn keep(path: &Path, password: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    writeln!(file, "{password}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin-password");
        let password = random_password();
        assert_eq!(password.len(), PASSWORD_CHARS);
        assert_ne!(password, random_password());
        keep(&path, &password).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{password}\n"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
