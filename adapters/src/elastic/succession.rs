//! Handing on from one index to the next: what is copied, how far the one before reaches, and taking it from whoever writes it.

use lmao_events::Position;
use lmao_ports::IndexError;
use uuid::Uuid;

use super::{
    client::{Client, Op},
    entries,
    error::Error,
    layout,
    pages::Pages,
    state::{self, Stored},
};

/// Times that an index is taken from a writer that is just writing its state.
const RETIRE_ATTEMPTS: usize = 8;

/// Copies what is read into another index.
pub(super) async fn copy(client: &Client, pages: &mut Pages<'_>, into: &str, epoch: u64) -> Result<(), Error> {
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        let ops: Vec<Op> = page.iter().map(entries::Entry::op).collect::<Result<_, _>>()?;
        client.bulk(&layout::own(into), epoch, &ops).await?;
    }
}

/// Takes an index from whoever writes it, so that they notice that there is a newer one. Who is at it meanwhile is outrun.
pub(super) async fn retire(client: &Client, index: &str, writer: Uuid) -> Result<(), Error> {
    for _ in 1..RETIRE_ATTEMPTS {
        match retire_once(client, index, writer).await {
            Err(Error::Fenced) => {}
            retired => return retired,
        }
    }
    retire_once(client, index, writer).await
}

async fn retire_once(client: &Client, index: &str, writer: Uuid) -> Result<(), Error> {
    let stored = match state::read(client, index).await {
        Err(Error::Index(IndexError::Damaged(_))) => return Ok(()),
        stored => stored?,
    };
    let Some(Stored { mut state, place }) = stored else { return Ok(()) };
    state.epoch += 1;
    state.writer = writer;
    state::write(client, index, Some(place), state).await.map(drop)
}

/// How far an index reaches; nowhere, if it does not say.
pub(super) async fn reached_by(client: &Client, index: &str) -> Result<Position, Error> {
    match state::read(client, index).await {
        Err(Error::Index(IndexError::Damaged(_))) => Ok(Position::default()),
        stored => Ok(stored?.map_or(Position::default(), |stored| stored.state.checkpoint)),
    }
}
