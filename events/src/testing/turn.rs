//! A turn: one message, from being received to being answered. Each commit costs a disk sync, so there are five.

use expect_test::expect;

use super::{World, id, samples, time};
use crate::{
    Version,
    decider::Decider,
    event::EventSet,
    session::{self, SendMessage, Session},
    workflow::{self, RunEnd, Workflow},
};

fn commits<D: Decider>(world: &World<D>) -> Vec<String> {
    let names = |events: &Vec<D::Event>| events.iter().map(EventSet::name).collect::<Vec<_>>().join(" + ");
    world.history.iter().map(|events| format!("{}: {}", D::CATEGORY, names(events))).collect()
}

#[test]
fn a_turn_is_five_commits() {
    let mut session = World::<Session>::untold();
    let mut workflow = World::<Workflow>::untold();

    let message = SendMessage {
        owner: id(1),
        message_id: id(11),
        content: "Who owns a value?".to_owned(),
        context: workflow::no_context(),
        open: true,
    };
    session.send(session::Command::SendMessage(message)).expect("a session begins");

    let owed = session.pending().remove(0).effect;
    let start = workflow::Started {
        owner: owed.owner,
        session_id: id(10),
        message_id: owed.message_id,
        asked_at: Version(1),
        query: owed.content,
        context: owed.context,
    };
    workflow.send(workflow::Command::Start(start)).expect("starts");

    let run = workflow::Command::RecordRun {
        effect: workflow.first_debt(),
        completed: vec![samples::retrieved(), samples::synthesized()],
        end: RunEnd::Answered(Box::new(samples::answer())),
        at: time(2),
    };
    workflow.send(run).expect("runs");

    let owed = workflow.pending().remove(0).effect;
    let workflow::Effect::Deliver(ended) = owed else { panic!("{owed:?} instead of the delivery") };
    let workflow::Outcome::Answered(answer) = ended.outcome else { panic!("no answer") };
    let (tasks_completed, millis) = (ended.tasks_completed, ended.millis);
    let message_id = ended.started.message_id;
    let reply = session::Command::CompleteReply { message_id, answer: Box::new(answer), tasks_completed, millis };
    session.send(reply).expect("the session takes the answer");

    workflow.send(workflow::Command::RecordDelivery).expect("delivered");

    assert!(session.pending().is_empty() && workflow.pending().is_empty(), "nothing is owed any more");
    let all = [commits(&session), commits(&workflow)].concat();
    assert!(all.len() <= 5);
    expect![[r#"
        session: Opened + MessageReceived
        session: ReplyCompleted
        workflow: Started + Planned
        workflow: TaskCompleted + TaskCompleted + AnswerSynthesized
        workflow: ReplyDelivered"#]]
    .assert_eq(&all.join("\n"));
}
