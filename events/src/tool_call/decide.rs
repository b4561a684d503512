//! What a tool call decides: recorded as started before it runs, and never run twice.

use uuid::Uuid;

use super::{
    AttemptFailed, AttemptStarted, Command, Effect, Event, Finished, MAX_ATTEMPTS, MAX_PARAMETERS_BYTES,
    MAX_RESULT_BYTES, MAX_TOOL_NAME_BYTES, Outcome, Phase, Requested, State, UNCERTAIN_AFTER,
};
use crate::{
    Category, Decider, Due, EffectId, Failure, IllegalHistory, Pending, Place, Rejection, Timestamp,
    decider::{RejectionKind, backoff},
    event::EventSet,
};

/// The decider of tool calls.
#[derive(Debug)]
pub struct ToolCall;

impl Decider for ToolCall {
    const CATEGORY: Category = Category::ToolCall;
    const STATE_VERSION: u16 = 1;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Effect = Effect;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Request(requested) => request(state, requested),
            Command::BeginAttempt { effect, attempt, deadline } => match (&state.phase, &state.requested) {
                (Phase::Waiting { effect: due, .. }, Some(requested)) if *due == effect && !requested.repeatable => {
                    Ok(vec![AttemptStarted { attempt, deadline }.into()])
                }
                _ => Ok(vec![]),
            },
            Command::RecordOutcome { effect, outcome, millis, at } => Ok(record(state, effect, outcome, millis, at)),
        }
    }

    fn evolve(mut state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        state.phase = match (&state.phase, event) {
            (Phase::Absent, Event::Requested(requested)) => {
                state.requested = Some(requested.clone());
                Phase::Waiting { effect: place.effect(0), retry_at: None }
            }
            (Phase::Waiting { .. }, Event::AttemptStarted(AttemptStarted { attempt, deadline }))
                if state.requested.as_ref().is_some_and(|requested| !requested.repeatable) =>
            {
                let (effect, expiry) = (place.effect(0), place.effect(1));
                Phase::Started { effect, expiry, attempt: *attempt, deadline: *deadline }
            }
            (Phase::Waiting { .. }, Event::AttemptFailed(AttemptFailed { retry_at, .. })) => {
                state.failures += 1;
                Phase::Waiting { effect: place.effect(0), retry_at: Some(*retry_at) }
            }
            (Phase::Waiting { .. } | Phase::Started { .. }, Event::Finished(finished)) => {
                Phase::Finished(finished.outcome.clone())
            }
            (phase, event) => {
                let state = match phase {
                    Phase::Absent => "no tool call",
                    Phase::Waiting { .. } => "a waiting tool call",
                    Phase::Started { .. } => "a started tool call",
                    Phase::Finished(_) => "a finished tool call",
                };
                return Err(IllegalHistory {
                    category: Self::CATEGORY,
                    event: event.name(),
                    state: state.to_owned(),
                    place,
                });
            }
        };
        Ok(state)
    }

    fn pending(state: &State) -> Vec<Pending<Effect>> {
        let Some(requested) = &state.requested else { return vec![] };
        match &state.phase {
            Phase::Absent | Phase::Finished(_) => vec![],
            Phase::Waiting { effect, retry_at } => {
                let due = retry_at.map_or(Due::Now, Due::At);
                let run = if requested.repeatable { Effect::Run } else { Effect::Begin };
                vec![Pending { id: *effect, due, effect: run(requested.clone()) }]
            }
            Phase::Started { effect, expiry, attempt, deadline } => {
                let run = Effect::RunAttempt { requested: requested.clone(), attempt: *attempt, deadline: *deadline };
                let give_up = Due::At(deadline.after(UNCERTAIN_AFTER));
                vec![
                    Pending { id: *effect, due: Due::Now, effect: run },
                    Pending { id: *expiry, due: give_up, effect: Effect::GiveUp },
                ]
            }
        }
    }

    fn owner(state: &State) -> Option<Uuid> {
        state.requested.as_ref().map(|requested| requested.owner)
    }

    fn owner_of(command: &Command) -> Option<Uuid> {
        match command {
            Command::Request(requested) => Some(requested.owner),
            _ => None,
        }
    }
}

fn request(state: &State, requested: Requested) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = &state.requested {
        return if *known == requested {
            Ok(vec![])
        } else {
            Err(Rejection::new(RejectionKind::Conflict, "tool_call_exists", "this call was made with other parameters"))
        };
    }
    if requested.tool.is_empty() || requested.tool.len() > MAX_TOOL_NAME_BYTES {
        let text = format!("a tool's name has 1 to {MAX_TOOL_NAME_BYTES} bytes");
        return Err(Rejection::new(RejectionKind::Invalid, "bad_tool_name", text));
    }
    let size = requested.parameters.to_string().len();
    if !requested.parameters.is_object() || size > MAX_PARAMETERS_BYTES {
        let text = format!("parameters are a JSON object of at most {MAX_PARAMETERS_BYTES} bytes");
        return Err(Rejection::new(RejectionKind::Invalid, "bad_parameters", text));
    }
    Ok(vec![requested.into()])
}

fn record(state: &State, effect: EffectId, outcome: Outcome, millis: u64, at: Timestamp) -> Vec<Event> {
    let outcome = bounded(outcome);
    match (&state.phase, outcome) {
        (Phase::Waiting { effect: due, .. }, Outcome::Error(failure))
            if *due == effect && failure.retryable && state.failures + 1 < MAX_ATTEMPTS =>
        {
            let retry_at = at.after(backoff(state.failures + 1));
            vec![AttemptFailed { failure, retry_at }.into()]
        }
        (Phase::Waiting { effect: due, .. }, outcome) if *due == effect => {
            vec![Finished { outcome, millis }.into()]
        }
        (Phase::Started { effect: run, expiry, .. }, outcome) if *run == effect || *expiry == effect => {
            vec![Finished { outcome, millis }.into()]
        }
        _ => vec![],
    }
}

/// A result that one record can hold.
fn bounded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Success(result) if result.to_string().len() > MAX_RESULT_BYTES => Outcome::Error(Failure::lasting(
            "result_too_large",
            format!("the tool's result is over {MAX_RESULT_BYTES} bytes; ask for less at a time"),
        )),
        outcome => outcome,
    }
}
