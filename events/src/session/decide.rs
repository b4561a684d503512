//! What a session decides: messages are answered in order, one workflow at a time.

use uuid::Uuid;

use super::{
    Command, Effect, Event, MAX_CONTEXT_BYTES, MAX_MESSAGE_BYTES, MAX_OPEN_BYTES, MAX_OPEN_TURNS, MessageReceived,
    Opened, ReplyCompleted, ReplyFailed, SendMessage, State, Turn, workflow_of,
};
use crate::{
    Category, Decider, Due, IllegalHistory, Pending, Place, Rejection, decider::RejectionKind, event::EventSet,
};

/// The decider of sessions.
#[derive(Debug)]
pub struct Session;

impl Decider for Session {
    const CATEGORY: Category = Category::Session;
    const STATE_VERSION: u16 = 1;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Effect = Effect;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::SendMessage(message) => send(state, message),
            Command::CompleteReply { message_id, answer, tasks_completed, millis } => {
                close(state, message_id, ReplyCompleted { message_id, answer: *answer, tasks_completed, millis })
            }
            Command::FailReply { message_id, failure, millis } => {
                close(state, message_id, ReplyFailed { message_id, failure, millis })
            }
        }
    }

    fn evolve(mut state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        match (state.owner, event) {
            (None, Event::Opened(Opened { owner })) => {
                state.owner = Some(*owner);
                return Ok(state);
            }
            (Some(_), Event::MessageReceived(message)) => {
                state.received += 1;
                state.turns.push_back(Turn {
                    message_id: message.message_id,
                    content: message.content.clone(),
                    context: message.context.clone(),
                    effect: place.effect(0),
                });
                return Ok(state);
            }
            (
                Some(_),
                Event::ReplyCompleted(ReplyCompleted { message_id, .. })
                | Event::ReplyFailed(ReplyFailed { message_id, .. }),
            ) if awaited(&state, *message_id) => {
                state.turns.pop_front();
                state.last_closed = Some(*message_id);
                return Ok(state);
            }
            _ => {}
        }
        let described = match (&state.owner, state.turns.len()) {
            (None, _) => "no session".to_owned(),
            (Some(_), open) => format!("a session with {open} open messages"),
        };
        Err(IllegalHistory { category: Self::CATEGORY, event: event.name(), state: described, place })
    }

    fn pending(state: &State) -> Vec<Pending<Effect>> {
        let (Some(owner), Some(turn)) = (state.owner, state.turns.front()) else { return vec![] };
        let effect = Effect {
            workflow_id: workflow_of(turn.message_id),
            owner,
            message_id: turn.message_id,
            content: turn.content.clone(),
            context: turn.context.clone(),
        };
        vec![Pending { id: turn.effect, due: Due::Now, effect }]
    }

    fn owner(state: &State) -> Option<Uuid> {
        state.owner
    }

    fn owner_of(command: &Command) -> Option<Uuid> {
        match command {
            Command::SendMessage(message) => Some(message.owner),
            _ => None,
        }
    }
}

/// Whether this message is the one that is being answered.
fn awaited(state: &State, message_id: Uuid) -> bool {
    state.turns.front().is_some_and(|turn| turn.message_id == message_id)
}

/// Records a turn's outcome. That of a turn closed before is a repeat; that of a turn which is not yet due is refused,
/// because taking it for a repeat would lose it.
fn close(state: &State, message_id: Uuid, outcome: impl Into<Event>) -> Result<Vec<Event>, Rejection> {
    if awaited(state, message_id) {
        return Ok(vec![outcome.into()]);
    }
    if state.turns.iter().any(|turn| turn.message_id == message_id) {
        let text = "an earlier message of the session still waits for its answer";
        return Err(Rejection::new(RejectionKind::Busy, "reply_out_of_order", text));
    }
    Ok(vec![])
}

fn send(state: &State, message: SendMessage) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::with_capacity(2);
    match state.owner {
        Some(owner) if owner == message.owner => {}
        None if message.open => events.push(Opened { owner: message.owner }.into()),
        _ => {
            let text = "there is no such session; leave session_id out to begin one";
            return Err(Rejection::new(RejectionKind::NotFound, "session_not_found", text));
        }
    }
    check(state, &message)?;
    let SendMessage { message_id, content, context, .. } = message;
    events.push(MessageReceived { message_id, content, context }.into());
    Ok(events)
}

fn check(state: &State, message: &SendMessage) -> Result<(), Rejection> {
    let invalid = |reason: &str, text: String| Err(Rejection::new(RejectionKind::Invalid, reason, text));
    if message.content.trim().is_empty() {
        return invalid("empty_message", "the message is empty".to_owned());
    }
    if message.content.len() > MAX_MESSAGE_BYTES {
        return invalid(
            "message_too_large",
            format!("the message has {} bytes; at most {MAX_MESSAGE_BYTES} are taken", message.content.len()),
        );
    }
    if !message.context.is_object() {
        return invalid("bad_context", "the context is no JSON object".to_owned());
    }
    if message.context.to_string().len() > MAX_CONTEXT_BYTES {
        return invalid("context_too_large", format!("the context is over {MAX_CONTEXT_BYTES} bytes"));
    }
    let open_bytes: usize = state.turns.iter().map(|turn| turn.content.len()).sum();
    if state.turns.len() >= MAX_OPEN_TURNS || open_bytes + message.content.len() > MAX_OPEN_BYTES {
        let text =
            format!("{} messages of this session wait for their answers; send this one later", state.turns.len());
        return Err(Rejection::new(RejectionKind::Busy, "session_busy", text));
    }
    if state.turns.iter().any(|turn| turn.message_id == message.message_id)
        || state.last_closed == Some(message.message_id)
    {
        return Err(Rejection::new(RejectionKind::Conflict, "message_exists", "a message with this id was received"));
    }
    Ok(())
}
