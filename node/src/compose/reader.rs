//! A data directory that is only read, beside the process that writes it or without one.

use std::sync::Arc;

use lmao_actors::{Keyring, OpenedLog};
use lmao_adapters::{
    clock::OsEntropy,
    data_dir::{self, DataDir, Mode},
    sqlite::Access,
};
use lmao_ports::{Blobs, EventLog, Vault};

use super::stores::Opening;
use crate::{
    config::Config,
    exit::{Code, Stop},
};

/// The data directory as it is, for what makes none.
///
/// # Errors
/// [`Code::Unreachable`] when there is none, whatever else is there.
pub(crate) fn existing(config: &Config) -> Result<DataDir, Stop> {
    let opened = match DataDir::open(&config.data, Mode::ReadOnly) {
        // What is to be read is elsewhere.
        Err(data_dir::Error::Missing(_)) if config.is_distributed() => DataDir::open(&config.data, Mode::Exclusive),
        opened => opened,
    };
    opened.map_err(|error| match error {
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
        let mut opening = Opening::new(config, &data, Access::ReadOnly);
        let (vault, log) = (opening.vault().await?, opening.log().await?);
        let journal = OpenedLog::new(Arc::clone(&log), Keyring::new(Arc::clone(&vault), Arc::new(OsEntropy)));
        Ok(Self { log, vault, journal })
    }

    /// The files that the log names.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn blobs(&self, config: &Config) -> anyhow::Result<Arc<dyn Blobs>> {
        let data = existing(config)?;
        Opening::new(config, &data, Access::ReadOnly).blobs(self.log.id()).await
    }
}
