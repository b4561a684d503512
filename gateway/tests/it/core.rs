//! A core in memory, for what the gateway itself promises: the real deciders over plain vectors, effects carried out at
//! once. Not durable, not concurrent: what needs that is tested end to end, against the real one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use lmao_events::{
    Answer, AnyCommand, AnyEvent, BlobRef, Category, CommandRef, CommitId, ContentHash, Decider, Failure, Hash, Head,
    Header, Owes, Place, Position, StreamId, Timestamp, Version, claim,
    document::{self, Chunked, Document, EmbeddingSkipped, Extracted, StepOutcome},
    session::{self, Session},
    tool_call::{self, ToolCall},
    user::{self, User, claim_of},
    workflow::{self, no_context},
};
use lmao_ports::{
    CommandError, CommandMeta, Commands, Committed, Filter, Folder, Frame, Journal, Live, ReadError, Receipt,
    Unavailable,
};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use crate::ports::{Channels, Kept, TestClock};

/// Says what the answerer and the steps do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// They succeed.
    #[default]
    Well,
    /// They fail for good.
    Failing,
    /// They never end.
    Silent,
}

#[derive(Debug, Default)]
struct Stored {
    commits: Vec<Committed>,
    commands: HashMap<(StreamId, Uuid), (CommandRef, Head)>,
}

/// Commands and journal.
#[derive(Debug)]
pub(crate) struct Core {
    stored: Mutex<Stored>,
    pub(crate) mood: Mutex<Mood>,
    pub(crate) keyed_ids: Mutex<Option<[u8; 32]>>,
    /// What every command is answered with, when it is not carried out.
    pub(crate) refuse: Mutex<Option<fn() -> CommandError>>,
    /// Whether reading a stream never ends.
    pub(crate) is_stuck: AtomicBool,
    end: watch::Sender<Position>,
    live: Arc<Channels>,
    clock: Arc<TestClock>,
    files: Kept,
}

macro_rules! dispatch {
    ($self:ident, $stream:ident, $command:ident, $meta:ident, { $($category:ident => $decider:ty),* $(,)? }) => {
        match $command {
            $(AnyCommand::$category(command) => $self.decide::<$decider>(
                $stream,
                command,
                $meta,
                AnyEvent::$category,
                |event| match event { AnyEvent::$category(event) => Some(event), _ => None },
            ),)*
        }
    };
}

impl Core {
    pub(crate) fn new(live: Arc<Channels>, clock: Arc<TestClock>, files: Kept) -> Arc<Self> {
        Arc::new(Self {
            stored: Mutex::default(),
            mood: Mutex::default(),
            keyed_ids: Mutex::default(),
            refuse: Mutex::default(),
            is_stuck: AtomicBool::default(),
            end: watch::Sender::new(Position(0)),
            live,
            clock,
            files,
        })
    }

    fn of(&self, stream: StreamId) -> Vec<Committed> {
        let stored = self.stored.lock().unwrap();
        stored.commits.iter().filter(|commit| commit.header.stream == stream).cloned().collect()
    }

    fn decide<D: Decider>(
        &self,
        stream: StreamId,
        command: D::Command,
        meta: &CommandMeta,
        wrap: fn(D::Event) -> AnyEvent,
        unwrap: fn(&AnyEvent) -> Option<&D::Event>,
    ) -> Result<Receipt, CommandError> {
        let history = self.of(stream);
        let mut state = D::State::default();
        let mut head = Head::default();
        for commit in &history {
            for (index, event) in (0..).zip(commit.events.as_ref().unwrap()) {
                let place = Place { version: commit.header.version, index, time: commit.header.time };
                state = D::evolve(state, unwrap(event).unwrap(), place).unwrap();
            }
            head = Head { version: commit.header.version, position: commit.position, hash: commit.hash };
        }
        let mut stored = self.stored.lock().unwrap();
        if let Some(command) = meta.command
            && let Some((known, head)) = stored.commands.get(&(stream, command.id))
        {
            return if known.body == command.body {
                Ok(Receipt { head: *head, repeated: true })
            } else {
                Err(CommandError::KeyReused)
            };
        }
        let key = D::owner(&state).or_else(|| D::owner_of(&command)).unwrap_or_default();
        let events = D::decide(&state, command)?;
        if events.is_empty() {
            return Ok(Receipt { head, repeated: true });
        }
        let position = Position(stored.commits.len() as u64 + 1);
        let header = Header {
            id: CommitId(Uuid::from_u128(u128::from(position.0))),
            stream,
            version: head.version.next(),
            codec: 1,
            time: Timestamp(self.clock.now_micros()),
            who: meta.who,
            key,
            causation: meta.causation,
            correlation: meta.correlation,
            traceparent: meta.traceparent.clone(),
            prev: head.hash,
            owes: Owes::Nothing,
        };
        let hash = Hash::of(&position.0.to_be_bytes());
        let head = Head { version: header.version, position, hash };
        let events = Ok(events.into_iter().map(wrap).collect());
        stored.commits.push(Committed { position, hash, header, events });
        if let Some(command) = meta.command {
            stored.commands.insert((stream, command.id), (command, head));
        }
        drop(stored);
        self.end.send_replace(position);
        self.live.publish(stream, Frame::Committed { position });
        Ok(Receipt { head, repeated: false })
    }

    fn carry_out(&self, stream: StreamId, command: AnyCommand, meta: &CommandMeta) -> Result<Receipt, CommandError> {
        dispatch!(self, stream, command, meta, {
            Session => Session,
            Workflow => workflow::Workflow,
            ToolCall => ToolCall,
            Document => Document,
            User => User,
            Claim => claim::Claim,
        })
    }

    fn state<D: Decider>(&self, stream: StreamId, unwrap: fn(&AnyEvent) -> Option<&D::Event>) -> D::State {
        let mut state = D::State::default();
        for commit in self.of(stream) {
            for (index, event) in (0..).zip(commit.events.as_ref().unwrap()) {
                let place = Place { version: commit.header.version, index, time: commit.header.time };
                state = D::evolve(state, unwrap(event).unwrap(), place).unwrap();
            }
        }
        state
    }

    /// Does what the stream owes, until it owes nothing.
    fn settle(&self, stream: StreamId, meta: &CommandMeta) {
        let meta = CommandMeta { command: None, ..meta.clone() };
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Silent && stream.category != Category::User {
            return;
        }
        while let Some((to, command)) = self.next(stream, mood) {
            self.carry_out(to, command, &meta).unwrap();
        }
    }

    fn next(&self, stream: StreamId, mood: Mood) -> Option<(StreamId, AnyCommand)> {
        let failure = Failure::lasting("out_of_order", "the machine is out of order");
        let at = Timestamp(self.clock.now_micros());
        let command = match stream.category {
            Category::Session => {
                let state =
                    self.state::<Session>(stream, |e| if let AnyEvent::Session(e) = e { Some(e) } else { None });
                let owed = Session::pending(&state).into_iter().next()?;
                self.start(stream, &owed.effect);
                self.live.publish(
                    stream,
                    Frame::Token { message_id: owed.effect.message_id, n: 0, text: "You ".to_owned() },
                );
                answer(&owed.effect, mood, failure).into()
            }
            Category::User => {
                let state = self.state::<User>(stream, |e| if let AnyEvent::User(e) = e { Some(e) } else { None });
                let owed = User::pending(&state).into_iter().next()?;
                self.claim(owed.id, &owed.effect).into()
            }
            Category::Document => {
                let state =
                    self.state::<Document>(stream, |e| if let AnyEvent::Document(e) = e { Some(e) } else { None });
                let owed = Document::pending(&state).into_iter().next()?;
                if let document::Effect::RemoveBlobs { owner, attempt } = owed.effect {
                    let removed = Folder { owner, document: stream.id, attempt };
                    self.files.lock().unwrap().retain(|(folder, _), _| *folder != removed);
                }
                document::Command::RecordStep { effect: owed.id, outcome: step(&owed.effect, mood, failure), at }.into()
            }
            Category::ToolCall => {
                let state =
                    self.state::<ToolCall>(stream, |e| if let AnyEvent::ToolCall(e) = e { Some(e) } else { None });
                let owed = ToolCall::pending(&state).into_iter().next()?;
                let outcome = match mood {
                    Mood::Failing => tool_call::Outcome::Error(failure),
                    _ => tool_call::Outcome::Success(json!({ "value": 4 })),
                };
                tool_call::Command::RecordOutcome { effect: owed.id, outcome, millis: 3, at }.into()
            }
            Category::Workflow | Category::Claim => return None,
        };
        Some((stream, command))
    }

    fn claim(&self, effect: lmao_events::EffectId, owed: &user::Effect) -> user::Command {
        let key = self.keyed_ids.lock().unwrap().unwrap();
        let (field, value, holder, claim) = match owed {
            user::Effect::Claim { field, value, holder } => {
                (field, value, holder, claim::Command::Claim { holder: *holder })
            }
            user::Effect::Release { field, value, holder } => {
                (field, value, holder, claim::Command::Release { holder: *holder })
            }
        };
        let done = self.carry_out(claim_of(&key, *field, value), claim.into(), &meta(*holder));
        match owed {
            user::Effect::Claim { .. } => user::Command::RecordClaim { effect, granted: done.is_ok() },
            user::Effect::Release { .. } => user::Command::RecordRelease { effect },
        }
    }

    /// Records that the workflow was started, as the log would have it.
    fn start(&self, session: StreamId, owed: &session::Effect) {
        let started = workflow::Started {
            owner: owed.owner,
            session_id: session.id,
            message_id: owed.message_id,
            asked_at: self.of(session).last().unwrap().header.version,
            query: owed.content.clone(),
            context: owed.context.clone(),
        };
        let stream = StreamId::new(Category::Workflow, owed.workflow_id);
        self.carry_out(stream, workflow::Command::Start(started).into(), &meta(owed.owner)).unwrap();
    }

    /// Forgets the commands, as an actor does after a while.
    pub(crate) fn forget_commands(&self) {
        self.stored.lock().unwrap().commands.clear();
    }

    pub(crate) fn count(&self, category: Category) -> usize {
        let stored = self.stored.lock().unwrap();
        stored.commits.iter().filter(|commit| commit.header.stream.category == category).count()
    }
}

fn meta(who: Uuid) -> CommandMeta {
    let nil = Uuid::nil();
    CommandMeta { who: Some(who), command: None, causation: nil, correlation: nil, traceparent: None }
}

fn answer(owed: &session::Effect, mood: Mood, failure: Failure) -> session::Command {
    let message_id = owed.message_id;
    if mood == Mood::Failing {
        return session::Command::FailReply { message_id, failure, millis: 5 };
    }
    assert!(owed.context == no_context() || owed.context["k"] == 1);
    let answer = Answer {
        text: format!("You said: {}", owed.content),
        citations: vec![],
        model: "parrot".to_owned(),
        usage: None,
        grounded: true,
        notices: vec![],
    };
    session::Command::CompleteReply { message_id, answer: Box::new(answer), tasks_completed: 2, millis: 5 }
}

fn step(owed: &document::Effect, mood: Mood, failure: Failure) -> StepOutcome {
    let blob = BlobRef { sha256: ContentHash([1; 32]), size: 1 };
    match owed {
        document::Effect::RemoveBlobs { .. } => StepOutcome::BlobsRemoved,
        _ if mood == Mood::Failing => StepOutcome::Failed(failure),
        document::Effect::Extract { .. } => StepOutcome::Extracted(Extracted {
            text: blob,
            format: "text".to_owned(),
            title: None,
            pages: None,
            language: None,
            words: 3,
            warnings: vec![],
            authors: vec![],
            written: None,
            tags: vec![],
        }),
        document::Effect::Chunk { .. } => StepOutcome::Chunked(Chunked { batches: vec![blob], chunks: 2 }),
        document::Effect::Embed { .. } => {
            StepOutcome::EmbeddingSkipped(EmbeddingSkipped { reason: "there is no model".to_owned() })
        }
        document::Effect::AwaitIndexed => StepOutcome::Indexed,
    }
}

#[async_trait]
impl Commands for Core {
    async fn send(&self, stream: StreamId, command: AnyCommand, meta: CommandMeta) -> Result<Receipt, CommandError> {
        if let Some(refuse) = *self.refuse.lock().unwrap() {
            return Err(refuse());
        }
        let receipt = self.carry_out(stream, command, &meta)?;
        self.settle(stream, &meta);
        Ok(receipt)
    }

    async fn parked(&self) -> Result<Vec<(StreamId, String)>, Unavailable> {
        Ok(vec![])
    }

    async fn unpark(&self, _: StreamId) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[async_trait]
impl Journal for Core {
    fn read(&self, stream: StreamId, from: Version) -> BoxStream<'static, Result<Committed, ReadError>> {
        if self.is_stuck.load(Ordering::SeqCst) {
            return futures::stream::pending().boxed();
        }
        let commits = self.of(stream).into_iter().filter(move |commit| commit.header.version >= from).map(Ok);
        futures::stream::iter(commits.collect::<Vec<_>>()).boxed()
    }

    fn follow(&self, after: Position, filter: Filter) -> BoxStream<'static, Result<Committed, ReadError>> {
        let commits: Vec<_> = self.stored.lock().unwrap().commits.clone();
        let fits = move |commit: &Committed| commit.position > after && filter.matches(&commit.header.stream);
        let stored = commits.into_iter().filter(fits).map(Ok).collect::<Vec<_>>();
        futures::stream::iter(stored).chain(futures::stream::pending()).boxed()
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        Ok(*self.end.borrow())
    }

    fn log_id(&self) -> Uuid {
        Uuid::from_u128(0x106)
    }
}
