//! Proof that nothing was lost or altered: the log's rolling digest, and what an audit finds.
//!
//! Each stream is a hash chain. A cut tail or a missing stream leaves every chain intact, so the digest of *all* records
//! in log order is kept in the vault, under the master key, from time to time: a log that does not lead to it again has
//! lost or changed something.

use std::collections::HashMap;

use futures::StreamExt;
use lmao_events::{Hash, Head, Position, StreamId, Version};
use lmao_ports::{EventLog, Filter, ReadError, Recorded, Secret, Vault, VaultError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The vault's name of the last checkpoint.
pub(crate) const CHECKPOINT: &str = "audit/checkpoint";

/// The digest of all records up to a position: `digest' = BLAKE3(digest ‖ record hash)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// The last record's position.
    pub position: Position,
    /// Records so far.
    pub records: u64,
    /// The digest.
    pub digest: Hash,
}

impl Rolling {
    /// Takes in the next record.
    pub fn take(&mut self, recorded: &Recorded) {
        self.digest = Hash::of(&[self.digest.0, recorded.hash.0].concat());
        self.position = recorded.position;
        self.records += 1;
    }

    /// Keeps it as the checkpoint that a later audit must reach.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn keep(&self, vault: &dyn Vault, log: Uuid) -> Result<(), VaultError> {
        let bytes = rmp_serde::to_vec(&(log, self)).unwrap_or_default();
        vault.put(CHECKPOINT, &Secret(bytes)).await
    }

    /// The last checkpoint of this log.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn kept(vault: &dyn Vault, log: Uuid) -> Result<Option<Self>, VaultError> {
        let Some(secret) = vault.get(CHECKPOINT).await? else { return Ok(None) };
        let (of, rolling): (Uuid, Self) = rmp_serde::from_slice(&secret.0)
            .map_err(|error| VaultError::Sealed(format!("the audit checkpoint does not parse: {error}")))?;
        Ok((of == log).then_some(rolling))
    }
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records read.
    pub records: u64,
    /// Streams seen.
    pub streams: u64,
    /// The last position.
    pub tail: Position,
    /// The position of the checkpoint that the log led to; `None` when there is none yet.
    pub checkpoint: Option<Position>,
    /// What is wrong, first to last, at most 100.
    pub problems: Vec<String>,
}

/// Reads the whole log up to its present tail: every record parses, every stream is an unbroken chain, and the digest of
/// all of them agrees with the checkpoint. `progress` is told the position reached, now and then.
///
/// # Errors
/// [`ReadError::Unavailable`] when the log cannot be read; damage is a problem in the report.
pub async fn verify(
    log: &dyn EventLog,
    checkpoint: Option<Rolling>,
    mut progress: impl FnMut(Position, Position),
) -> Result<Report, ReadError> {
    let mut report = Report { tail: log.tail().await?, ..Report::default() };
    let mut heads: HashMap<StreamId, Head> = HashMap::new();
    let mut rolling = Rolling::default();
    let mut records = log.subscribe(Position(0), Filter::All);
    while rolling.position < report.tail {
        let Some(recorded) = records.next().await else { break };
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error @ ReadError::Damaged { .. }) => {
                report.problems.push(error.to_string());
                break;
            }
            Err(error) => return Err(error),
        };
        chain(&mut heads, &recorded, &mut report.problems);
        rolling.take(&recorded);
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.position == rolling.position) {
            report.checkpoint = Some(checkpoint.position);
            if checkpoint != rolling {
                report.problems.push(format!(
                    "the records up to position {} are not those of the checkpoint: {} then, {} now",
                    rolling.position, checkpoint.records, rolling.records
                ));
            }
        }
        if rolling.records.is_multiple_of(1000) {
            progress(rolling.position, report.tail);
        }
    }
    if let Some(checkpoint) = checkpoint.filter(|_| report.checkpoint.is_none()) {
        let text = format!("the log ends at {}, before its checkpoint at {}", rolling.position, checkpoint.position);
        report.problems.push(text);
    }
    report.records = rolling.records;
    report.streams = heads.len() as u64;
    Ok(report)
}

fn chain(heads: &mut HashMap<StreamId, Head>, recorded: &Recorded, problems: &mut Vec<String>) {
    const MOST: usize = 100;
    let header = recorded.record.header();
    let head = heads.entry(header.stream).or_default();
    let wrong = if recorded.record.hash() != recorded.hash {
        Some("its bytes do not have its hash".to_owned())
    } else if header.version != head.version.next() {
        Some(format!("version {} follows version {}", header.version, head.version))
    } else if header.prev != head.hash && header.version != Version(0) {
        Some("it does not continue its stream's chain".to_owned())
    } else {
        None
    };
    if let Some(wrong) = wrong
        && problems.len() < MOST
    {
        problems.push(format!("position {}, {}: {wrong}", recorded.position, header.stream));
    }
    *head = recorded.head();
}
