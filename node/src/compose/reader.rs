//! A data directory that is only read, beside the process that writes it or without one.

use std::sync::Arc;

use lmao_actors::{Keyring, OpenedLog};
use lmao_adapters::{
    clock::OsEntropy,
    data_dir::{self, DataDir, Mode},
    sqlite::{Access, MasterKey, SqliteLog, SqliteVault},
};
use lmao_ports::{EventLog, Vault};

use crate::{
    config::Config,
    exit::{Code, Stop},
};

/// The data directory as it is, for what makes none.
///
/// # Errors
/// [`Code::Unreachable`] when there is none, whatever else is there.
pub(crate) fn existing(config: &Config) -> Result<DataDir, Stop> {
    DataDir::open(&config.data, Mode::ReadOnly).map_err(|error| match error {
        data_dir::Error::Missing(_) | data_dir::Error::NotOurs(..) => Stop::new(Code::Unreachable, error.to_string())
            .hint("name a data directory with --data, or a server with --server"),
        error => error.into(),
    })
}

/// What can be read.
pub(crate) struct Reader {
    /// The truth.
    pub log: Arc<dyn EventLog>,
    /// Secrets.
    pub vault: Arc<dyn Vault>,
    /// The log, opened.
    pub journal: OpenedLog,
}

impl Reader {
    /// Opens it.
    ///
    /// # Errors
    /// [`Code::Unreachable`] when there is no data directory; when a store cannot be read.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let data = existing(config)?;
        let key = data.master_key();
        if !key.is_file() {
            let text = format!("there is no master key at {}", key.display());
            return Err(Stop::new(Code::Failed, text)
                .hint("restore it from a backup: nothing can be read without it")
                .into());
        }
        let log: Arc<dyn EventLog> = Arc::new(SqliteLog::open(&config.log.or(data.log_db()), Access::ReadOnly).await?);
        let master = MasterKey::load_or_create(&key).await?;
        let vault: Arc<dyn Vault> = Arc::new(SqliteVault::open(&config.vault.or(data.vault_db()), &master).await?);
        let journal = OpenedLog::new(Arc::clone(&log), Keyring::new(Arc::clone(&vault), Arc::new(OsEntropy)));
        Ok(Self { log, vault, journal })
    }
}
