//! Blobs that no document names: found and removed.
//!
//! An upload whose command never came leaves its folder behind, and a step that was cut off may write into one that is
//! gone already. Whether a folder is needed is said by its document's stream alone: a projection may lag.
//!
//! What nobody names yet may be named soon. No clock tells how old a folder is, since clocks jump: it goes when two looks
//! in a row found it unnamed, [`PAUSE`] apart, by when its upload has long ended. Whoever dies in between begins anew. Many
//! may look at once: an attempt's folder is never used again, so that removing it twice is fine.
//!
//! A log whose end was lost does not name what it named: nothing is removed while it ends before its last witnessed record.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::StreamExt;
use lmao_events::document::Document;
use lmao_ports::{Blobs, Folder, ReadError, Unavailable, VaultError};

use crate::{
    KeyringError,
    audit::Rolling,
    runtime::Stores,
    shell::{LoadError, Loaded},
};

/// Between two looks: far more than an upload takes from its last byte to its commit.
const PAUSE: Duration = Duration::from_secs(60 * 60);

/// Why nothing was looked for.
#[derive(Debug, thiserror::Error)]
pub enum OrphansError {
    /// The log has lost its end.
    #[error("the log ends before the last record that was witnessed: restore it, or run `lmao audit verify`")]
    LogCut,
    /// The blobs cannot be listed.
    #[error(transparent)]
    Blobs(#[from] Unavailable),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The vault cannot be read.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Looks for folders that nobody needs.
#[derive(Debug)]
pub struct Orphans {
    stores: Stores,
    blobs: Arc<dyn Blobs>,
    /// Unnamed at the last look: who was about to name one of these has done so by now.
    old: HashSet<Folder>,
}

impl Orphans {
    /// In `blobs`.
    #[must_use]
    pub fn new(stores: Stores, blobs: Arc<dyn Blobs>) -> Self {
        Self { stores, blobs, old: HashSet::new() }
    }

    /// Looks again and again, without end. May be dropped at any time.
    pub async fn run(mut self) {
        loop {
            // A start has better things to do.
            tokio::time::sleep(PAUSE).await;
            match self.look().await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "folders of blobs that no document names were removed"),
                Err(error) => tracing::warn!(%error, "blobs that no document names are not looked for now"),
            }
        }
    }

    /// Looks at every folder once: removes those that were unnamed at the last look too, and says how many.
    ///
    /// # Errors
    /// [`OrphansError`]; the next look does what this one left.
    pub async fn look(&mut self) -> Result<usize, OrphansError> {
        let witnessed = Rolling::kept(self.stores.vault.as_ref(), self.stores.log.id()).await?.unwrap_or_default();
        if self.stores.log.tail().await? < witnessed.position {
            return Err(OrphansError::LogCut);
        }
        let (mut unnamed, mut removed) = (HashSet::new(), 0);
        let mut folders = self.blobs.folders();
        while let Some(folder) = folders.next().await {
            let folder = folder?;
            if self.is_needed(folder).await {
                continue;
            }
            if !self.old.contains(&folder) {
                unnamed.insert(folder);
                continue;
            }
            match self.blobs.delete(folder).await {
                Ok(()) => removed += 1,
                Err(error) => {
                    tracing::warn!(%folder, %error, "blobs that no document names cannot be removed");
                    unnamed.insert(folder);
                }
            }
        }
        drop(folders);
        self.old = unnamed;
        Ok(removed)
    }

    async fn is_needed(&self, folder: Folder) -> bool {
        match self.stores.keyring.get(folder.owner).await {
            Ok(_) => {}
            // Nobody can read any more what it was part of.
            Err(KeyringError::Erased) => return false,
            // Somebody of another log, whose blobs lie in the same place; or the vault does not answer.
            Err(_) => return true,
        }
        match Loaded::<Document>::load(&self.stores, folder.stream()).await {
            Ok(loaded) => loaded.state.keeps(folder.attempt),
            Err(LoadError::Erased) => false,
            // What cannot be read may name it.
            Err(LoadError::Newer(_) | LoadError::Damaged(_) | LoadError::Unavailable(_)) => true,
        }
    }
}
