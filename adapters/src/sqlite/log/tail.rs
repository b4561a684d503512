//! The end of the log in memory: subscribers that keep up take new records from here and never read them again.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lmao_events::Position;
use lmao_ports::{Filter, Recorded};
use tokio::sync::watch;

/// Bytes of records that are kept.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Records that are kept.
const MAX_RECORDS: usize = 8 * 1024;
/// Records handed out at once.
const BATCH: usize = 512;

/// The last records, and where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    recent: Mutex<Recent>,
    end: watch::Sender<Position>,
}

#[derive(Debug, Default)]
struct Recent {
    records: VecDeque<Recorded>,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(end: Position) -> Self {
        Self { recent: Mutex::default(), end: watch::Sender::new(end) }
    }

    /// Where the log ends.
    pub(super) fn end(&self) -> Position {
        *self.end.borrow()
    }

    /// Waits until the log ends beyond `position`.
    pub(super) async fn beyond(&self, position: Position) -> Position {
        let mut end = self.end.subscribe();
        // The sender is `self.end`, which outlives this call.
        end.wait_for(|end| *end > position).await.map_or(position, |end| *end)
    }

    /// Adds records that were just stored, in order and without a gap.
    pub(super) fn push(&self, stored: Vec<Recorded>) {
        let Some(last) = stored.last().map(|recorded| recorded.position) else { return };
        {
            let mut recent = self.recent();
            for recorded in stored {
                recent.bytes += recorded.record.bytes().len();
                recent.records.push_back(recorded);
            }
            while recent.bytes > MAX_BYTES || recent.records.len() > MAX_RECORDS {
                let Some(oldest) = recent.records.pop_front() else { break };
                recent.bytes -= oldest.record.bytes().len();
            }
        }
        self.end.send_replace(last);
    }

    /// The log ends at `end`, for reasons that were not seen here: forgets what is in memory.
    pub(super) fn jump(&self, end: Position) {
        *self.recent() = Recent::default();
        self.end.send_if_modified(|known| std::mem::replace(known, end) != end);
    }

    /// Records behind `after` that pass, and the position up to which that is all; `None` when some are no longer here.
    pub(super) fn since(&self, after: Position, filter: &Filter) -> Option<(Vec<Recorded>, Position)> {
        let recent = self.recent();
        let first = recent.records.front()?.position.0;
        let skip = usize::try_from((after.0 + 1).checked_sub(first)?).ok()?;
        let mut reached = after;
        let mut found = Vec::new();
        for recorded in recent.records.iter().skip(skip).take(BATCH) {
            reached = recorded.position;
            if filter.matches(&recorded.record.header().stream) {
                found.push(recorded.clone());
            }
        }
        Some((found, reached))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing here panics half-way through a change.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
