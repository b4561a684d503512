//! A tool call owes the run of its tool; one that may not be repeated runs only in the process that began the attempt.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lmao_events::{
    Failure, Timestamp,
    tool_call::{Command, Effect, Outcome, Requested, ToolCall, uncertain},
};
use lmao_ports::Span;
use lmao_tools::ToolRun;
use tokio::time::Instant;
use uuid::Uuid;

use super::{EffectContext, Hands, Perform, Performed};
use crate::metrics;

/// The hands of tool calls, with the attempts that this process has begun.
#[derive(Debug)]
pub(crate) struct ToolWorld {
    hands: Hands,
    begun: Mutex<HashSet<Uuid>>,
}

impl ToolWorld {
    pub(crate) fn new(hands: Hands) -> Arc<Self> {
        Arc::new(Self { hands, begun: Mutex::default() })
    }

    async fn run(&self, context: &EffectContext, requested: Requested) -> Performed<ToolCall> {
        // Never closed while the runtime lives.
        let _permit = self.hands.runs.acquire().await;
        let begun = Instant::now();
        let outcome = self.call(context, requested).await;
        self.ended(context, outcome, begun.elapsed())
    }

    /// Runs an attempt of this process, never past its deadline: after that it may be declared uncertain.
    async fn attempt(&self, context: &EffectContext, requested: Requested, deadline: Timestamp) -> Performed<ToolCall> {
        let begun = Instant::now();
        let stopped = Failure::lasting("timeout", "the tool did not end in time and was stopped");
        let run = async {
            let _permit = self.hands.runs.acquire().await;
            self.call(context, requested).await
        };
        let left = deadline.since(self.hands.clock.now());
        if left.is_zero() {
            let failure = Failure::lasting("not_started", "the tool could not be started in time and did not run");
            return self.ended(context, Outcome::Error(failure), Duration::ZERO);
        }
        let outcome = tokio::time::timeout(left, run).await.unwrap_or(Outcome::Timeout(stopped));
        self.ended(context, outcome, begun.elapsed())
    }

    async fn call(&self, context: &EffectContext, requested: Requested) -> Outcome {
        let run = ToolRun {
            owner: requested.owner,
            tool: requested.tool,
            parameters: requested.parameters,
            // The call's own id and not the effect's: that one is another at each attempt.
            idempotency_key: context.stream.id,
        };
        let (tool, begun) = (run.tool.clone(), Instant::now());
        let span = Span::here(|| format!("execute_tool {tool}").into());
        span.set_with("gen_ai.tool.name", || tool.clone());
        let outcome = span.run(self.hands.world.tools.run(run)).await;
        let ended = match &outcome {
            Outcome::Success(_) => "success",
            Outcome::Error(_) => "error",
            Outcome::Timeout(_) => "timeout",
            Outcome::Uncertain(_) => "uncertain",
        };
        if ended != "success" {
            span.fail(ended);
        }
        metrics::called(&tool, ended, begun.elapsed());
        outcome
    }

    fn ended(&self, context: &EffectContext, outcome: Outcome, took: Duration) -> Performed<ToolCall> {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Performed::Record(Command::RecordOutcome { effect: context.id, outcome, millis, at: self.hands.clock.now() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Uuid>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Perform<ToolCall> for ToolWorld {
    async fn perform(&self, context: EffectContext, effect: Effect) -> Performed<ToolCall> {
        match effect {
            Effect::Run(requested) => self.run(&context, requested).await,
            Effect::Begin(requested) => {
                let now = self.hands.clock.now();
                let attempt = self.hands.entropy.id(now);
                let deadline = now.after(Duration::from_millis(requested.timeout_millis));
                self.lock().insert(attempt);
                Performed::Record(Command::BeginAttempt { effect: context.id, attempt, deadline })
            }
            Effect::RunAttempt { requested, attempt, deadline } => {
                // Taken out before it runs, so that it runs once; another process's attempt is left to its deadline.
                if !self.lock().remove(&attempt) {
                    return Performed::Handed;
                }
                self.attempt(&context, requested, deadline).await
            }
            Effect::GiveUp => self.ended(&context, uncertain(), Duration::ZERO),
        }
    }
}
