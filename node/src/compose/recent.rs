//! Keeps what sessions and tool calls did lately in the shared cache, off the way of every turn: it follows the log as a
//! projection does. What it loses nobody needs: it begins again near the log's end.

use std::time::Duration;

use futures::StreamExt as _;
use lmao_actors::OpenedLog;
use lmao_adapters::redis::Recent;
use lmao_events::Position;
use lmao_ports::Journal as _;

/// Commits that are caught up on; what is older is passed over.
const BEHIND: u64 = 10_000;
/// The pause while log or cache do not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// Follows the log, without end.
pub(super) async fn keep(journal: OpenedLog, recent: Recent) {
    loop {
        if let Err(error) = follow(&journal, &recent).await {
            tracing::debug!(error = format!("{error:#}"), "recent state is not kept now");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(journal: &OpenedLog, recent: &Recent) -> anyhow::Result<()> {
    let reached = recent.reached().await?.unwrap_or(Position(0));
    let tail = journal.tail().await?;
    // One that is beyond the log's end is of another log.
    let reached = if reached > tail { Position(0) } else { reached };
    let from = reached.max(Position(tail.0.saturating_sub(BEHIND)));
    let mut commits = journal.follow_only(from, Recent::wants);
    while let Some(commit) = commits.next().await {
        let commit = commit?;
        if Recent::wants(commit.header.stream.category) {
            recent.note(&commit).await?;
        }
    }
    Ok(())
}
