//! One message, one answer with its citations.

use chrono::{DateTime, Utc};
use lmao_events::{
    Citation,
    session::{ReplyCompleted, reply_of, workflow_of},
};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Header, types::Any};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use super::Tag;
use crate::{
    app::date,
    body::JsonBody,
    context::{Context, User},
    error::ApiError,
    idempotency,
    reply::{DoneOrAccepted, Reply},
    turn::{self, Say, Session},
    watch::Found,
};

const ROUTE: &str = "POST /api/v1/chat/message";

/// A message.
#[derive(Debug, Object, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ChatRequest {
    /// At most 128 KiB.
    message: String,
    /// The conversation; left out or empty, one begins.
    #[oai(nullable)]
    session_id: Option<String>,
    /// What the agent is to know: an object of at most 32 KiB.
    #[oai(nullable)]
    context: Option<Any<Map<String, Value>>>,
}

/// An answer.
#[derive(Debug, Object, Serialize)]
struct ChatResponse {
    /// Markdown, with `[n]` where it relies on citation n; empty while it is being written.
    response: String,
    session_id: Uuid,
    timestamp: DateTime<Utc>,
    metadata: ChatMetadata,
}

/// About an answer.
#[derive(Debug, Object, Serialize)]
pub(super) struct ChatMetadata {
    /// `completed`, or `processing` when the answer did not come within the wait.
    pub(super) status: String,
    /// The workflow that answers.
    pub(super) plan_id: Uuid,
    /// The message that is answered.
    pub(super) message_id: Uuid,
    /// The answer, as a message of the session.
    pub(super) reply_id: Uuid,
    /// How many of the plan's tasks were carried out.
    pub(super) tasks_completed: u32,
    /// Seconds from the message to the answer.
    pub(super) execution_time: f64,
    /// Whether anything relevant was found.
    pub(super) grounded: bool,
    /// Who wrote it: `extractive`, or the language model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    /// Tokens that a language model read and wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tokens_used: Option<u32>,
    /// What the reader should know: a leg that was off, a model that was unreachable.
    pub(super) notices: Vec<String>,
    /// By their numbers in the text.
    pub(super) citations: Vec<CitationBody>,
}

/// Where a claim of an answer comes from.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Citation")]
pub(super) struct CitationBody {
    n: u32,
    document_id: Uuid,
    chunk_id: Uuid,
    filename: String,
    /// From 1, where the format has pages.
    #[oai(nullable)]
    page_number: Option<u32>,
    /// Headings, outermost first.
    #[oai(nullable)]
    section: Option<String>,
    quote: String,
    /// Byte offset of the quote in the document's extracted text.
    start: u64,
    /// Byte offset behind it.
    end: u64,
    /// Comparable within one answer only.
    score: f32,
}

impl From<Citation> for CitationBody {
    fn from(citation: Citation) -> Self {
        let Citation { n, document_id, chunk_id, filename, page_number, section, quote, start, end, score } = citation;
        Self { n, document_id, chunk_id, filename, page_number, section, quote, start, end, score }
    }
}

impl ChatMetadata {
    /// Of an answer; the text comes along.
    pub(super) fn of(reply: ReplyCompleted) -> (String, Self) {
        let ReplyCompleted { message_id, answer, tasks_completed, millis } = reply;
        let metadata = Self {
            status: "completed".to_owned(),
            plan_id: workflow_of(message_id),
            message_id,
            reply_id: reply_of(message_id),
            tasks_completed,
            execution_time: seconds(millis),
            grounded: answer.grounded,
            model: Some(answer.model),
            tokens_used: answer.usage.map(|usage| usage.prompt.saturating_add(usage.completion)),
            notices: answer.notices,
            citations: answer.citations.into_iter().map(Into::into).collect(),
        };
        (answer.text, metadata)
    }

    fn processing(message_id: Uuid, waited: f64) -> Self {
        Self {
            status: "processing".to_owned(),
            plan_id: workflow_of(message_id),
            message_id,
            reply_id: reply_of(message_id),
            tasks_completed: 0,
            execution_time: waited,
            grounded: false,
            model: None,
            tokens_used: None,
            notices: vec![],
            citations: vec![],
        }
    }
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "durations are far below 2^53 ms")]
pub(super) fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

super::routes! {
    /// `/api/v1/chat/message`
    Chat
}

#[OpenApi(tag = "Tag::Chat")]
impl Chat {
    /// Ask
    ///
    /// Waits for the answer, 25 seconds at most; after that 202 with `metadata.status` `processing`, and the answer turns
    /// up among the session's messages. Messages of one session are answered in order.
    #[oai(path = "/api/v1/chat/message", method = "post", operation_id = "send_message")]
    async fn message(
        &self,
        context: Context,
        user: User,
        /// A retry with the same key gets the first outcome.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: JsonBody<ChatRequest>,
    ) -> Result<Reply<ChatResponse, DoneOrAccepted>, ApiError> {
        let app = self.app()?;
        let begun = Instant::now();
        let command = idempotency::command(user.0.id, ROUTE, key.0.as_deref(), &body.0)?;
        let JsonBody(ChatRequest { message, session_id, context: more }) = body;
        let session = match session_id.as_deref() {
            None | Some("") => Session::New(None),
            Some(id) => Session::Known(turn::session_id(id)?),
        };
        let more = more.map_or_else(Map::new, |more| more.0);
        let say = Say { owner: user.0.id, session, content: message, context: more, command };
        let mut said = turn::say(app, &context, say).await?;
        let (session_id, message_id) = (said.session_id, said.message_id);
        match said.reply(app, begun + app.state.limits.wait).await? {
            Some(Found { what: turn::Reply::Completed(reply), commit }) => {
                let (response, metadata) = ChatMetadata::of(*reply);
                let body = ChatResponse { response, session_id, timestamp: date(commit.header.time), metadata };
                Ok(Reply::ok(body).at(app.written(commit.position).await))
            }
            Some(Found { what: turn::Reply::Failed(failed), commit }) => {
                Err(turn::failed(session_id, failed).at(app.written(commit.position).await))
            }
            None => {
                let metadata = ChatMetadata::processing(message_id, begun.elapsed().as_secs_f64());
                let timestamp = date(app.now());
                let body = ChatResponse { response: String::new(), session_id, timestamp, metadata };
                Ok(Reply::new(StatusCode::ACCEPTED, body).at(app.written(said.seen()).await))
            }
        }
    }
}
