//! What a workflow decides: its plan at the start, its tasks as one chain of runs, and an answer that is owed until its session has it.

use serde::Serialize;
use uuid::Uuid;

use super::{
    AnswerSynthesized, Command, Effect, Ended, Event, MAX_ANSWER_BYTES, MAX_ATTEMPTS, MAX_RESULTS_BYTES, Outcome,
    Planned, ReplyDelivered, RunEnd, Running, Started, State, Task, TaskCompleted, TaskFailed, TaskId, WorkflowFailed,
    plan::plan,
};
use crate::{
    Category, Decider, Due, EffectId, Failure, IllegalHistory, Pending, Place, Rejection, Timestamp,
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
                if effect != running.effect {
                    return Ok(vec![]);
                }
                run_ended(running, completed, end, at)
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
            (State::Running(mut running), Event::Planned(Planned { tasks })) if running.tasks.is_empty() => {
                running.tasks.clone_from(tasks);
                running.effect = place.effect(0);
                Ok(State::Running(running))
            }
            (State::Running(mut running), Event::TaskCompleted(completed)) if ready(&running, completed.task) => {
                running.completed.push(completed.clone());
                running.failures = 0;
                running.retry_at = None;
                running.effect = place.effect(0);
                Ok(State::Running(running))
            }
            (State::Running(mut running), Event::TaskFailed(TaskFailed { task, retry_at, .. }))
                if ready(&running, *task) =>
            {
                running.failures += 1;
                running.retry_at = Some(*retry_at);
                running.effect = place.effect(0);
                Ok(State::Running(running))
            }
            (State::Running(running), Event::AnswerSynthesized(AnswerSynthesized { answer }))
                if !running.tasks.is_empty() =>
            {
                Ok(ended(*running, Outcome::Answered(answer.clone()), place))
            }
            (State::Running(running), Event::WorkflowFailed(WorkflowFailed { failure, .. }))
                if !running.tasks.is_empty() =>
            {
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

    fn begins(command: &Command) -> bool {
        matches!(command, Command::Start(_))
    }
}

fn remaining(running: &Running) -> impl Iterator<Item = &Task> {
    running.tasks.iter().filter(|task| !running.completed.iter().any(|done| done.task == task.id))
}

/// Whether this task remains and what it depends on is done.
fn ready(running: &Running, id: TaskId) -> bool {
    let done = |id: &TaskId| running.completed.iter().any(|done| done.task == *id);
    remaining(running).any(|task| task.id == id && task.depends_on.iter().all(done))
}

fn same(known: &Started, started: &Started) -> Result<Vec<Event>, Rejection> {
    if known.message_id == started.message_id {
        return Ok(vec![]);
    }
    Err(Rejection::new(RejectionKind::Conflict, "workflow_exists", "the workflow answers another message"))
}

fn run_ended(
    running: &Running,
    completed: Vec<TaskCompleted>,
    end: RunEnd,
    at: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let mut done = running.clone();
    for task in &completed {
        if !ready(&done, task.task) {
            return Err(wrong(task.task));
        }
        done.completed.push(task.clone());
    }
    if json_bytes(&completed) > MAX_RESULTS_BYTES {
        let text = format!("the results of a run are over {MAX_RESULTS_BYTES} bytes");
        return Err(Rejection::new(RejectionKind::Invalid, "results_too_large", text));
    }
    let failures = if completed.is_empty() { running.failures + 1 } else { 1 };
    let mut events: Vec<Event> = completed.into_iter().map(Event::from).collect();
    match end {
        RunEnd::Answered(answer) if json_bytes(&answer) > MAX_ANSWER_BYTES => {
            let text = format!("the answer is over {MAX_ANSWER_BYTES} bytes; ask for less at a time");
            let failure = Failure::lasting("answer_too_large", text);
            let task = running.tasks.last().map_or(TaskId(0), |task| task.id);
            events.push(WorkflowFailed { task, failure }.into());
        }
        RunEnd::Answered(answer) => events.push(AnswerSynthesized { answer: *answer }.into()),
        RunEnd::Failed { task, failure } => events.push(match failed_at(&done, task) {
            Some(task) if failure.retryable && failures < MAX_ATTEMPTS => {
                TaskFailed { task, failure, retry_at: at.after(backoff(failures)) }.into()
            }
            stopped => WorkflowFailed { task: stopped.unwrap_or(task), failure }.into(),
        }),
    }
    Ok(events)
}

/// The task that a failed run stopped at. One that is done, and whose findings were looked for again in vain, stands for
/// the next; `None` when no task remains.
fn failed_at(running: &Running, task: TaskId) -> Option<TaskId> {
    if ready(running, task) {
        return Some(task);
    }
    remaining(running).map(|task| task.id).find(|task| ready(running, *task))
}

fn wrong(task: TaskId) -> Rejection {
    let text = format!("the outcome of task {} does not fit the plan", task.0);
    Rejection::new(RejectionKind::Conflict, "wrong_task", text)
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
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
