//! The registry: the tools by name, and running one within its limits.

use std::{collections::BTreeMap, sync::Arc};

use jsonschema::Validator;
use lmao_events::{Failure, tool_call::Outcome};
use lmao_ports::{Retriever, ToolCatalog, ToolSpec, trace};
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{Calculator, Call, Knowledge, Tool, bad_parameters};

/// Faults that are reported of one call's parameters.
const MAX_FAULTS: usize = 10;

/// One run of one tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolRun {
    /// On whose behalf.
    pub owner: Uuid,
    /// The tool's name.
    pub tool: String,
    /// A JSON object.
    pub parameters: Value,
    /// The same for every attempt of one call.
    pub idempotency_key: Uuid,
}

/// The tools there are.
#[derive(Debug, Default)]
pub struct Registry {
    tools: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    spec: ToolSpec,
    tool: Arc<dyn Tool>,
    /// The compiled schema, or what is wrong with it.
    schema: Result<Validator, String>,
}

/// Compiles a JSON Schema of parameters.
///
/// # Errors
/// What is wrong with it.
fn compiled(schema: &Value) -> Result<Validator, String> {
    if !schema.is_object() {
        return Err("a schema of parameters is an object".to_owned());
    }
    jsonschema::validator_for(schema).map_err(|error| error.to_string())
}

/// Whether this is a JSON Schema that parameters can be checked by.
///
/// # Errors
/// What is wrong with it.
pub fn check_schema(schema: &Value) -> Result<(), String> {
    compiled(schema).map(|_| ())
}

impl Registry {
    /// The names of the built-in tools.
    pub const BUILTIN: [&str; 2] = ["calculator", "knowledge"];

    /// These tools; see [`Self::with`].
    #[must_use]
    pub fn new(tools: Vec<Arc<dyn Tool>>) -> Self {
        Self::default().with(tools)
    }

    /// These tools too. Of two with one name the first stays. A tool whose schema cannot be used is listed, and refuses
    /// every call with the reason, so that it does not take the others with it.
    #[must_use]
    pub fn with(mut self, tools: Vec<Arc<dyn Tool>>) -> Self {
        let known = &mut self.tools;
        for tool in tools {
            let spec = tool.spec();
            let schema = compiled(&spec.parameters);
            if let Err(error) = &schema {
                tracing::error!(tool = spec.name, error, "a tool's schema cannot be used");
            }
            if known.contains_key(&spec.name) {
                tracing::error!(tool = spec.name, "a second tool of this name is left out");
                continue;
            }
            known.insert(spec.name.clone(), Entry { spec, tool, schema });
        }
        self
    }

    /// The built-in tools.
    #[must_use]
    pub fn builtin(retriever: Arc<dyn Retriever>) -> Self {
        Self::new(vec![Arc::new(Knowledge::new(retriever)), Arc::new(Calculator)])
    }

    /// Runs a tool: checks the parameters, stops it at its timeout, and survives its panics. Never `Uncertain`: whoever
    /// records attempts decides that.
    ///
    /// Dropped, it stops the tool at its next `await`.
    pub async fn run(&self, run: ToolRun) -> Outcome {
        let Some(entry) = self.tools.get(&run.tool) else { return Outcome::Error(self.unknown(&run.tool)) };
        let faults = entry.faults(&run.parameters);
        if !faults.is_empty() {
            return Outcome::Error(bad_parameters(faults.join("; ")));
        }
        let tool = Arc::clone(&entry.tool);
        let call = Call { owner: run.owner, parameters: run.parameters, idempotency_key: run.idempotency_key };
        // A task of its own: a panic ends there, and a tool that does not await blocks no caller's select.
        let task = AbortOnDropHandle::new(tokio::spawn(trace::carried(async move { tool.run(call).await })));
        match timeout(entry.spec.timeout, task).await {
            Ok(Ok(Ok(result))) => Outcome::Success(result),
            Ok(Ok(Err(failure))) => Outcome::Error(failure),
            Ok(Err(error)) => {
                tracing::error!(tool = run.tool, %error, "a tool panicked");
                let text = format!("{} broke off by a fault of its own; the log has the details", run.tool);
                Outcome::Error(Failure::lasting("tool_panicked", text))
            }
            Err(_) => {
                let text = format!("{} ran longer than {:?} and was stopped", run.tool, entry.spec.timeout);
                Outcome::Timeout(Failure::lasting("tool_timeout", text))
            }
        }
    }

    fn unknown(&self, name: &str) -> Failure {
        let known = self.tools.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Failure::lasting("unknown_tool", format!("there is no tool {name:?}; there are: {known}"))
    }
}

impl ToolCatalog for Registry {
    fn list(&self) -> Vec<ToolSpec> {
        self.tools.values().map(|entry| entry.spec.clone()).collect()
    }

    fn find(&self, name: &str) -> Option<ToolSpec> {
        self.tools.get(name).map(|entry| entry.spec.clone())
    }

    fn check(&self, name: &str, parameters: &Value) -> Vec<String> {
        self.tools.get(name).map_or_else(|| vec![self.unknown(name).message], |entry| entry.faults(parameters))
    }
}

impl Entry {
    fn faults(&self, parameters: &Value) -> Vec<String> {
        if !parameters.is_object() {
            return vec!["parameters are a JSON object".to_owned()];
        }
        match &self.schema {
            Ok(schema) => schema.iter_errors(parameters).take(MAX_FAULTS).map(|error| fault(&error)).collect(),
            Err(error) => vec![format!("the schema of {} cannot be used: {error}", self.spec.name)],
        }
    }
}

/// A fault with its place, and without the value: that may be long.
fn fault(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let text = error.masked_with("the value").to_string();
    if place.is_empty() { text } else { format!("{}: {text}", place.trim_start_matches('/')) }
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use async_trait::async_trait;
    use lmao_ports::{SearchError, SearchRequest, SearchResults};
    use serde_json::json;

    use super::*;

    /// A tool that does what its parameter `does` says.
    #[derive(Debug, Default)]
    struct Moody {
        stopped: Arc<AtomicBool>,
    }

    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[async_trait]
    impl Tool for Moody {
        fn spec(&self) -> ToolSpec {
            ToolSpec {
                name: "moody".to_owned(),
                description: "Does as told.".to_owned(),
                capabilities: vec![],
                parameters: json!({ "type": "object", "required": ["does"] }),
                repeatable: false,
                timeout: Duration::from_millis(50),
            }
        }

        async fn run(&self, call: Call) -> Result<Value, Failure> {
            match call.parameters["does"].as_str() {
                Some("hang") => {
                    let _stopped = SetOnDrop(Arc::clone(&self.stopped));
                    future::pending().await
                }
                Some("panic") => panic!("in a mood"),
                Some("fail") => Err(Failure::passing("busy", "later")),
                _ => Ok(json!([call.owner, call.idempotency_key])),
            }
        }
    }

    #[derive(Debug)]
    struct Schemaless(&'static str);

    #[async_trait]
    impl Tool for Schemaless {
        fn spec(&self) -> ToolSpec {
            ToolSpec {
                name: self.0.to_owned(),
                description: String::new(),
                capabilities: vec![],
                parameters: json!({ "type": "no such type" }),
                repeatable: true,
                timeout: Duration::from_secs(1),
            }
        }

        async fn run(&self, _: Call) -> Result<Value, Failure> {
            Ok(json!("ran"))
        }
    }

    #[derive(Debug)]
    struct Nowhere;

    #[async_trait]
    impl Retriever for Nowhere {
        async fn search(&self, _: SearchRequest) -> Result<SearchResults, SearchError> {
            Ok(SearchResults::default())
        }
    }

    async fn run(registry: &Registry, tool: &str, parameters: Value) -> Outcome {
        let (owner, idempotency_key) = (Uuid::from_u128(1), Uuid::from_u128(2));
        registry.run(ToolRun { owner, tool: tool.to_owned(), parameters, idempotency_key }).await
    }

    fn moody() -> (Registry, Arc<AtomicBool>) {
        let tool = Moody::default();
        let stopped = Arc::clone(&tool.stopped);
        (Registry::new(vec![Arc::new(tool)]), stopped)
    }

    fn reason(outcome: &Outcome) -> &str {
        match outcome {
            Outcome::Success(_) => "success",
            Outcome::Error(failure) | Outcome::Timeout(failure) | Outcome::Uncertain(failure) => &failure.reason,
        }
    }

    #[tokio::test]
    async fn every_end_is_an_outcome() {
        let (registry, stopped) = moody();
        for (does, expected) in
            [("work", "success"), ("fail", "busy"), ("panic", "tool_panicked"), ("hang", "tool_timeout")]
        {
            assert_eq!(reason(&run(&registry, "moody", json!({ "does": does })).await), expected);
        }
        assert!(matches!(run(&registry, "moody", json!({ "does": "hang" })).await, Outcome::Timeout(_)));
        tokio::task::yield_now().await;
        assert!(stopped.load(Ordering::SeqCst), "a tool that ran too long is stopped");
        assert_eq!(reason(&run(&registry, "moody", json!({})).await), "bad_parameters");
        let unknown = run(&registry, "none", json!({})).await;
        assert!(matches!(&unknown, Outcome::Error(f) if f.reason == "unknown_tool" && f.message.contains("moody")));
    }

    #[tokio::test]
    async fn the_tool_is_told_who_and_which_call() {
        let outcome = run(&moody().0, "moody", json!({ "does": "work" })).await;
        assert_eq!(outcome, Outcome::Success(json!([Uuid::from_u128(1), Uuid::from_u128(2)])));
    }

    #[tokio::test]
    async fn dropping_the_run_stops_the_tool() {
        let (registry, stopped) = moody();
        {
            let running = run(&registry, "moody", json!({ "does": "hang" }));
            tokio::pin!(running);
            for _ in 0..3 {
                assert!(polled_once(running.as_mut()).await.is_none());
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert!(stopped.load(Ordering::SeqCst));
    }

    /// Polls once.
    async fn polled_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn a_bad_schema_costs_its_own_tool_only_and_the_first_of_a_name_stays() {
        let registry =
            Registry::new(vec![Arc::new(Schemaless("odd")), Arc::new(Moody::default()), Arc::new(Schemaless("moody"))]);
        assert_eq!(registry.list().len(), 2);
        assert_eq!(reason(&run(&registry, "odd", json!({})).await), "bad_parameters");
        assert_eq!(reason(&run(&registry, "moody", json!({ "does": "work" })).await), "success");
    }

    #[test]
    fn the_built_in_tools_are_listed_by_name_with_usable_schemas() {
        let registry = Registry::builtin(Arc::new(Nowhere));
        let names: Vec<String> = registry.list().into_iter().map(|spec| spec.name).collect();
        assert_eq!(names, Registry::BUILTIN);
        assert!(registry.tools.values().all(|entry| entry.schema.is_ok()));
        assert!(registry.check("calculator", &json!({ "expression": "1" })).is_empty());
        assert_eq!(registry.check("calculator", &json!({ "expression": 1, "x": 2 })).len(), 2);
        assert_eq!(registry.check("none", &json!({})).len(), 1);
        assert!(registry.find("knowledge").is_some() && registry.find("none").is_none());
    }
}
