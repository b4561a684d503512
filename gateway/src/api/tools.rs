//! Tools: listed, and called by hand.

use std::time::Duration;

use lmao_events::{
    AnyEvent, Category, StreamId, derive_id,
    tool_call::{self, Finished, MAX_PARAMETERS_BYTES, Outcome, Requested},
};
use lmao_ports::{CommandError, ToolSpec};
use poem::http::StatusCode;
use poem_openapi::{
    Object, OpenApi,
    param::{Header, Path},
    types::Any,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Tag, chat::seconds};
use crate::{
    app::App,
    body::JsonBody,
    context::{Context, User},
    error::{ApiError, key_reused},
    idempotency,
    reply::{DoneOrAccepted, Reply},
    turn::{owned, session_id},
    watch::{Found, Watch},
};

const ROUTE: &str = "POST /api/v1/tools/{tool_name}/execute";

/// The tools there are.
#[derive(Debug, Object, Serialize)]
struct ToolsResponse {
    tools: Vec<ToolBody>,
}

/// A tool.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Tool")]
struct ToolBody {
    name: String,
    description: String,
    capabilities: Vec<String>,
    /// JSON Schema of its parameters.
    parameters: Any<Value>,
}

impl From<ToolSpec> for ToolBody {
    fn from(tool: ToolSpec) -> Self {
        let ToolSpec { name, description, capabilities, parameters, .. } = tool;
        Self { name, description, capabilities, parameters: Any(parameters) }
    }
}

/// A call.
#[derive(Debug, Object, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct ExecuteRequest {
    /// As the tool's schema says; at most 128 KiB.
    #[oai(nullable)]
    parameters: Option<Any<Map<String, Value>>>,
    /// The conversation that the call belongs to, if any.
    #[oai(nullable)]
    session_id: Option<String>,
}

/// How a call ended.
#[derive(Debug, Object, Serialize)]
struct ExecuteResponse {
    tool_name: String,
    /// The tool's result; of a call without one, the `reason` and the `message`.
    result: Any<Value>,
    /// `success`, `error`, `timeout`, `uncertain`, `waiting_for_approval`; `running` when it took longer than the wait.
    status: String,
    /// Seconds.
    execution_time: f64,
    tool_call_id: Uuid,
}

super::routes! {
    /// `/api/v1/tools`
    Tools
}

#[OpenApi(tag = "Tag::Tools")]
impl Tools {
    /// List tools
    #[oai(path = "/api/v1/tools", method = "get", operation_id = "list_tools")]
    async fn list(&self, _user: User) -> Result<Reply<ToolsResponse>, ApiError> {
        let tools = self.app()?.state.tools.list().into_iter().map(Into::into).collect();
        Ok(Reply::ok(ToolsResponse { tools }))
    }

    /// Run a tool
    ///
    /// A failure of the tool itself comes with 200: `status` says how the call ended. After 25 seconds 202 with `status`
    /// `running`; the same request with the same key gets the outcome later.
    #[oai(path = "/api/v1/tools/:tool_name/execute", method = "post", operation_id = "execute_tool")]
    async fn execute(
        &self,
        context: Context,
        user: User,
        tool_name: Path<String>,
        /// A retry with the same key gets the first outcome.
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: JsonBody<ExecuteRequest>,
    ) -> Result<Reply<ExecuteResponse, DoneOrAccepted>, ApiError> {
        let app = self.app()?;
        let begun = Instant::now();
        let (owner, tool_name) = (user.0.id, tool_name.0);
        let command = idempotency::command(owner, ROUTE, key.0.as_deref(), &(&tool_name, &body.0))?;
        let requested = requested(app, owner, &tool_name, body.0).await?;
        app.remember(command).await?;
        let id = command.map_or_else(|| app.fresh_id(), |command| derive_id(command.id, "tool call"));
        let stream = StreamId::new(Category::ToolCall, id);
        let mut watch = Watch::open(app, stream).await;
        let sent = app.send(stream, tool_call::Command::Request(requested), context.meta(Some(owner), command)).await;
        let receipt = match sent {
            Err(CommandError::Rejected(rejection)) if rejection.reason == "tool_call_exists" => {
                return Err(key_reused());
            }
            sent => sent?,
        };
        // A call's history is short: reading all of it finds the outcome of a repetition too.
        let found = watch.until(app, begun + app.state.limits.wait, |events| events.iter().find_map(end)).await?;
        let reply = |status: &str, result, millis| ExecuteResponse {
            tool_name: tool_name.clone(),
            result: Any(result),
            status: status.to_owned(),
            execution_time: seconds(millis),
            tool_call_id: id,
        };
        match found {
            Some(Found { what: Finished { outcome, millis }, commit }) => {
                let (status, result) = shown(outcome);
                Ok(Reply::ok(reply(status, result, millis)).at(app.written(commit.position).await))
            }
            None => {
                let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let body = reply("running", Value::Null, millis);
                Ok(Reply::new(StatusCode::ACCEPTED, body).at(app.written(receipt.head.position).await))
            }
        }
    }
}

/// The call, if the tool exists and takes these parameters, and the session is the caller's.
async fn requested(app: &App, owner: Uuid, name: &str, body: ExecuteRequest) -> Result<Requested, ApiError> {
    let unknown = || {
        let text = format!("there is no tool {name:?}; GET /api/v1/tools lists those there are");
        ApiError::not_found("unknown_tool", text)
    };
    let tool = app.state.tools.find(name).ok_or_else(unknown)?;
    let parameters = Value::Object(body.parameters.map_or_else(Map::new, |parameters| parameters.0));
    if parameters.to_string().len() > MAX_PARAMETERS_BYTES {
        let text = format!("parameters have at most {MAX_PARAMETERS_BYTES} bytes");
        return Err(ApiError::too_large("parameters_too_large", text).with("limit", MAX_PARAMETERS_BYTES));
    }
    let faults = app.state.tools.check(name, &parameters);
    if !faults.is_empty() {
        let text = format!("{name} does not take these parameters: {}", faults.join("; "));
        return Err(ApiError::unprocessable("bad_parameters", text).with("faults", faults));
    }
    let session_id = body.session_id.as_deref().filter(|id| !id.is_empty()).map(session_id).transpose()?;
    if let Some(session_id) = session_id {
        owned(app, owner, session_id).await?;
    }
    let ToolSpec { name: tool, repeatable, timeout, .. } = tool;
    let timeout_millis = millis(timeout);
    Ok(Requested { owner, session_id, tool, parameters, repeatable, timeout_millis })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn end(event: &AnyEvent) -> Option<Finished> {
    match event {
        AnyEvent::ToolCall(tool_call::Event::Finished(finished)) => Some(finished.clone()),
        _ => None,
    }
}

fn shown(outcome: Outcome) -> (&'static str, Value) {
    let (status, failure) = match outcome {
        Outcome::Success(result) => return ("success", result),
        Outcome::Error(failure) => ("error", failure),
        Outcome::Timeout(failure) => ("timeout", failure),
        Outcome::Uncertain(failure) => ("uncertain", failure),
    };
    (status, json!({ "reason": failure.reason, "message": failure.message, "retryable": failure.retryable }))
}
