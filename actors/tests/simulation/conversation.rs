//! What a search is told of the conversation before a question. No faults.

use std::sync::{Arc, atomic::AtomicBool};

use lmao_events::{Category, StreamId, session};
use lmao_ports::ChatRole;
use serde_json::json;
use uuid::Uuid;

use crate::{
    in_virtual_time,
    node::Running,
    parked::{outcomes, send},
    stores::Disk,
    world::World,
};

#[test]
fn a_question_that_leans_on_the_conversation_is_searched_for_with_it() {
    in_virtual_time(async {
        let disk = Disk::new(1);
        let world = World::new(&disk);
        let node = Running::start(&disk, &world, &Arc::new(AtomicBool::new(false))).await;
        let chat = StreamId::new(Category::Session, Uuid::from_u128(200));
        let said = ["And when?", "When is the kiln fired at night?", "Who fires it?", "Thank you!", "Why?"];
        for (n, content) in (1..).zip(said) {
            let (owner, content) = (Uuid::from_u128(7), content.to_owned());
            let message_id = Uuid::from_u128(n as u128);
            let command = session::SendMessage { owner, message_id, content, context: json!({}), open: true };
            send(&node, chat, session::Command::SendMessage(command)).await;
            outcomes(&node, chat, n).await;
        }
        let searched: Vec<(String, Vec<String>)> = world
            .searches()
            .into_iter()
            .map(|request| {
                assert!(request.diversity.is_some_and(|diversity| diversity > 0.0));
                let said = request.conversation.iter().filter(|message| message.role == ChatRole::User);
                (request.query, said.map(|message| message.content.clone()).collect())
            })
            .collect();
        let expected: [(&str, &[&str]); 4] =
            [(said[0], &[]), (said[1], &[]), (said[2], &said[..2]), (said[4], &said[..4])];
        let expected =
            expected.map(|(query, before)| (query.to_owned(), before.iter().map(|said| (*said).to_owned()).collect()));
        assert_eq!(searched, expected);
        let conversation = world.searches()[3].conversation.clone().into_iter();
        let answers = conversation.filter(|message| message.role == ChatRole::Assistant).map(|message| message.content);
        let expected = ["And when?", "When is the kiln fired at night?", "Who fires it? (4)", "Thank you!"];
        assert_eq!(answers.collect::<Vec<_>>(), expected.map(|question| format!("an answer to {question}")));
    });
}
