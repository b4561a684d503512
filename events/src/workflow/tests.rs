use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{
    AnswerSynthesized, Command, Effect, Event, MAX_ANSWER_BYTES, Outcome, ReplyDelivered, RunEnd, Started, State,
    TaskCompleted, TaskFailed, TaskId, TaskResult, Workflow, WorkflowFailed,
};
use crate::{
    Answer, Due, EffectId, Failure, Timestamp,
    testing::{
        World, effect, given, id, illegal,
        samples::{answer, lasting, passing, planned, retrieved, started, synthesized},
        time,
    },
};

fn begun() -> Vec<Vec<Event>> {
    vec![vec![started().into(), planned().into()]]
}

fn answered() -> Vec<Event> {
    vec![retrieved().into(), synthesized().into(), AnswerSynthesized { answer: answer() }.into()]
}

fn run(effect: EffectId, completed: Vec<TaskCompleted>, end: RunEnd) -> Command {
    Command::RecordRun { effect, completed, end, at: time(100) }
}

fn whole_run(effect: EffectId) -> Command {
    run(effect, vec![retrieved(), synthesized()], RunEnd::Answered(Box::new(answer())))
}

fn failure(effect: EffectId, completed: Vec<TaskCompleted>, task: u16, failure: Failure) -> Command {
    run(effect, completed, RunEnd::Failed { task: TaskId(task), failure })
}

fn task_failed(task: u16, seconds: u64) -> Event {
    let retry_at = time(100).after(Duration::from_secs(seconds));
    TaskFailed { task: TaskId(task), failure: passing(), retry_at }.into()
}

#[test]
fn a_start_is_planned_at_once() {
    let world =
        given::<Workflow>(vec![]).when(Command::Start(started())).then(vec![started().into(), planned().into()]);
    let owed = world.pending().remove(0);
    let run = Effect::Run { started: Box::new(started()), tasks: planned().tasks, completed: vec![] };
    assert_eq!((owed.id, owed.due, owed.effect), (effect(1, 1), Due::Now, run));
}

#[test]
fn a_start_said_twice_is_one_start() {
    let ended = [begun(), vec![answered()]].concat();
    given::<Workflow>(begun()).when(Command::Start(started())).then_nothing();
    given::<Workflow>(ended.clone()).when(Command::Start(started())).then_nothing();
    let other = Started { message_id: id(12), ..started() };
    given::<Workflow>(begun()).when(Command::Start(other.clone())).then_refused("workflow_exists");
    given::<Workflow>(ended).when(Command::Start(other)).then_refused("workflow_exists");
}

#[test]
fn a_run_is_one_commit_and_owes_its_delivery() {
    let world = given::<Workflow>(begun()).when(whole_run(effect(1, 1))).then(answered());
    let owed = world.pending().remove(0);
    let Effect::Deliver(ended) = owed.effect else { panic!("{:?}", owed.effect) };
    assert_eq!(ended.outcome, Outcome::Answered(answer()));
    assert_eq!((ended.tasks_completed, ended.millis), (2, 1000));
    let world = world.when(Command::RecordDelivery).then(vec![ReplyDelivered {}.into()]);
    assert_eq!(world.pending(), vec![]);
    world.when(Command::RecordDelivery).then_nothing().when(whole_run(effect(1, 1))).then_nothing();
}

#[test]
fn a_passing_failure_is_tried_again_later_from_where_it_stood() {
    let world = given::<Workflow>(begun())
        .when(failure(effect(1, 1), vec![retrieved()], 2, passing()))
        .then(vec![retrieved().into(), task_failed(2, 1)]);
    let owed = world.pending().remove(0);
    let Effect::Run { tasks, completed, .. } = owed.effect else { panic!("{:?}", owed.effect) };
    assert_eq!(owed.due, Due::At(time(101)));
    assert_eq!((tasks, completed), (planned().tasks.split_off(1), vec![retrieved()]));
    world
        .when(failure(effect(2, 1), vec![], 2, passing()))
        .then(vec![task_failed(2, 2)])
        .when(failure(effect(3, 0), vec![], 2, passing()))
        .then(vec![WorkflowFailed { task: TaskId(2), failure: passing() }.into()]);
}

#[test]
fn progress_starts_the_count_of_failures_anew() {
    given::<Workflow>(begun())
        .when(failure(effect(1, 1), vec![], 1, passing()))
        .then(vec![task_failed(1, 1)])
        .when(failure(effect(2, 0), vec![], 1, passing()))
        .then(vec![task_failed(1, 2)])
        .when(failure(effect(3, 0), vec![retrieved()], 2, passing()))
        .then(vec![retrieved().into(), task_failed(2, 1)]);
}

#[test]
fn a_lasting_failure_ends_it_and_is_delivered_too() {
    let world = given::<Workflow>(begun())
        .when(failure(effect(1, 1), vec![], 1, lasting()))
        .then(vec![WorkflowFailed { task: TaskId(1), failure: lasting() }.into()]);
    let Effect::Deliver(ended) = world.pending().remove(0).effect else { panic!("nothing to deliver") };
    assert_eq!(ended.outcome, Outcome::Failed(lasting()));
}

#[test]
fn an_outcome_of_another_debt_is_ignored() {
    given::<Workflow>(begun()).when(whole_run(effect(7, 0))).then_nothing();
}

#[test]
fn outcomes_that_do_not_fit_the_plan_are_refused() {
    let refused = |completed, end| {
        given::<Workflow>(begun()).when(run(effect(1, 1), completed, end)).then_refused("wrong_task");
    };
    let answered = || RunEnd::Answered(Box::new(answer()));
    refused(vec![synthesized()], answered());
    refused(vec![retrieved(), retrieved()], answered());
    refused(vec![TaskCompleted { task: TaskId(9), ..retrieved() }], answered());
}

#[test]
fn a_run_that_stops_at_a_finished_task_stopped_before_the_next() {
    given::<Workflow>(begun())
        .when(failure(effect(1, 1), vec![retrieved()], 1, passing()))
        .then(vec![retrieved().into(), task_failed(2, 1)]);
    given::<Workflow>(begun()).when(failure(effect(1, 1), vec![], 2, passing())).then(vec![task_failed(1, 1)]);
}

#[test]
fn a_plan_without_an_end_fails_instead_of_waiting_for_nothing() {
    given::<Workflow>(begun()).when(failure(effect(1, 1), vec![retrieved(), synthesized()], 2, passing())).then(vec![
        retrieved().into(),
        synthesized().into(),
        WorkflowFailed { task: TaskId(2), failure: passing() }.into(),
    ]);
}

#[test]
fn nothing_can_be_recorded_before_its_time() {
    given::<Workflow>(vec![]).when(whole_run(effect(1, 1))).then_refused("workflow_not_ready");
    given::<Workflow>(vec![]).when(Command::RecordDelivery).then_refused("workflow_not_ready");
    given::<Workflow>(begun()).when(Command::RecordDelivery).then_refused("workflow_not_ready");
}

#[test]
fn what_no_record_can_hold_is_a_failure_with_its_reason() {
    let large = Answer { text: "x".repeat(MAX_ANSWER_BYTES), ..answer() };
    let end = RunEnd::Answered(Box::new(large));
    let world = given::<Workflow>(begun());
    let mut outcome = world.when(run(effect(1, 1), vec![retrieved(), synthesized()], end)).world;
    let Some(Event::WorkflowFailed(failed)) = outcome.history.pop().and_then(|mut events| events.pop()) else {
        panic!("it must fail")
    };
    assert_eq!(failed.failure.reason, "answer_too_large");

    let notices = vec!["x".repeat(1000); 1000];
    let result = TaskResult::Retrieved { passages: vec![], notices };
    let flood = TaskCompleted { task: TaskId(1), result, millis: 1 };
    given::<Workflow>(begun())
        .when(run(effect(1, 1), vec![flood], RunEnd::Answered(Box::new(answer()))))
        .then_refused("results_too_large");
}

#[test]
fn the_largest_message_can_be_started() {
    let numbers = vec![json!(0.5); crate::session::MAX_CONTEXT_BYTES / 4 - 2];
    let query = "x".repeat(crate::session::MAX_MESSAGE_BYTES);
    let largest = Started { query, context: json!({"n": numbers}), ..started() };
    given::<Workflow>(vec![]).world_after(Command::Start(largest));
}

impl World<Workflow> {
    fn world_after(mut self, command: Command) {
        assert!(!self.send(command).expect("it is within its limits").is_empty());
    }
}

#[test]
fn histories_that_are_no_workflows_are_refused() {
    illegal::<Workflow>(
        vec![],
        planned(),
        "Planned cannot follow no workflow in a workflow history (version 1, event 0)",
    );
    let running = |event: &str| {
        format!("{event} cannot follow a running workflow with 2 tasks in a workflow history (version 2, event 0)")
    };
    illegal::<Workflow>(begun(), started(), &running("Started"));
    illegal::<Workflow>(begun(), planned(), &running("Planned"));
    illegal::<Workflow>(begun(), synthesized(), &running("TaskCompleted"));
    illegal::<Workflow>(begun(), task_failed(2, 1), &running("TaskFailed"));
    illegal::<Workflow>(begun(), ReplyDelivered {}, &running("ReplyDelivered"));
    illegal::<Workflow>(
        [begun(), vec![answered()], vec![vec![ReplyDelivered {}.into()]]].concat(),
        ReplyDelivered {},
        "ReplyDelivered cannot follow an ended workflow in a workflow history (version 4, event 0)",
    );
    illegal::<Workflow>(
        vec![vec![started().into()]],
        AnswerSynthesized { answer: answer() },
        "AnswerSynthesized cannot follow a running workflow with 0 tasks in a workflow history (version 2, event 0)",
    );
}

/// A step of a story: what may come, whether it makes sense or not.
#[derive(Debug, Clone)]
enum Step {
    Start(u128),
    Run { stale: bool, completed: Vec<u16>, end: End },
    Deliver,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Answered,
    Failed { task: u16, retryable: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        Just(End::Answered),
        (1..4_u16, any::<bool>()).prop_map(|(task, retryable)| End::Failed { task, retryable }),
    ];
    let completed =
        prop_oneof![Just(vec![]), Just(vec![1]), Just(vec![1, 2]), proptest::collection::vec(1..4_u16, 0..3)];
    let run = (proptest::bool::weighted(0.1), completed, end);
    let step = prop_oneof![
        1 => (11..13_u128).prop_map(Step::Start),
        5 => run.prop_map(|(stale, completed, end)| Step::Run { stale, completed, end }),
        1 => Just(Step::Deliver),
    ];
    proptest::collection::vec(step, 0..16)
}

fn outcome_of(effect: &Effect, event: &Event) -> bool {
    match effect {
        Effect::Run { .. } => matches!(
            event,
            Event::TaskCompleted(_) | Event::TaskFailed(_) | Event::AnswerSynthesized(_) | Event::WorkflowFailed(_)
        ),
        Effect::Deliver(_) => matches!(event, Event::ReplyDelivered(_)),
    }
}

proptest! {
    #[test]
    fn any_workflow_keeps_its_promises(steps in steps()) {
        let mut world = World::<Workflow>::new(outcome_of);
        world.send(Command::Start(started())).expect("starts");
        for step in steps {
            let debt = world.pending().first().map_or(effect(1, 0), |debt| debt.id);
            let _ = world.send(match step {
                Step::Start(n) => Command::Start(Started { message_id: id(n), ..started() }),
                Step::Deliver => Command::RecordDelivery,
                Step::Run { stale, completed, end } => Command::RecordRun {
                    effect: if stale { effect(99, 0) } else { debt },
                    completed: completed
                        .into_iter()
                        .map(|task| TaskCompleted { task: TaskId(task), ..retrieved() })
                        .collect(),
                    end: match end {
                        End::Answered => RunEnd::Answered(Box::new(answer())),
                        End::Failed { task, retryable } => {
                            RunEnd::Failed { task: TaskId(task), failure: Failure { retryable, ..passing() } }
                        }
                    },
                    at: Timestamp(5),
                },
            });
            let settled = matches!(&world.state, State::Ended(ended) if ended.delivery.is_none());
            prop_assert_eq!(world.pending().is_empty(), settled, "it goes on until the session has the outcome");
        }
        world.check();
    }
}
