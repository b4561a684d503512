//! Positions as clients see them: `LOG:POSITION`, opaque to them, and the promise to show at least that state.

use std::time::Duration;

use lmao_events::Position;
use lmao_ports::Projection;
use uuid::Uuid;

use crate::{app::App, error::ApiError};

/// The header that carries a position, in replies of writes and in reads that want to see them.
pub(crate) const HEADER: &str = "lmao-position";
/// How long a write waits until reads show it.
const AFTER_WRITE: Duration = Duration::from_millis(500);
/// How long a read waits for the state that it asks for.
const BEFORE_READ: Duration = Duration::from_secs(2);

/// What a read looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The tables.
    Tables,
    /// The tables and the search index.
    Search,
}

/// A position of this log as text.
pub(crate) fn show(log: Uuid, position: Position) -> String {
    format!("{}:{position}", log.simple())
}

/// The inverse of [`show`], for positions of this log.
pub(crate) fn parse(log: Uuid, text: &str) -> Result<Position, ApiError> {
    let bad = || ApiError::bad_request("bad_position", "LMAO-Position is sent back exactly as it was received");
    let (of, position) = text.trim().split_once(':').ok_or_else(bad)?;
    let of: Uuid = of.parse().map_err(|_| bad())?;
    let position = position.parse().map(Position).map_err(|_| bad())?;
    if of != log {
        let text = "this LMAO-Position belongs to another log; leave it out and begin again";
        return Err(ApiError::bad_request("position_of_another_log", text));
    }
    Ok(position)
}

impl App {
    /// Waits a little until reads show what was written at `position`, and gives its text for the reply.
    pub(crate) async fn written(&self, position: Position) -> String {
        self.state.read_model.wait_for(position, AFTER_WRITE).await;
        self.position(position)
    }

    pub(crate) fn position(&self, position: Position) -> String {
        show(self.log, position)
    }

    /// Waits until a read sees at least the state that the client names.
    pub(crate) async fn catch_up(&self, wanted: Option<&str>, reads: Reads) -> Result<(), ApiError> {
        let Some(wanted) = wanted else { return Ok(()) };
        let position = parse(self.log, wanted)?;
        let tables: &dyn Projection = &*self.state.read_model;
        let search = (reads == Reads::Search).then_some(&*self.state.search);
        let waits = [Some(tables), search].into_iter().flatten().map(|one| one.wait_for(position, BEFORE_READ));
        if futures::future::join_all(waits).await.into_iter().all(|caught_up| caught_up) {
            return Ok(());
        }
        let text = "reads have not caught up with this LMAO-Position yet; try again in a moment";
        Err(ApiError::passing("not_caught_up", text, Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_text_and_belongs_to_one_log() {
        let (log, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let text = show(log, Position(42));
        assert_eq!(parse(log, &text).unwrap(), Position(42));
        assert_eq!(parse(other, &text).unwrap_err().reason, "position_of_another_log");
        for bad in ["", "42", ":", "x:1", &format!("{log}:-1"), &format!("{log}:")] {
            assert_eq!(parse(log, bad).unwrap_err().reason, "bad_position", "{bad:?}");
        }
    }
}
