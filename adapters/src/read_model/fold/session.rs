//! Sessions, their conversations and messages.

use lmao_events::{
    Timestamp, derive_id,
    session::{Event, MessageReceived, ReplyCompleted, ReplyFailed, reply_of, workflow_of},
};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{At, Changes};

/// Characters of a title.
const TITLE_CHARS: usize = 80;

/// A new session with its conversation: session, conversation, owner, when.
#[derive(Debug, Serialize)]
pub(crate) struct OpenedRecord(pub(crate) Uuid, pub(crate) Uuid, pub(crate) Uuid, pub(crate) Timestamp);

/// A new message: id, conversation, role, content, when, metadata, tokens, model, ordinal.
#[derive(Debug, Serialize)]
pub(crate) struct MessageRecord(
    pub(crate) Uuid,
    pub(crate) Uuid,
    pub(crate) &'static str,
    pub(crate) String,
    pub(crate) Timestamp,
    pub(crate) Value,
    pub(crate) Option<u32>,
    pub(crate) Option<String>,
    pub(crate) i64,
);

/// Something was said in a session: session, conversation, when last, its title unless it has one.
#[derive(Debug, Serialize)]
pub(crate) struct Touch(pub(crate) Uuid, pub(crate) Uuid, pub(crate) Timestamp, pub(crate) Option<String>);

/// The conversation of a session.
fn conversation_of(session: Uuid) -> Uuid {
    derive_id(session, "conversation")
}

pub(super) fn take(changes: &mut Changes, at: At, event: &Event) {
    match event {
        Event::Opened(opened) => {
            changes.opened.push(OpenedRecord(at.id, conversation_of(at.id), opened.owner, at.time));
        }
        Event::MessageReceived(message) => {
            touch(changes, at, Some(title(&message.content)));
            changes.messages.push(received(at, message));
        }
        Event::ReplyCompleted(reply) => {
            touch(changes, at, None);
            changes.messages.push(completed(at, reply));
        }
        Event::ReplyFailed(reply) => {
            touch(changes, at, None);
            changes.messages.push(failed(at, reply));
        }
    }
}

fn touch(changes: &mut Changes, at: At, title: Option<String>) {
    let touch = changes.touched.entry(at.id).or_insert_with(|| Touch(at.id, conversation_of(at.id), at.time, None));
    touch.2 = touch.2.max(at.time);
    touch.3 = touch.3.take().or(title);
}

/// The beginning of what was said, on one line.
fn title(content: &str) -> String {
    let words = content.split_whitespace().flat_map(|word| [" ", word]).skip(1);
    words.flat_map(str::chars).take(TITLE_CHARS).collect()
}

fn received(at: At, message: &MessageReceived) -> MessageRecord {
    let plain = message.context.as_object().is_none_or(serde_json::Map::is_empty);
    let metadata = if plain { json!({}) } else { json!({ "context": message.context }) };
    let (id, content) = (message.message_id, message.content.clone());
    MessageRecord(id, conversation_of(at.id), "user", content, at.time, metadata, None, None, at.ordinal())
}

fn completed(at: At, reply: &ReplyCompleted) -> MessageRecord {
    let (id, answer) = (reply_of(reply.message_id), &reply.answer);
    let metadata = json!({
        "plan_id": workflow_of(reply.message_id),
        "message_id": reply.message_id,
        "reply_id": id,
        "tasks_completed": reply.tasks_completed,
        "execution_time": seconds(reply.millis),
        "citations": answer.citations,
        "grounded": answer.grounded,
        "notices": answer.notices,
    });
    let tokens = answer.usage.map(|usage| usage.prompt.saturating_add(usage.completion));
    let (content, model) = (answer.text.clone(), Some(answer.model.clone()));
    MessageRecord(id, conversation_of(at.id), "assistant", content, at.time, metadata, tokens, model, at.ordinal())
}

fn failed(at: At, reply: &ReplyFailed) -> MessageRecord {
    let id = reply_of(reply.message_id);
    let metadata = json!({
        "plan_id": workflow_of(reply.message_id),
        "message_id": reply.message_id,
        "reply_id": id,
        "execution_time": seconds(reply.millis),
        "citations": [],
        "error": { "reason": reply.failure.reason, "message": reply.failure.message },
    });
    MessageRecord(id, conversation_of(at.id), "assistant", String::new(), at.time, metadata, None, None, at.ordinal())
}

fn seconds(millis: u64) -> f64 {
    std::time::Duration::from_millis(millis).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_short_line() {
        assert_eq!(title("  What is\n\ta title?  "), "What is a title?");
        assert_eq!(title(&"ä".repeat(200)).chars().count(), TITLE_CHARS);
    }
}
