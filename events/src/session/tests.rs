use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Command, Effect, Event, MAX_CONTEXT_BYTES, MAX_MESSAGE_BYTES, MAX_OPEN_TURNS, MessageReceived, Opened,
    ReplyCompleted, ReplyFailed, SendMessage, Session, workflow_of,
};
use crate::{
    Due, Pending,
    testing::{World, effect, given, id, illegal, samples},
};

fn message(n: u128) -> SendMessage {
    SendMessage { owner: id(1), message_id: id(n), content: format!("message {n}"), context: json!({}), open: false }
}

fn send(message: SendMessage) -> Command {
    Command::SendMessage(message)
}

fn opened() -> Event {
    Opened { owner: id(1) }.into()
}

fn received(n: u128) -> Event {
    MessageReceived { message_id: id(n), content: format!("message {n}"), context: json!({}) }.into()
}

fn completed(n: u128) -> Event {
    ReplyCompleted { message_id: id(n), answer: samples::answer(), tasks_completed: 2, millis: 5 }.into()
}

fn failed(n: u128) -> Event {
    ReplyFailed { message_id: id(n), failure: samples::lasting(), millis: 5 }.into()
}

fn complete(message_id: Uuid) -> Command {
    Command::CompleteReply { message_id, answer: Box::new(samples::answer()), tasks_completed: 2, millis: 5 }
}

fn fail(message_id: Uuid) -> Command {
    Command::FailReply { message_id, failure: samples::lasting(), millis: 5 }
}

fn owed(n: u128, version: u64, event: u16) -> Vec<Pending<Effect>> {
    let effect_of = Effect {
        workflow_id: workflow_of(id(n)),
        owner: id(1),
        message_id: id(n),
        content: format!("message {n}"),
        context: json!({}),
    };
    vec![Pending { id: effect(version, event), due: Due::Now, effect: effect_of }]
}

#[test]
fn the_first_message_opens_the_session() {
    let world = given::<Session>(vec![])
        .when(send(SendMessage { open: true, ..message(11) }))
        .then(vec![opened(), received(11)]);
    assert_eq!(world.pending(), owed(11, 1, 1));
}

#[test]
fn a_message_to_no_session_or_to_somebody_elses_finds_nothing() {
    given::<Session>(vec![]).when(send(message(11))).then_refused("session_not_found");
    let foreign = SendMessage { owner: id(2), open: true, ..message(12) };
    given::<Session>(vec![vec![opened(), received(11)]]).when(send(foreign)).then_refused("session_not_found");
}

#[test]
fn messages_are_answered_one_after_the_other() {
    let world = given::<Session>(vec![vec![opened(), received(11)]]).when(send(message(12))).then(vec![received(12)]);
    assert_eq!(world.pending(), owed(11, 1, 1), "the second waits for the first");
    let world = world.when(complete(id(11))).then(vec![completed(11)]);
    assert_eq!(world.pending(), owed(12, 2, 0));
    let world = world.when(fail(id(12))).then(vec![failed(12)]);
    assert_eq!(world.pending(), vec![]);
    assert_eq!(world.state.received, 2);
}

#[test]
fn an_outcome_counts_once() {
    let answered = || vec![vec![opened(), received(11)], vec![completed(11)]];
    given::<Session>(answered()).when(complete(id(11))).then_nothing();
    given::<Session>(answered()).when(fail(id(11))).then_nothing();
    given::<Session>(vec![]).when(complete(id(11))).then_nothing();
}

#[test]
fn an_outcome_that_is_early_is_refused_and_not_lost() {
    given::<Session>(vec![vec![opened(), received(11)], vec![received(12)]])
        .when(complete(id(12)))
        .then_refused("reply_out_of_order")
        .when(complete(id(11)))
        .then(vec![completed(11)])
        .when(complete(id(12)))
        .then(vec![completed(12)]);
}

#[test]
fn messages_that_make_no_sense_are_refused() {
    let refused = |message: SendMessage, reason: &str| {
        given::<Session>(vec![vec![opened(), received(11)]]).when(send(message)).then_refused(reason);
    };
    refused(SendMessage { content: " \n\t".to_owned(), ..message(12) }, "empty_message");
    refused(SendMessage { content: "x".repeat(MAX_MESSAGE_BYTES + 1), ..message(12) }, "message_too_large");
    refused(SendMessage { context: json!("text"), ..message(12) }, "bad_context");
    refused(SendMessage { context: json!({"a": "x".repeat(MAX_CONTEXT_BYTES)}), ..message(12) }, "context_too_large");
    refused(message(11), "message_exists");
}

#[test]
fn what_waits_for_answers_is_limited() {
    let mut commits = vec![vec![opened()]];
    commits.extend((0..MAX_OPEN_TURNS as u128).map(|n| vec![received(n)]));
    let busy = given::<Session>(commits).when(send(message(99))).then_refused("session_busy");
    busy.when(complete(id(0))).then(vec![completed(0)]).when(send(message(99))).then(vec![received(99)]);

    let large = |n| SendMessage { content: "x".repeat(MAX_MESSAGE_BYTES), ..message(n) };
    let mut world = given::<Session>(vec![vec![opened()]]);
    world.send(send(large(1))).expect("one fits");
    world.send(send(large(2))).expect("two fit");
    world.when(send(message(3))).then_refused("session_busy");
}

/// MessagePack is larger than JSON where there are many small numbers with a fraction.
#[test]
fn the_largest_turn_fits_its_records() {
    let numbers: Vec<Value> = vec![json!(0.5); MAX_CONTEXT_BYTES / 4 - 2];
    let largest = |n| SendMessage {
        content: "x".repeat(MAX_MESSAGE_BYTES / 4),
        context: json!({"n": numbers}),
        open: true,
        ..message(n)
    };
    let mut world = World::<Session>::untold();
    for n in 0..MAX_OPEN_TURNS as u128 {
        world.send(send(largest(n))).expect("it is within its limits");
    }
}

#[test]
fn histories_that_are_no_sessions_are_refused() {
    illegal::<Session>(
        vec![],
        received(11),
        "MessageReceived cannot follow no session in a session history (version 1, event 0)",
    );
    illegal::<Session>(
        vec![vec![opened()]],
        opened(),
        "Opened cannot follow a session with 0 open messages in a session history (version 2, event 0)",
    );
    illegal::<Session>(
        vec![vec![opened(), received(11)], vec![received(12)]],
        completed(12),
        "ReplyCompleted cannot follow a session with 2 open messages in a session history (version 3, event 0)",
    );
    illegal::<Session>(
        vec![vec![opened(), received(11)], vec![completed(11)]],
        failed(11),
        "ReplyFailed cannot follow a session with 0 open messages in a session history (version 3, event 0)",
    );
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let command = (0..6_u128, 1..3_u128, any::<bool>(), 0..3).prop_map(|(n, owner, open, kind)| match kind {
        0 => send(SendMessage { owner: id(owner), open, ..message(n) }),
        1 => complete(id(n)),
        _ => fail(id(n)),
    });
    proptest::collection::vec(command, 0..40)
}

proptest! {
    #[test]
    fn any_session_keeps_its_promises(commands in commands()) {
        let mut world = World::<Session>::new(|effect, event| match event {
            Event::ReplyCompleted(reply) => reply.message_id == effect.message_id,
            Event::ReplyFailed(reply) => reply.message_id == effect.message_id,
            _ => false,
        });
        for command in commands {
            let _ = world.send(command);
            prop_assert!(world.pending().len() <= 1, "one at a time");
            prop_assert_eq!(world.pending().is_empty(), world.state.turns.is_empty(), "nothing waits for ever");
        }
        world.check();
    }
}
