//! One turn of a conversation: a message handed to its session, and the outcome that the session records. Shared by the
//! HTTP route and the socket; knows neither.

use std::time::Duration;

use futures::StreamExt;
use lmao_events::{
    AnyEvent, Category, CommandRef, Position, StreamId, Version, derive_id,
    session::{self, MAX_CONTEXT_BYTES, MAX_MESSAGE_BYTES, ReplyCompleted, ReplyFailed, SendMessage, workflow_of},
};
use poem::http::StatusCode;
use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    app::App,
    context::Context,
    error::{ApiError, erased, key_reused},
    watch::{Found, Watch},
};

/// When a failed message is tried again by its sender.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What is to be said.
#[derive(Debug)]
pub(crate) struct Say {
    pub(crate) owner: Uuid,
    pub(crate) session: Session,
    pub(crate) content: String,
    pub(crate) context: Map<String, Value>,
    pub(crate) command: Option<CommandRef>,
}

/// In which session.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Session {
    /// One that exists.
    Known(Uuid),
    /// One to be opened by this message, under this id or, without one, an id of its own.
    New(Option<Uuid>),
}

/// A message that was taken.
pub(crate) struct Said {
    pub(crate) session_id: Uuid,
    pub(crate) message_id: Uuid,
    /// Where the message stands in the log, or 0 when it was there before.
    pub(crate) position: Position,
    watch: Watch,
}

/// The outcome of a message.
pub(crate) enum Reply {
    Completed(Box<ReplyCompleted>),
    Failed(ReplyFailed),
}

/// Hands a message to its session. With an idempotency key, a message that was taken before is found again.
pub(crate) async fn say(app: &App, context: &Context, say: Say) -> Result<Said, ApiError> {
    check(&say)?;
    let (session_id, open) = match say.session {
        Session::Known(id) => (id, false),
        Session::New(Some(id)) => (id, true),
        Session::New(None) => (say.command.map_or_else(|| app.fresh_id(), |c| derive_id(c.id, "session")), true),
    };
    // The session is part of the id: one key in two sessions never names one workflow.
    let derived = |command: CommandRef| derive_id(command.id, &format!("message {session_id}"));
    let message_id = say.command.map_or_else(|| app.fresh_id(), derived);
    let stream = StreamId::new(Category::Session, session_id);
    let mut watch = Watch::open(app, stream).await;
    if say.command.is_some() {
        app.remember(say.command).await?;
        if let Some(asked_at) = earlier(app, session_id, message_id, &say).await? {
            watch.from(asked_at);
            return Ok(Said { session_id, message_id, position: Position(0), watch });
        }
    }
    let command = session::Command::SendMessage(SendMessage {
        owner: say.owner,
        message_id,
        content: say.content,
        context: Value::Object(say.context),
        open,
    });
    let meta = context.meta(Some(say.owner), say.command);
    let receipt = app.send(stream, command, meta).await?;
    if receipt.repeated {
        watch.from(receipt.head.version);
    } else {
        watch.after(receipt.head);
    }
    Ok(Said { session_id, message_id, position: receipt.head.position, watch })
}

impl Said {
    /// The outcome, or `None` when it does not come before `deadline`.
    pub(crate) async fn reply(&mut self, app: &App, deadline: Instant) -> Result<Option<Found<Reply>>, ApiError> {
        let message_id = self.message_id;
        self.watch.until(app, deadline, |events| events.iter().find_map(|event| reply_to(message_id, event))).await
    }

    /// The last position that was seen.
    pub(crate) fn seen(&self) -> Position {
        self.watch.seen.max(self.position)
    }
}

fn reply_to(message_id: Uuid, event: &AnyEvent) -> Option<Reply> {
    match event {
        AnyEvent::Session(session::Event::ReplyCompleted(reply)) if reply.message_id == message_id => {
            Some(Reply::Completed(Box::new(reply.clone())))
        }
        AnyEvent::Session(session::Event::ReplyFailed(reply)) if reply.message_id == message_id => {
            Some(Reply::Failed(reply.clone()))
        }
        _ => None,
    }
}

/// What a client is told of a message that stays without an answer.
pub(crate) fn failed(session_id: Uuid, failed: ReplyFailed) -> ApiError {
    let ReplyFailed { message_id, failure, .. } = failed;
    let error = if failure.retryable {
        ApiError::passing(failure.reason, failure.message, TRY_AGAIN)
    } else {
        ApiError::new(StatusCode::BAD_GATEWAY, failure.reason, failure.message)
    };
    error
        .with("session_id", session_id.to_string())
        .with("message_id", message_id.to_string())
        .with("plan_id", workflow_of(message_id).to_string())
}

fn check(say: &Say) -> Result<(), ApiError> {
    if say.content.trim().is_empty() {
        return Err(ApiError::unprocessable("empty_message", "the message is empty"));
    }
    if say.content.len() > MAX_MESSAGE_BYTES {
        let text = format!("the message has {} bytes; at most {MAX_MESSAGE_BYTES} are taken", say.content.len());
        return Err(ApiError::too_large("message_too_large", text).with("limit", MAX_MESSAGE_BYTES));
    }
    if serde_json::to_string(&say.context).map_or(0, |text| text.len()) > MAX_CONTEXT_BYTES {
        let text = format!("the context is over {MAX_CONTEXT_BYTES} bytes");
        return Err(ApiError::too_large("context_too_large", text).with("limit", MAX_CONTEXT_BYTES));
    }
    Ok(())
}

/// Where the session holds this message, if its workflow was started before: the log remembers what an actor forgets.
async fn earlier(app: &App, session_id: Uuid, message_id: Uuid, say: &Say) -> Result<Option<Version>, ApiError> {
    let stream = StreamId::new(Category::Workflow, workflow_of(message_id));
    let Some(first) = app.state.journal.read(stream, Version(1)).next().await else { return Ok(None) };
    let events = first?.events.map_err(|_| erased())?;
    let started = events.into_iter().find_map(|event| match event {
        AnyEvent::Workflow(lmao_events::workflow::Event::Started(started)) => Some(started),
        _ => None,
    });
    let Some(started) = started else { return Ok(None) };
    let same = started.owner == say.owner
        && started.session_id == session_id
        && started.query == say.content
        && started.context.as_object() == Some(&say.context);
    if same { Ok(Some(started.asked_at)) } else { Err(key_reused()) }
}

/// Refuses a session that does not exist or is somebody else's.
pub(crate) async fn owned(app: &App, owner: Uuid, session_id: Uuid) -> Result<(), ApiError> {
    let stream = StreamId::new(Category::Session, session_id);
    let Some(first) = app.state.journal.read(stream, Version(1)).next().await else { return Err(no_session()) };
    // The session's owner is the key of its records, also when they cannot be read any more.
    if first?.header.key == owner { Ok(()) } else { Err(no_session()) }
}

/// A session's id as a client gives it.
pub(crate) fn session_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| no_session())
}

pub(crate) fn no_session() -> ApiError {
    ApiError::not_found("session_not_found", "there is no such session; leave session_id out to begin one")
}
