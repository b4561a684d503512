//! A workflow owes the run of its tasks, and then its outcome to the session.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use lmao_events::{
    Answer, AnyEvent, Category, Failure, StreamId, Version,
    session::{self, Event as SessionEvent},
    workflow::{
        Command, Effect, Ended, Event as WorkflowEvent, Outcome, PassageRef, RunEnd, Started, Task, TaskCompleted,
        TaskKind, TaskResult, Workflow,
    },
};
use lmao_ports::{
    ChatMessage, ChatRole, CommandMeta, Explain, Frame, Hit, Intent, SearchError, SearchFilter, SearchRequest,
    SearchType, Span, TokenSink,
};
use lmao_retrieval::answer::{Question, leans_on_conversation, small_talk};
use tokio::time::Instant;

use super::{EffectContext, Hands, Perform, Performed, Sent, UNTIL_UNPARKED, session::workflow_parked};

/// Messages before the question that the answer may consider.
const HISTORY: usize = 8;
/// Versions of the session to look for them in.
const HISTORY_VERSIONS: u64 = 24;
/// How much unlikeness counts when passages are chosen for an answer: three that say the same leave no room for a fourth. At
/// 0.3 the ranking loses a seventh of its nDCG on Cranfield, at 0.15 a thirtieth.
const DIVERSITY: f32 = 0.15;

#[async_trait]
impl Perform<Workflow> for Hands {
    async fn perform(&self, context: EffectContext, effect: Effect) -> Performed<Workflow> {
        match effect {
            Effect::Run { started, tasks, completed } => {
                // Never closed while the runtime lives.
                let _permit = self.runs.acquire().await;
                let (completed, end) = self.run(&started, &tasks, &completed).await;
                Performed::Record(Command::RecordRun { effect: context.id, completed, end, at: self.clock.now() })
            }
            Effect::Deliver(ended) => self.deliver(&context, *ended).await,
        }
    }

    async fn parked(&self, stream: StreamId, reason: &str) {
        self.tell_of_parking(stream, reason).await;
    }
}

/// What the tasks have found so far.
#[derive(Default)]
struct Findings {
    hits: Vec<Hit>,
    intent: Intent,
    notices: Vec<String>,
    /// The question as the search made it stand alone.
    standalone: Option<String>,
    /// The messages before the question, once they were read.
    history: Option<Vec<ChatMessage>>,
}

impl Hands {
    /// Carries out `tasks` in order; those in `before` are done and run again only for what they found.
    async fn run(&self, started: &Started, tasks: &[Task], before: &[TaskCompleted]) -> (Vec<TaskCompleted>, RunEnd) {
        let mut findings = Findings::default();
        for done in before {
            if let TaskResult::Retrieved { notices, .. } = &done.result {
                // The passages' texts are in the index, not in the event.
                if let Err(failure) = self.retrieve(started, &started.query, done, &mut findings).await {
                    return (vec![], RunEnd::Failed { task: done.task, failure });
                }
                findings.notices.clone_from(notices);
            }
        }
        let mut completed = Vec::new();
        for task in tasks {
            let begun = Instant::now();
            let outcome = match &task.kind {
                TaskKind::Retrieve { query, max_results } => {
                    self.status(started, "retrieving", "searching your documents");
                    self.search(started, query, *max_results, &mut findings).await.map(|()| {
                        let passages = findings.hits.iter().map(passage).collect();
                        (TaskResult::Retrieved { passages, notices: findings.notices.clone() }, None)
                    })
                }
                TaskKind::Synthesize => {
                    self.status(started, "synthesizing", "writing the answer");
                    let answer = self.answer(started, std::mem::take(&mut findings)).await;
                    answer.map(|answer| (TaskResult::Synthesized, Some(answer)))
                }
            };
            match outcome {
                Ok((result, answer)) => {
                    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    completed.push(TaskCompleted { task: task.id, result, millis });
                    if let Some(answer) = answer {
                        return (completed, RunEnd::Answered(Box::new(answer)));
                    }
                }
                Err(failure) => return (completed, RunEnd::Failed { task: task.id, failure }),
            }
        }
        let task = tasks.last().map_or(lmao_events::workflow::TaskId(0), |task| task.id);
        (completed, RunEnd::Failed { task, failure: Failure::lasting("empty_plan", "the plan ends without an answer") })
    }

    async fn retrieve(
        &self,
        started: &Started,
        query: &str,
        done: &TaskCompleted,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let TaskResult::Retrieved { passages, .. } = &done.result else { return Ok(()) };
        let wanted = u32::try_from(passages.len().max(1)).unwrap_or(1);
        self.search(started, query, wanted, findings).await
    }

    /// Searches the owner's documents, unless there is nothing to look for.
    async fn search(
        &self,
        started: &Started,
        query: &str,
        wanted: u32,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        if small_talk(query).is_some() {
            findings.intent = Intent::ChitChat;
            return Ok(());
        }
        let filter = SearchFilter::all_of(started.owner);
        let mut request = SearchRequest::new(query.to_owned(), filter, wanted as usize, SearchType::Hybrid);
        request.diversity = Some(DIVERSITY);
        // A question that stands alone costs no look at the log.
        if leans_on_conversation(query) {
            match self.history(started).await {
                Ok(history) => {
                    // Only the explanation says what was searched for.
                    request.explain = if history.is_empty() { Explain::No } else { Explain::Yes };
                    request.conversation.clone_from(&history);
                    findings.history = Some(history);
                }
                Err(failure) => tracing::warn!(reason = failure.message, "searched without the conversation"),
            }
        }
        match self.world.retriever.search(request).await {
            Ok(results) => {
                findings.hits = results.hits;
                findings.intent = results.intent;
                findings.notices = results.notices;
                let rewritten = results.explained.map(|explained| explained.rewritten);
                findings.standalone = rewritten.filter(|rewritten| !rewritten.is_empty());
                Ok(())
            }
            Err(SearchError::Invalid(message)) => Err(Failure::lasting("invalid_query", message)),
            Err(error) => Err(Failure::passing("search_unavailable", error.to_string())),
        }
    }

    async fn answer(&self, started: &Started, findings: Findings) -> Result<Answer, Failure> {
        let Findings { hits, intent, notices, standalone, history } = findings;
        let history = match history {
            _ if !self.world.answerer.needs_history() => vec![],
            Some(history) => history,
            None => self.history(started).await?,
        };
        let question = Question { query: started.query.clone(), standalone, history, hits, intent, notices };
        let span = Span::here(|| "answer".into());
        let answer = span.run(self.world.answerer.answer(question, self.sink(started))).await;
        if let Err(failure) = &answer {
            span.fail(failure.message.clone());
        }
        answer
    }

    /// The messages before the question, oldest first.
    async fn history(&self, started: &Started) -> Result<Vec<ChatMessage>, Failure> {
        if started.asked_at <= Version(1) {
            return Ok(vec![]);
        }
        // Nearly every commit of a session holds one message: looking further back is the exception.
        let messages = self.messages_before(started, HISTORY as u64).await?;
        let more = messages.len() < HISTORY && started.asked_at.0 > HISTORY as u64 + 1;
        let mut messages = if more { self.messages_before(started, HISTORY_VERSIONS).await? } else { messages };
        let surplus = messages.len().saturating_sub(HISTORY);
        messages.drain(..surplus);
        Ok(messages)
    }

    /// The messages in the session's last so many versions before the question.
    async fn messages_before(&self, started: &Started, versions: u64) -> Result<Vec<ChatMessage>, Failure> {
        let from = Version(started.asked_at.0.saturating_sub(versions).max(1));
        let mut commits = self.journal.read(session_stream(started), from);
        let mut messages = Vec::new();
        while let Some(commit) = commits.next().await {
            let commit = commit.map_err(|error| Failure::passing("history_unavailable", error.to_string()))?;
            if commit.header.version >= started.asked_at {
                break;
            }
            for event in commit.events.unwrap_or_default() {
                match event {
                    AnyEvent::Session(SessionEvent::MessageReceived(message)) => {
                        messages.push(ChatMessage { role: ChatRole::User, content: message.content });
                    }
                    AnyEvent::Session(SessionEvent::ReplyCompleted(reply)) => {
                        messages.push(ChatMessage { role: ChatRole::Assistant, content: reply.answer.text });
                    }
                    _ => {}
                }
            }
        }
        Ok(messages)
    }

    fn sink(&self, started: &Started) -> TokenSink {
        let (live, topic, message_id) = (Arc::clone(&self.live), session_stream(started), started.message_id);
        let mut n = 0;
        Box::new(move |text: &str| {
            live.publish(topic, Frame::Token { message_id, n, text: text.to_owned() });
            n += 1;
        })
    }

    fn status(&self, started: &Started, state: &str, text: &str) {
        self.text_frame(session_stream(started), started.message_id, state, text);
    }

    /// Tells the session that waits for a workflow which was set aside. When that fails, or the workflow's beginning cannot
    /// be read, the session learns it when it is woken and starts the workflow again.
    async fn tell_of_parking(&self, stream: StreamId, reason: &str) {
        let Some(Ok(first)) = self.journal.read(stream, Version(1)).next().await else { return };
        let started = first.events.into_iter().flatten().find_map(|event| match event {
            AnyEvent::Workflow(WorkflowEvent::Started(started)) => Some(started),
            _ => None,
        });
        let Some(started) = started else { return };
        let meta = CommandMeta {
            who: None,
            command: None,
            causation: first.header.id.0,
            correlation: first.header.correlation,
            traceparent: first.header.traceparent.clone(),
        };
        let told = self.tell(session_stream(&started), workflow_parked(started.message_id, reason), &meta).await;
        if let Sent::Refused(reason) = told {
            tracing::debug!(%stream, reason, "the session waits for it no more");
        }
    }

    async fn deliver(&self, context: &EffectContext, ended: Ended) -> Performed<Workflow> {
        let Ended { started, outcome, tasks_completed, millis, .. } = ended;
        let message_id = started.message_id;
        let command = match outcome {
            Outcome::Answered(answer) => {
                session::Command::CompleteReply { message_id, answer: Box::new(answer), tasks_completed, millis }
            }
            Outcome::Failed(failure) => session::Command::FailReply { message_id, failure, millis },
        };
        match self.tell(session_stream(&started), command, &context.meta).await {
            Sent::Done => Performed::Record(Command::RecordDelivery),
            Sent::Parked(_) => Performed::Later(UNTIL_UNPARKED),
            Sent::Later(pause) => Performed::Later(pause),
            Sent::Refused(reason) => {
                tracing::warn!(stream = %context.stream, reason, "the session does not take the outcome");
                Performed::Record(Command::RecordDelivery)
            }
        }
    }
}

fn session_stream(started: &Started) -> StreamId {
    StreamId::new(Category::Session, started.session_id)
}

fn passage(hit: &Hit) -> PassageRef {
    PassageRef { document_id: hit.document_id, chunk_id: hit.chunk_id, score: hit.score }
}
