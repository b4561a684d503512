//! The vault on SQLite: secrets sealed by a master key that lies in a file of its own.
//!
//! `synchronous=EXTRA`, no write-ahead log, deleted content overwritten: what is put is durable, what is destroyed is gone.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use lmao_events::{DataKey, NONCE_BYTES};
use lmao_ports::{Entropy as _, Secret, Unavailable, Vault, VaultError};
use sqlx::SqliteConnection;
use tokio::sync::Mutex;

use super::{
    error::unavailable,
    file::{File, Store},
};
use crate::clock::OsEntropy;

const STORE: Store = Store {
    name: "vault.db",
    schema: include_str!("../../../migrations/sqlite/vault.sql"),
    version: 1,
    when_damaged: "restore the data directory from a backup",
};

/// The largest secret, in bytes.
pub(crate) const MAX_SECRET: usize = 4096;
/// The name of a secret that every vault holds: it tells whether the master key fits.
pub(crate) const PROBE: &str = "probe";
const PROBE_TEXT: &[u8] = b"the master key fits";

/// The key that wraps every secret.
#[derive(Debug, Clone)]
pub struct MasterKey(DataKey);

impl MasterKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(DataKey::new(bytes))
    }

    /// Reads the key in the file at `path`, 64 hexadecimal digits; draws and stores one (0600) if there is no file. Of two
    /// processes at once, one makes it for both.
    ///
    /// # Errors
    /// [`Unavailable`]: the file cannot be read or written, or holds something else.
    pub async fn load_or_create(path: &Path) -> Result<Self, Unavailable> {
        let path = path.to_owned();
        let loaded = tokio::task::spawn_blocking(move || match load(&path) {
            Err(LoadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                create(&path).map_err(LoadError::Io).and_then(|()| load(&path)).map_err(|error| error.explain(&path))
            }
            other => other.map_err(|error| error.explain(&path)),
        });
        loaded.await.unwrap_or_else(|error| Err(Unavailable::new("master key", "reading it did not end", error)))
    }
}

impl MasterKey {
    /// Seals a secret under its name, for this store: a fresh nonce, then the sealed text.
    pub(crate) fn seal(&self, store: &'static str, name: &str, secret: &Secret) -> Result<Vec<u8>, VaultError> {
        if secret.0.len() > MAX_SECRET {
            let message = format!("{name} has {} bytes; at most {MAX_SECRET} are kept", secret.0.len());
            return Err(Unavailable::plain(store, message).into());
        }
        let nonce = OsEntropy.nonce();
        let mut sealed = nonce.to_vec();
        sealed.extend(self.0.seal(&nonce, &bound_to(name), &secret.0));
        Ok(sealed)
    }

    /// Opens what [`MasterKey::seal`] sealed under this name.
    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let altered = || VaultError::Sealed(format!("{name} was altered, or sealed with another master key"));
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(altered)?;
        self.0.open(nonce, &bound_to(name), text).map(Secret).map_err(|_| altered())
    }
}

/// Whether the master key fits the vault at `place`: a secret that every vault holds must open.
pub(crate) async fn probe(vault: &dyn Vault, place: &str) -> Result<(), VaultError> {
    vault.put_new(PROBE, &Secret(PROBE_TEXT.to_vec())).await.map(drop).map_err(|error| match error {
        VaultError::Sealed(_) => {
            let message = format!("the master key does not fit {place}; restore the key that it was made with");
            VaultError::Sealed(message)
        }
        other @ VaultError::Unavailable(_) => other,
    })
}

enum LoadError {
    Io(io::Error),
    NotAKey,
}

impl LoadError {
    fn explain(self, path: &Path) -> Unavailable {
        let path = path.display();
        match self {
            Self::Io(error) => {
                let message = format!("{path} cannot be read or made; this user needs to read it and write its folder");
                Unavailable::new("master key", message, error)
            }
            Self::NotAKey => {
                let message = format!("{path} does not hold 64 hexadecimal digits; restore it from a backup");
                Unavailable::plain("master key", message)
            }
        }
    }
}

fn load(path: &Path) -> Result<MasterKey, LoadError> {
    let text = fs::read_to_string(path).map_err(LoadError::Io)?;
    // The same 64 digits as a SHA-256, read by the same rules.
    let key: lmao_events::ContentHash = text.trim().parse().map_err(|_| LoadError::NotAKey)?;
    warn_if_open(path);
    Ok(MasterKey::new(key.0))
}

fn create(path: &Path) -> io::Result<()> {
    let mut key = [0; 32];
    OsEntropy.fill(&mut key);
    let mut suffix = [0; 8];
    OsEntropy.fill(&mut suffix);
    let new = PathBuf::from(format!("{}.{:016x}", path.display(), u64::from_be_bytes(suffix)));
    let written = write_private(&new, &format!("{}\n", lmao_events::ContentHash(key)))
        // A link, other than a rename, fails where there is a file: the first process wins.
        .and_then(|()| match fs::hard_link(&new, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
    let _ = fs::remove_file(&new);
    written?;
    fs::File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn warn_if_open(path: &Path) {
    #[cfg(unix)]
    if let Ok(found) = fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077 != 0
    {
        tracing::warn!(path = %path.display(), "others can read the master key; run chmod 600 on it");
    }
}

/// The vault in one file.
#[derive(Debug)]
pub struct SqliteVault {
    key: MasterKey,
    connection: Mutex<SqliteConnection>,
}

impl SqliteVault {
    /// Opens the vault at `path`; makes it if there is none.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] when it was made with another master key; [`VaultError::Unavailable`] when it cannot be
    /// opened, is damaged, or was written by a newer build.
    pub async fn open(path: &Path, key: &MasterKey) -> Result<Self, VaultError> {
        let file = File::forgetful(&STORE, path);
        let mut connection = file.connect().await?;
        file.prepare(&mut connection).await?;
        let vault = Self { key: key.clone(), connection: Mutex::new(connection) };
        probe(&vault, &path.display().to_string()).await?;
        Ok(vault)
    }
}

/// What a secret is bound to: moved under another name, it does not open.
fn bound_to(name: &str) -> Vec<u8> {
    [b"lmao-vault-1\0", name.as_bytes()].concat()
}

async fn stored(connection: &mut SqliteConnection, name: &str) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar("SELECT sealed FROM secrets WHERE name = ?").bind(name).fetch_optional(connection).await
}

fn failed(error: sqlx::Error) -> VaultError {
    unavailable(&STORE, error).into()
}

#[async_trait]
impl Vault for SqliteVault {
    async fn get(&self, key: &str) -> Result<Option<Secret>, VaultError> {
        let sealed = stored(&mut *self.connection.lock().await, key).await.map_err(failed)?;
        sealed.map(|sealed| self.key.open(key, &sealed)).transpose()
    }

    async fn put(&self, key: &str, secret: &Secret) -> Result<(), VaultError> {
        let sealed = self.key.seal(STORE.name, key, secret)?;
        sqlx::query(
            "INSERT INTO secrets (name, sealed) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed",
        )
        .bind(key)
        .bind(sealed)
        .execute(&mut *self.connection.lock().await)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn put_new(&self, key: &str, secret: &Secret) -> Result<Secret, VaultError> {
        let sealed = self.key.seal(STORE.name, key, secret)?;
        let mut connection = self.connection.lock().await;
        sqlx::query("INSERT INTO secrets (name, sealed) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
            .bind(key)
            .bind(sealed)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        let stands = stored(&mut connection, key).await.map_err(failed)?;
        let vanished = || VaultError::Sealed(format!("{key} was destroyed by another process as it was stored"));
        self.key.open(key, &stands.ok_or_else(vanished)?)
    }

    async fn destroy(&self, key: &str) -> Result<(), VaultError> {
        sqlx::query("DELETE FROM secrets WHERE name = ?")
            .bind(key)
            .execute(&mut *self.connection.lock().await)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>, VaultError> {
        let names = sqlx::query_scalar("SELECT name FROM secrets WHERE name != ? ORDER BY name").bind(PROBE);
        names.fetch_all(&mut *self.connection.lock().await).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lmao_ports::conformance::vault as suite;

    use super::*;

    const KEY: MasterKey = MasterKey::new([5; 32]);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn keeps_what_every_vault_promises() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        suite::all(async || Arc::new(SqliteVault::open(&path, &KEY).await.unwrap()) as Arc<dyn Vault>).await;
    }

    #[tokio::test]
    async fn another_master_key_does_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.db");
        let vault = SqliteVault::open(&path, &KEY).await.unwrap();
        vault.put("a", &Secret(b"kept".to_vec())).await.unwrap();
        drop(vault);
        let error = SqliteVault::open(&path, &MasterKey::new([6; 32])).await.unwrap_err();
        assert!(matches!(&error, VaultError::Sealed(text) if text.contains("master key")), "{error}");
        let vault = SqliteVault::open(&path, &KEY).await.unwrap();
        assert_eq!(vault.get("a").await.unwrap(), Some(Secret(b"kept".to_vec())));
    }

    #[tokio::test]
    async fn secrets_are_bound_to_their_names_and_limited() {
        let folder = tempfile::tempdir().unwrap();
        let vault = SqliteVault::open(&folder.path().join("vault.db"), &KEY).await.unwrap();
        vault.put("password/ada", &Secret(b"one".to_vec())).await.unwrap();
        sqlx::query("UPDATE secrets SET name = 'password/admin' WHERE name = 'password/ada'")
            .execute(&mut *vault.connection.lock().await)
            .await
            .unwrap();
        assert!(matches!(vault.get("password/admin").await, Err(VaultError::Sealed(_))));
        assert!(vault.put("large", &Secret(vec![0; MAX_SECRET + 1])).await.is_err());
    }

    #[tokio::test]
    async fn what_is_destroyed_leaves_no_trace_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let vault = SqliteVault::open(&folder.path().join("vault.db"), &KEY).await.unwrap();
        let secret = b"a secret that nobody is to find".to_vec();
        vault.put("a", &Secret(secret.clone())).await.unwrap();
        let sealed = stored(&mut *vault.connection.lock().await, "a").await.unwrap().unwrap();
        let found = |needle: &[u8]| {
            let files = fs::read_dir(folder.path()).unwrap();
            files.into_iter().any(|file| {
                let bytes = fs::read(file.unwrap().path()).unwrap();
                bytes.windows(needle.len()).any(|window| window == needle)
            })
        };
        assert!(found(&sealed) && !found(&secret));
        vault.destroy("a").await.unwrap();
        assert!(!found(&sealed));
    }

    #[tokio::test]
    async fn the_master_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let (a, b) = tokio::join!(MasterKey::load_or_create(&path), MasterKey::load_or_create(&path));
        let (a, b, again) = (a.unwrap(), b.unwrap(), MasterKey::load_or_create(&path).await.unwrap());
        assert!(a.0 == b.0 && a.0 == again.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&path, "half a ke").unwrap();
        let error = MasterKey::load_or_create(&path).await.unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits") && error.contains("backup"), "{error}");
    }
}
