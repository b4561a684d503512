//! What sessions and tool calls did lately, for whoever looks at Redis instead of the log: `session:{id}` (a hash of `user_id`,
//! `created_at`, `last_activity`, `metadata`), `context:{id}` (a list of the last messages, each as JSON) and `tool_state:{id}`
//! (a hash of `status`, `progress`, `result`), with the times to live of the specification.
//!
//! It is a fold of the log like any other, but one that may be lost: whoever feeds it begins again near the log's end. Each
//! commit is taken in by one script, once, however often it comes.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use fred::{
    interfaces::{KeysInterface, LuaInterface},
    types::Value,
};
use lmao_events::{AnyEvent, Category, Position, Timestamp, session, tool_call};
use lmao_ports::{Committed, Unavailable};
use serde_json::json;

use super::{RedisCache, milliseconds};

/// How long a session is known after its last message.
const SESSION: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a tool call is known after it changed last.
const TOOL_STATE: Duration = Duration::from_secs(60 * 60);
/// Messages of one session that are known, answers among them.
const MAX_MESSAGES: usize = 50;
/// Longer messages are cut, in bytes.
const MAX_CONTENT: usize = 16 * 1024;
/// Larger results of tools are left out, in bytes of JSON.
const MAX_RESULT: usize = 64 * 1024;

/// Keys: the hash, the list, the position reached. Arguments: position, time to live in ms, messages to keep, the number of
/// fields, the fields and their values, the messages. A commit that was taken in before changes nothing.
const NOTE: &str = "
local position, ttl, keep, fields = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if (tonumber(redis.call('GET', KEYS[3])) or -1) < position then redis.call('SET', KEYS[3], ARGV[1], 'PX', 86400000) end
if (tonumber(redis.call('HGET', KEYS[1], 'position')) or -1) >= position then return 0 end
redis.call('HSET', KEYS[1], 'position', ARGV[1])
for n = 1, fields do redis.call('HSET', KEYS[1], ARGV[3 + 2 * n], ARGV[4 + 2 * n]) end
redis.call('PEXPIRE', KEYS[1], ttl)
for n = 5 + 2 * fields, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[n]) end
if #ARGV >= 5 + 2 * fields then
  redis.call('LTRIM', KEYS[2], -keep, -1)
  redis.call('PEXPIRE', KEYS[2], ttl)
end
return 1
";

/// The recent state of sessions and tool calls.
#[derive(Debug, Clone)]
pub struct Recent(Arc<RedisCache>);

/// What a commit changes.
#[derive(Debug, Default)]
struct Change {
    fields: Vec<(&'static str, String)>,
    messages: Vec<String>,
}

impl Recent {
    /// On this server.
    #[must_use]
    pub fn new(redis: Arc<RedisCache>) -> Self {
        Self(redis)
    }

    /// Whether commits to streams of this category say anything here.
    #[must_use]
    pub fn wants(category: Category) -> bool {
        matches!(category, Category::Session | Category::ToolCall)
    }

    /// The last position that was taken in; `None` where nothing was for a day.
    ///
    /// # Errors
    /// The server does not answer in time.
    pub async fn reached(&self) -> Result<Option<Position>, Unavailable> {
        let key = self.0.key("recent", "position");
        let reached: Option<u64> = self.0.connection.call(|redis| redis.get(key)).await?;
        Ok(reached.map(Position))
    }

    /// Takes a commit in, unless it was before.
    ///
    /// # Errors
    /// The server does not answer in time. Whether the commit was taken in is then not known; it may come again.
    pub async fn note(&self, commit: &Committed) -> Result<(), Unavailable> {
        let stream = commit.header.stream;
        let (hash, list, ttl) = match stream.category {
            Category::Session => ("session", "context", SESSION),
            Category::ToolCall => ("tool_state", "context", TOOL_STATE),
            _ => return Ok(()),
        };
        // What cannot be opened is nothing to show.
        let Ok(events) = &commit.events else { return Ok(()) };
        let Change { fields, messages } = change(commit, events);
        let id = stream.id.to_string();
        let keys = vec![self.0.key(hash, &id), self.0.key(list, &id), self.0.key("recent", "position")];
        let head = [commit.position.to_string(), milliseconds(ttl).to_string()];
        let head = head.into_iter().chain([MAX_MESSAGES.to_string(), fields.len().to_string()]);
        let fields = fields.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let arguments: Vec<Value> = head.chain(fields).chain(messages).map(Value::from).collect();
        self.0.connection.call(|redis| redis.eval(NOTE, keys, arguments)).await
    }
}

fn change(commit: &Committed, events: &[AnyEvent]) -> Change {
    let mut change = Change::default();
    let at = date(commit.header.time);
    for event in events {
        match event {
            AnyEvent::Session(event) => change.session(event, &at),
            AnyEvent::ToolCall(event) => change.tool_call(event),
            _ => {}
        }
    }
    if commit.header.stream.category == Category::Session {
        change.fields.push(("user_id", commit.header.key.to_string()));
        change.fields.push(("last_activity", at));
    }
    change
}

impl Change {
    fn session(&mut self, event: &session::Event, at: &str) {
        let mut say = |id: uuid::Uuid, role: &str, content: &str| {
            let content = &content[..content.floor_char_boundary(MAX_CONTENT)];
            self.messages.push(json!({ "message_id": id, "role": role, "content": content, "at": at }).to_string());
        };
        match event {
            session::Event::Opened(_) => self.fields.push(("created_at", at.to_owned())),
            session::Event::MessageReceived(message) => {
                say(message.message_id, "user", &message.content);
                let metadata = message.context.to_string();
                if metadata.len() <= MAX_CONTENT {
                    self.fields.push(("metadata", metadata));
                }
            }
            session::Event::ReplyCompleted(reply) => say(reply.message_id, "assistant", &reply.answer.text),
            session::Event::ReplyFailed(reply) => say(reply.message_id, "error", &reply.failure.message),
        }
    }

    fn tool_call(&mut self, event: &tool_call::Event) {
        let (status, progress, result) = match event {
            tool_call::Event::Requested(_) => ("pending", 0, None),
            tool_call::Event::AttemptStarted(_) => ("running", 0, None),
            tool_call::Event::AttemptFailed(failed) => ("retrying", 0, Some(json!(failed.failure))),
            tool_call::Event::Finished(finished) => match &finished.outcome {
                tool_call::Outcome::Success(result) => ("success", 100, Some(result.clone())),
                tool_call::Outcome::Error(failure) => ("error", 100, Some(json!(failure))),
                tool_call::Outcome::Timeout(failure) => ("timeout", 100, Some(json!(failure))),
                tool_call::Outcome::Uncertain(failure) => ("uncertain", 100, Some(json!(failure))),
            },
        };
        self.fields.extend([("status", status.to_owned()), ("progress", progress.to_string())]);
        let result = result.map(|result| result.to_string()).filter(|result| result.len() <= MAX_RESULT);
        self.fields.push(("result", result.unwrap_or_else(|| "null".to_owned())));
    }
}

/// RFC 3339.
fn date(time: Timestamp) -> String {
    let date: DateTime<Utc> = DateTime::from_timestamp_micros(time.0).unwrap_or_default();
    date.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use lmao_events::{Failure, StreamId};
    use lmao_ports::conformance::fixtures::{History, answer, id};
    use serde_json::Value as Json;
    use uuid::Uuid;

    use super::{super::tests::open, *};

    async fn field(cache: &RedisCache, kind: &str, key: Uuid, name: &str) -> Option<String> {
        let script = "return redis.call('HGET', KEYS[1], ARGV[1])";
        let key = cache.key(kind, &key.to_string());
        cache.connection.call(|redis| redis.eval(script, key, name)).await.unwrap()
    }

    async fn list(cache: &RedisCache, key: Uuid) -> Vec<Json> {
        let key = cache.key("context", &key.to_string());
        let script = "return redis.call('LRANGE', KEYS[1], 0, -1)";
        let texts: Vec<String> = cache.connection.call(|redis| redis.eval(script, key, "")).await.unwrap();
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    async fn ttl(cache: &RedisCache, kind: &str, key: Uuid) -> i64 {
        let key = cache.key(kind, &key.to_string());
        cache.connection.call(|redis| redis.pttl(key)).await.unwrap()
    }

    #[tokio::test]
    async fn sessions_are_as_the_specification_has_them_however_often_commits_come() {
        let cache = Arc::new(open().await);
        let recent = Recent::new(Arc::clone(&cache));
        let stream = StreamId::new(Category::Session, Uuid::new_v4());
        let mut history = History::default();
        let said = |n: u128| session::MessageReceived {
            message_id: id(n),
            content: format!("question {n}"),
            context: json!({ "locale": "de" }),
        };
        history.commit(stream, [session::Opened { owner: id(9) }.into(), said(1).into()].map(AnyEvent::Session));
        let reply =
            session::ReplyCompleted { message_id: id(1), answer: answer("An answer."), tasks_completed: 2, millis: 7 };
        history.commit(stream, [AnyEvent::Session(reply.into())]);
        assert_eq!(recent.reached().await.unwrap(), None);
        for commit in history.commits.iter().chain(&history.commits) {
            recent.note(commit).await.unwrap();
        }
        assert_eq!(recent.reached().await.unwrap(), Some(history.end()));
        let messages = list(&cache, stream.id).await;
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert_eq!((&messages[0]["role"], &messages[0]["content"]), (&json!("user"), &json!("question 1")));
        assert_eq!((&messages[1]["role"], &messages[1]["content"]), (&json!("assistant"), &json!("An answer.")));
        let of = async |name| field(&cache, "session", stream.id, name).await.unwrap();
        assert_eq!(of("user_id").await, history.commits[0].header.key.to_string());
        assert_eq!(of("metadata").await, r#"{"locale":"de"}"#);
        assert!(of("created_at").await < of("last_activity").await);
        for kind in ["session", "context"] {
            let left = ttl(&cache, kind, stream.id).await;
            assert!(left > 86_000_000 && left <= 86_400_000, "{left}");
        }

        for n in 2..100 {
            history.commit(stream, [AnyEvent::Session(said(n).into())]);
            recent.note(history.commits.last().unwrap()).await.unwrap();
        }
        let messages = list(&cache, stream.id).await;
        assert_eq!((messages.len(), &messages[MAX_MESSAGES - 1]["content"]), (MAX_MESSAGES, &json!("question 99")));
    }

    #[tokio::test]
    async fn tool_calls_show_how_far_they_are() {
        let cache = Arc::new(open().await);
        let recent = Recent::new(Arc::clone(&cache));
        let stream = StreamId::new(Category::ToolCall, Uuid::new_v4());
        let mut history = History::default();
        let failure = Failure { reason: "tool_failed".to_owned(), message: "no".to_owned(), retryable: false };
        let finished = |outcome| tool_call::Finished { outcome, millis: 3 };
        let steps: [(tool_call::Event, [&str; 3]); 3] = [
            (tool_call::AttemptStarted { attempt: id(1), deadline: Timestamp(5) }.into(), ["running", "0", "null"]),
            (finished(tool_call::Outcome::Success(json!({ "sum": 3 }))).into(), ["success", "100", r#"{"sum":3}"#]),
            (finished(tool_call::Outcome::Success(json!("x".repeat(MAX_RESULT)))).into(), ["success", "100", "null"]),
        ];
        for (event, shown) in steps {
            history.commit(stream, [AnyEvent::ToolCall(event)]);
            recent.note(history.commits.last().unwrap()).await.unwrap();
            for (name, value) in ["status", "progress", "result"].into_iter().zip(shown) {
                assert_eq!(field(&cache, "tool_state", stream.id, name).await.as_deref(), Some(value), "{name}");
            }
        }
        history.commit(stream, [AnyEvent::ToolCall(finished(tool_call::Outcome::Error(failure)).into())]);
        recent.note(history.commits.last().unwrap()).await.unwrap();
        let result = field(&cache, "tool_state", stream.id, "result").await.unwrap();
        assert!(result.contains("tool_failed"), "{result}");
        let left = ttl(&cache, "tool_state", stream.id).await;
        assert!(left > 3_500_000 && left <= 3_600_000, "{left}");
    }
}
