//! `Idempotency-Key`: the client's name for a request, so that a retry gets the first outcome.
//!
//! What a retry finds is decided by structure: ids derived from the key, and what the log says of them. Beside it the cache
//! remembers for a day which body a key came with, so that a key for another request is refused even where the two would
//! never meet in one stream.

use std::time::Duration;

use bytes::Bytes;
use lmao_events::{AnyCommand, CommandRef, Hash, StreamId, derive_id};
use lmao_ports::{CommandError, CommandMeta, Receipt};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    app::App,
    error::{ApiError, key_reused},
};

/// How long a key's body is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it is remembered that a key is free again: no time at all would do.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// Characters of a key.
const MAX_KEY: usize = 255;

/// The command of a request with this key: `route` is the method and the path's template, `body` all that it says.
pub(crate) fn command(
    user: Uuid,
    route: &str,
    key: Option<&str>,
    body: &impl Serialize,
) -> Result<Option<CommandRef>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    if !(1..=MAX_KEY).contains(&key.len()) || !key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        let text = format!("an Idempotency-Key has 1 to {MAX_KEY} printable ASCII characters");
        return Err(ApiError::bad_request("bad_idempotency_key", text));
    }
    let canonical = serde_json::to_vec(body)
        .map_err(|error| ApiError::internal(format!("the request cannot be written down: {error}")))?;
    Ok(Some(CommandRef { id: derive_id(user, &format!("{route} {key}")), body: Hash::of(&canonical) }))
}

impl App {
    /// Refuses a key that came with another body before.
    pub(crate) async fn remember(&self, command: Option<CommandRef>) -> Result<(), ApiError> {
        let Some(command) = command else { return Ok(()) };
        let name = remembered(command.id);
        let body = Bytes::copy_from_slice(&command.body.0);
        // A cache that forgets or fails weakens this check only: outcomes come from the log.
        let cache = &self.state.cache;
        if !matches!(cache.put_new(&name, body.clone(), REMEMBERED).await, Ok(false)) {
            return Ok(());
        }
        match cache.get(&name).await {
            Ok(Some(known)) if known.is_empty() => {
                cache.put(&name, body, REMEMBERED).await.ok();
                Ok(())
            }
            Ok(Some(known)) if known != body => Err(key_reused()),
            _ => Ok(()),
        }
    }

    /// Sends a command. A refusal is forgotten: the key may come again with what was wrong put right.
    pub(crate) async fn send(
        &self,
        stream: StreamId,
        command: impl Into<AnyCommand>,
        meta: CommandMeta,
    ) -> Result<Receipt, CommandError> {
        let key = meta.command.map(|command| command.id);
        let sent = self.state.commands.send(stream, command.into(), meta).await;
        if let (Err(CommandError::Rejected(_)), Some(key)) = (&sent, key) {
            self.state.cache.put(&remembered(key), Bytes::new(), FORGOTTEN).await.ok();
        }
        sent
    }
}

fn remembered(command: Uuid) -> String {
    format!("idempotency/{}", command.simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_user_a_route_and_a_key() {
        let of = |user, route, key| command(Uuid::from_u128(user), route, Some(key), &1).unwrap().unwrap().id;
        assert_eq!(of(1, "POST /a", "k"), of(1, "POST /a", "k"));
        assert_ne!(of(1, "POST /a", "k"), of(2, "POST /a", "k"));
        assert_ne!(of(1, "POST /a", "k"), of(1, "POST /b", "k"));
        assert_ne!(of(1, "POST /a", "k"), of(1, "POST /a", "l"));
        assert!(command(Uuid::nil(), "POST /a", None, &1).unwrap().is_none());
        for bad in ["", "tab\t", &"x".repeat(256)] {
            assert!(command(Uuid::nil(), "POST /a", Some(bad), &1).is_err());
        }
    }
}
