use uuid::Uuid;

use super::{
    AnswerSynthesized, Command, Effect, Ended, Event, MAX_ATTEMPTS, Outcome, Planned, ReplyDelivered, RunEnd, Running,
    Started, State, Task, TaskCompleted, TaskFailed, WorkflowFailed, plan::plan,
};
use crate::{
    Category, Decider, Due, EffectId, IllegalHistory, Pending, Place, Rejection, Timestamp,
    decider::{RejectionKind, backoff},
    event::EventSet,
};

/// The decider of workflows.
#[derive(Debug)]
pub struct Workflow;

impl Decider for Workflow {
    const CATEGORY: Category = Category::Workflow;
    const STATE_VERSION: u16 = 1;
    type State = State;
    type Command = Command;
    type Event = Event;
    type Effect = Effect;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match (state, command) {
            (State::New, Command::Start(started)) => {
                let tasks = plan(&started);
                Ok(vec![started.into(), Planned { tasks }.into()])
            }
            (State::Running(running), Command::Start(started)) => same(&running.started, &started),
            (State::Ended(ended), Command::Start(started)) => same(&ended.started, &started),
            (State::Running(running), Command::RecordRun { effect, completed, end, at }) => {
                Ok(if effect == running.effect { run_ended(running, completed, end, at) } else { vec![] })
            }
            (State::Ended(ended), Command::RecordDelivery) if ended.delivery.is_some() => {
                Ok(vec![ReplyDelivered {}.into()])
            }
            (State::Ended(_), Command::RecordRun { .. } | Command::RecordDelivery) => Ok(vec![]),
            (_, command) => Err(Rejection::new(
                RejectionKind::Conflict,
                "workflow_not_ready",
                format!("{} cannot be recorded for {}", named(&command), described(state)),
            )),
        }
    }

    fn evolve(state: State, event: &Event, place: Place) -> Result<State, IllegalHistory> {
        match (state, event) {
            (State::New, Event::Started(started)) => Ok(State::Running(Box::new(Running {
                started: started.clone(),
                since: place.time,
                tasks: vec![],
                completed: vec![],
                failures: 0,
                effect: place.effect(0),
                retry_at: None,
            }))),
            (State::Running(mut running), Event::Planned(Planned { tasks })) => {
                running.tasks.clone_from(tasks);
                running.effect = place.effect(0);
                Ok(State::Running(running))
            }
            (State::Running(mut running), Event::TaskCompleted(completed))
                if remaining(&running).any(|task| task.id == completed.task) =>
            {
                running.completed.push(completed.clone());
                running.failures = 0;
                running.retry_at = None;
                running.effect = place.effect(0);
                Ok(State::Running(running))
            }
            (State::Running(mut running), Event::TaskFailed(TaskFailed { retry_at, .. })) => {
                running.failures += 1;
                running.retry_at = Some(*retry_at);
                running.effect = place.effect(0);
                Ok(State::Running(running))
            }
            (State::Running(running), Event::AnswerSynthesized(AnswerSynthesized { answer })) => {
                Ok(ended(*running, Outcome::Answered(answer.clone()), place))
            }
            (State::Running(running), Event::WorkflowFailed(WorkflowFailed { failure, .. })) => {
                Ok(ended(*running, Outcome::Failed(failure.clone()), place))
            }
            (State::Ended(mut ended), Event::ReplyDelivered(_)) if ended.delivery.is_some() => {
                ended.delivery = None;
                Ok(State::Ended(ended))
            }
            (state, event) => {
                Err(IllegalHistory { category: Self::CATEGORY, event: event.name(), state: described(&state), place })
            }
        }
    }

    fn pending(state: &State) -> Vec<Pending<Effect>> {
        match state {
            State::New => vec![],
            State::Running(running) => vec![Pending {
                id: running.effect,
                due: running.retry_at.map_or(Due::Now, Due::At),
                effect: Effect::Run {
                    started: Box::new(running.started.clone()),
                    tasks: remaining(running).cloned().collect(),
                    completed: running.completed.clone(),
                },
            }],
            State::Ended(ended) => ended
                .delivery
                .map(|id| Pending { id, due: Due::Now, effect: Effect::Deliver(ended.clone()) })
                .into_iter()
                .collect(),
        }
    }

    fn owner(state: &State) -> Option<Uuid> {
        match state {
            State::New => None,
            State::Running(running) => Some(running.started.owner),
            State::Ended(ended) => Some(ended.started.owner),
        }
    }

    fn owner_of(command: &Command) -> Option<Uuid> {
        match command {
            Command::Start(started) => Some(started.owner),
            _ => None,
        }
    }
}

fn remaining(running: &Running) -> impl Iterator<Item = &Task> {
    running.tasks.iter().filter(|task| !running.completed.iter().any(|done| done.task == task.id))
}

fn same(known: &Started, started: &Started) -> Result<Vec<Event>, Rejection> {
    if known.message_id == started.message_id {
        return Ok(vec![]);
    }
    Err(Rejection::new(RejectionKind::Conflict, "workflow_exists", "the workflow answers another message"))
}

fn run_ended(running: &Running, completed: Vec<TaskCompleted>, end: RunEnd, at: Timestamp) -> Vec<Event> {
    let progressed = !completed.is_empty();
    let mut events: Vec<Event> = completed.into_iter().map(Event::from).collect();
    match end {
        RunEnd::Answered(answer) => events.push(AnswerSynthesized { answer: *answer }.into()),
        RunEnd::Failed { task, failure } => {
            let failures = if progressed { 1 } else { running.failures + 1 };
            if failure.retryable && failures < MAX_ATTEMPTS {
                events.push(TaskFailed { task, failure, retry_at: at.after(backoff(failures)) }.into());
            } else {
                events.push(WorkflowFailed { task, failure }.into());
            }
        }
    }
    events
}

fn ended(running: Running, outcome: Outcome, place: Place) -> State {
    State::Ended(Box::new(Ended {
        tasks_completed: u32::try_from(running.completed.len()).unwrap_or(u32::MAX),
        millis: u64::try_from(place.time.since(running.since).as_millis()).unwrap_or(u64::MAX),
        started: running.started,
        outcome,
        delivery: Some::<EffectId>(place.effect(0)),
    }))
}

fn described(state: &State) -> String {
    match state {
        State::New => "no workflow".to_owned(),
        State::Running(running) => format!("a running workflow with {} tasks", running.tasks.len()),
        State::Ended(_) => "an ended workflow".to_owned(),
    }
}

const fn named(command: &Command) -> &'static str {
    match command {
        Command::Start(_) => "a start",
        Command::RecordRun { .. } => "a run",
        Command::RecordDelivery => "a delivery",
    }
}
