//! A tool that runs elsewhere: what a call sends there, and what each way of failing means for the one who called.

use std::sync::Arc;

use async_trait::async_trait;
use lmao_events::Failure;
use lmao_ports::{EndpointError, RemoteCall, ToolEndpoint, ToolSpec};
use serde_json::Value;

use crate::{Call, Tool};

/// A tool behind an endpoint.
#[derive(Debug)]
pub struct Remote {
    spec: ToolSpec,
    endpoint: Arc<dyn ToolEndpoint>,
}

impl Remote {
    /// This tool, which runs there.
    #[must_use]
    pub fn new(spec: ToolSpec, endpoint: Arc<dyn ToolEndpoint>) -> Self {
        Self { spec, endpoint }
    }

    /// A failure may pass when nothing ran, or when running again does no harm and may help.
    fn failure(&self, error: &EndpointError) -> Failure {
        let (name, repeatable) = (&self.spec.name, self.spec.repeatable);
        let made = |may_pass: bool| if may_pass { Failure::passing } else { Failure::lasting };
        match error {
            EndpointError::Unreachable(_) => made(true)("tool_unreachable", format!("{name} did not run: {error}")),
            EndpointError::BrokeOff(_) if repeatable => made(true)("tool_broke_off", format!("{name}: {error}")),
            EndpointError::BrokeOff(_) => {
                let text = format!("{name} may or may not have taken effect, and was not repeated: {error}");
                made(false)("tool_broke_off", text)
            }
            EndpointError::Status { status, .. } => {
                let may_pass = repeatable && matches!(status, 408 | 425 | 429 | 500..);
                made(may_pass)("tool_failed", format!("{name}: {error}"))
            }
            EndpointError::TooLarge { .. } => {
                made(false)("result_too_large", format!("{name} ran, and {error}; ask for less at a time"))
            }
            EndpointError::NotJson => made(false)("bad_tool_answer", format!("{name} ran, and {error}")),
        }
    }
}

#[async_trait]
impl Tool for Remote {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    async fn run(&self, call: Call) -> Result<Value, Failure> {
        let call = RemoteCall {
            tool: self.spec.name.clone(),
            arguments: call.parameters,
            call_id: call.idempotency_key,
            user_id: call.owner,
        };
        self.endpoint.call(&call).await.map_err(|error| self.failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, time::Duration};

    use expect_test::expect;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn remote(repeatable: bool, endpoint: Arc<dyn ToolEndpoint>) -> Remote {
        let spec = ToolSpec {
            name: "pay".to_owned(),
            description: "Pays.".to_owned(),
            capabilities: vec![],
            parameters: json!({ "type": "object" }),
            repeatable,
            timeout: Duration::from_secs(1),
        };
        Remote::new(spec, endpoint)
    }

    /// Answers with what it was sent.
    #[derive(Debug)]
    struct Echo;

    #[async_trait]
    impl ToolEndpoint for Echo {
        async fn call(&self, call: &RemoteCall) -> Result<Value, EndpointError> {
            Ok(serde_json::to_value(call).unwrap())
        }
    }

    #[tokio::test]
    async fn the_endpoint_is_told_which_call_of_whom() {
        let call =
            Call { owner: Uuid::from_u128(1), parameters: json!({ "amount": 3 }), idempotency_key: Uuid::from_u128(2) };
        let sent = remote(false, Arc::new(Echo)).run(call).await.unwrap();
        assert_eq!(
            sent,
            json!({
                "tool": "pay",
                "arguments": { "amount": 3 },
                "call_id": Uuid::from_u128(2),
                "user_id": Uuid::from_u128(1),
            })
        );
    }

    #[test]
    fn a_failure_may_pass_when_nothing_ran_or_repeating_does_no_harm() {
        let status = |status, message: &str| EndpointError::Status { status, message: message.to_owned() };
        let errors = [
            EndpointError::Unreachable("no connection (refused)".to_owned()),
            EndpointError::BrokeOff("the connection broke (reset)".to_owned()),
            status(400, "no such account"),
            status(429, ""),
            status(503, "busy"),
            EndpointError::TooLarge { limit: 10 },
            EndpointError::NotJson,
        ];
        let mut table = String::new();
        for repeatable in [false, true] {
            let tool = remote(repeatable, Arc::new(Echo));
            for error in &errors {
                let Failure { reason, message, retryable } = tool.failure(error);
                writeln!(table, "{repeatable:5} {retryable:5} {reason}: {message}").unwrap();
            }
        }
        expect![[r#"
            false true  tool_unreachable: pay did not run: it cannot be reached: no connection (refused)
            false false tool_broke_off: pay may or may not have taken effect, and was not repeated: it broke off: the connection broke (reset)
            false false tool_failed: pay: it answers 400: no such account
            false false tool_failed: pay: it answers 429
            false false tool_failed: pay: it answers 503: busy
            false false result_too_large: pay ran, and its answer is over 10 bytes; ask for less at a time
            false false bad_tool_answer: pay ran, and its answer is no JSON
            true  true  tool_unreachable: pay did not run: it cannot be reached: no connection (refused)
            true  true  tool_broke_off: pay: it broke off: the connection broke (reset)
            true  false tool_failed: pay: it answers 400: no such account
            true  true  tool_failed: pay: it answers 429
            true  true  tool_failed: pay: it answers 503: busy
            true  false result_too_large: pay ran, and its answer is over 10 bytes; ask for less at a time
            true  false bad_tool_answer: pay ran, and its answer is no JSON
        "#]].assert_eq(&table);
    }
}
