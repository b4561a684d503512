use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    AttemptFailed, AttemptStarted, Command, Effect, Event, Finished, MAX_PARAMETERS_BYTES, MAX_RESULT_BYTES,
    MAX_TOOL_NAME_BYTES, Outcome, Requested, ToolCall, UNCERTAIN_AFTER, uncertain,
};
use crate::{
    Due, EffectId, Place, Version,
    testing::{
        World, effect, given, id, illegal,
        samples::{lasting, passing, requested},
        time,
    },
};

fn called(repeatable: bool) -> Vec<Vec<Event>> {
    vec![vec![requested(repeatable).into()]]
}

fn begun() -> Vec<Vec<Event>> {
    [called(false), vec![vec![attempt()]]].concat()
}

fn attempt() -> Event {
    AttemptStarted { attempt: id(40), deadline: time(30) }.into()
}

fn begin(effect: EffectId) -> Command {
    Command::BeginAttempt { effect, attempt: id(40), deadline: time(30) }
}

fn outcome(effect: EffectId, outcome: Outcome) -> Command {
    Command::RecordOutcome { effect, outcome, millis: 4, at: time(100) }
}

fn finished(outcome: Outcome) -> Event {
    Finished { outcome, millis: 4 }.into()
}

fn three() -> Outcome {
    Outcome::Success(json!(3))
}

/// The debt to give up the attempt that commit 2 began.
fn expiry() -> EffectId {
    Place { version: Version(2), index: 0, time: time(2) }.effect(1)
}

#[test]
fn a_repeatable_tool_is_run_and_its_result_recorded() {
    let world = given::<ToolCall>(vec![]).when(Command::Request(requested(true))).then(vec![requested(true).into()]);
    let owed = world.pending().remove(0);
    assert_eq!((owed.id, owed.due, owed.effect), (effect(1, 0), Due::Now, Effect::Run(requested(true))));
    let world = world.when(outcome(effect(1, 0), three())).then(vec![finished(three())]);
    assert_eq!(world.pending(), vec![]);
    assert_eq!(world.state.outcome(), Some(&three()));
}

#[test]
fn a_request_said_twice_is_one_call() {
    given::<ToolCall>(called(true)).when(Command::Request(requested(true))).then_nothing();
    let other = Requested { parameters: json!({"expression": "2"}), ..requested(true) };
    given::<ToolCall>(called(true)).when(Command::Request(other)).then_refused("tool_call_exists");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let refused = |requested, reason| {
        given::<ToolCall>(vec![]).when(Command::Request(requested)).then_refused(reason);
    };
    refused(Requested { parameters: json!([1]), ..requested(true) }, "bad_parameters");
    let large = json!({"a": "x".repeat(MAX_PARAMETERS_BYTES)});
    refused(Requested { parameters: large, ..requested(true) }, "bad_parameters");
    refused(Requested { tool: String::new(), ..requested(true) }, "bad_tool_name");
    refused(Requested { tool: "x".repeat(MAX_TOOL_NAME_BYTES + 1), ..requested(true) }, "bad_tool_name");
}

#[test]
fn a_repeatable_tool_is_tried_three_times() {
    let again = |seconds| {
        let retry_at = time(100).after(Duration::from_secs(seconds));
        vec![AttemptFailed { failure: passing(), retry_at }.into()]
    };
    let world = given::<ToolCall>(called(true)).when(outcome(effect(1, 0), Outcome::Error(passing()))).then(again(1));
    assert_eq!(world.pending()[0].due, Due::At(time(101)));
    world
        .when(outcome(effect(2, 0), Outcome::Error(passing())))
        .then(again(2))
        .when(outcome(effect(3, 0), Outcome::Error(passing())))
        .then(vec![finished(Outcome::Error(passing()))]);
    given::<ToolCall>(called(true))
        .when(outcome(effect(1, 0), Outcome::Error(lasting())))
        .then(vec![finished(Outcome::Error(lasting()))]);
}

#[test]
fn a_tool_that_may_not_be_repeated_begins_on_record() {
    let world = given::<ToolCall>(called(false));
    assert_eq!(world.pending()[0].effect, Effect::Begin(requested(false)));
    let world = world.when(begin(effect(1, 0))).then(vec![attempt()]);
    let [run, give_up] = <[_; 2]>::try_from(world.pending()).expect("two debts");
    let attempt = Effect::RunAttempt { requested: requested(false), attempt: id(40), deadline: time(30) };
    assert_eq!((run.id, run.due, run.effect), (effect(2, 0), Due::Now, attempt));
    let at = Due::At(time(30).after(UNCERTAIN_AFTER));
    assert_eq!((give_up.id, give_up.due, give_up.effect), (expiry(), at, Effect::GiveUp));
    let world = world.when(begin(effect(1, 0))).then_nothing();
    let world = world.when(outcome(effect(2, 0), three())).then(vec![finished(three())]);
    assert_eq!(world.pending(), vec![]);
}

#[test]
fn an_attempt_that_began_is_never_repeated() {
    given::<ToolCall>(begun())
        .when(outcome(effect(2, 0), Outcome::Error(passing())))
        .then(vec![finished(Outcome::Error(passing()))]);
}

#[test]
fn an_attempt_without_an_outcome_becomes_uncertain_for_good() {
    let world = given::<ToolCall>(begun()).when(outcome(expiry(), uncertain())).then(vec![finished(uncertain())]);
    assert_eq!(world.pending(), vec![]);
    world.when(outcome(effect(2, 0), three())).then_nothing();
}

#[test]
fn a_repeatable_tool_needs_no_beginning() {
    given::<ToolCall>(called(true)).when(begin(effect(1, 0))).then_nothing();
    given::<ToolCall>(called(false)).when(begin(effect(7, 0))).then_nothing();
    given::<ToolCall>(vec![]).when(begin(effect(1, 0))).then_nothing();
    given::<ToolCall>(vec![]).when(outcome(effect(1, 0), three())).then_nothing();
}

#[test]
fn a_result_that_no_record_can_hold_is_an_error() {
    let large = Outcome::Success(json!("x".repeat(MAX_RESULT_BYTES)));
    let world = given::<ToolCall>(called(true)).when(outcome(effect(1, 0), large)).world;
    let Some(Outcome::Error(failure)) = world.state.outcome() else { panic!("{:?}", world.state) };
    assert_eq!(failure.reason, "result_too_large");
}

/// MessagePack is larger than JSON where there are many small numbers with a fraction.
#[test]
fn the_largest_call_fits_its_records() {
    let numbers = |bytes: usize| Value::from(vec![json!(0.5); bytes / 4 - 4]);
    let largest = Requested { parameters: json!({"n": numbers(MAX_PARAMETERS_BYTES)}), ..requested(true) };
    let mut world = given::<ToolCall>(vec![]);
    world.send(Command::Request(largest)).expect("it is within its limits");
    let result = Outcome::Success(numbers(MAX_RESULT_BYTES));
    world.send(outcome(effect(1, 0), result.clone())).expect("it is within its limits");
    assert_eq!(world.state.outcome(), Some(&result));
}

#[test]
fn histories_that_are_no_tool_calls_are_refused() {
    let words = |event: &str, state: &str, version| {
        format!("{event} cannot follow {state} in a tool-call history (version {version}, event 0)")
    };
    illegal::<ToolCall>(vec![], finished(three()), &words("Finished", "no tool call", 1));
    illegal::<ToolCall>(called(true), attempt(), &words("AttemptStarted", "a waiting tool call", 2));
    illegal::<ToolCall>(called(true), requested(true), &words("Requested", "a waiting tool call", 2));
    illegal::<ToolCall>(begun(), attempt(), &words("AttemptStarted", "a started tool call", 3));
    let failed = AttemptFailed { failure: passing(), retry_at: time(9) };
    illegal::<ToolCall>(begun(), failed, &words("AttemptFailed", "a started tool call", 3));
    let ended = [called(true), vec![vec![finished(three())]]].concat();
    illegal::<ToolCall>(ended, finished(three()), &words("Finished", "a finished tool call", 3));
}

/// A step of a story: what may come, whether it makes sense or not.
#[derive(Debug, Clone, Copy)]
enum Step {
    Request,
    Begin { stale: bool },
    Outcome { debt: usize, kind: u8 },
    Late,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Request),
        any::<bool>().prop_map(|stale| Step::Begin { stale }),
        (0..2_usize, 0..5_u8).prop_map(|(debt, kind)| Step::Outcome { debt, kind }),
        Just(Step::Late),
    ];
    proptest::collection::vec(step, 0..16)
}

fn outcome_of(effect: &Effect, event: &Event) -> bool {
    match effect {
        Effect::Run(_) => matches!(event, Event::AttemptFailed(_) | Event::Finished(_)),
        Effect::Begin(_) => matches!(event, Event::AttemptStarted(_) | Event::AttemptFailed(_) | Event::Finished(_)),
        Effect::RunAttempt { .. } | Effect::GiveUp => matches!(event, Event::Finished(_)),
    }
}

proptest! {
    #[test]
    fn any_tool_call_keeps_its_promises(repeatable in any::<bool>(), steps in steps()) {
        let mut world = World::<ToolCall>::new(outcome_of);
        world.send(Command::Request(requested(repeatable))).expect("requested");
        for step in steps {
            let debts = world.pending();
            let debt = |n: usize| debts.get(n).or(debts.first()).map_or(effect(99, 0), |debt| debt.id);
            let _ = world.send(match step {
                Step::Request => Command::Request(requested(repeatable)),
                Step::Begin { stale } => begin(if stale { effect(98, 0) } else { debt(0) }),
                Step::Late => outcome(effect(1, 0), three()),
                Step::Outcome { debt: n, kind } => outcome(debt(n), match kind {
                    0 => three(),
                    1 => Outcome::Error(passing()),
                    2 => Outcome::Error(lasting()),
                    3 => Outcome::Timeout(lasting()),
                    _ => uncertain(),
                }),
            });
            prop_assert_eq!(world.pending().is_empty(), world.state.outcome().is_some(), "it goes on until it ends");
        }
        let begun = world.history.iter().flatten().filter(|event| matches!(event, Event::AttemptStarted(_))).count();
        prop_assert!(begun <= usize::from(!repeatable), "at most once");
        world.check();
    }
}
