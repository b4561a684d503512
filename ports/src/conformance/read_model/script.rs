//! The scripted history: two people, a conversation, tool calls, and documents at every step of their way.

use std::collections::HashMap;

use lmao_events::{
    AnyEvent, Category, Failure, StreamId, Timestamp, Version, claim, document, session, tool_call, user, workflow,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::conformance::fixtures::{History, answer, blob, id, time};

pub(super) const ADA: Uuid = id(1);
pub(super) const BOB: Uuid = id(2);
/// Ada's session.
pub(super) const CHAT: Uuid = id(10);

/// A history and the moments that the suite asks for.
pub(super) struct Script {
    pub(super) history: History,
    moments: HashMap<&'static str, Timestamp>,
}

impl Script {
    pub(super) fn new() -> Self {
        let mut script = Self { history: History::default(), moments: HashMap::new() };
        script.accounts();
        script.conversation();
        script.tool_calls();
        script.documents();
        script
    }

    /// When this happened.
    pub(super) fn at(&self, moment: &str) -> Timestamp {
        self.moments[moment]
    }

    /// A message with this number.
    pub(super) fn message(n: u128, content: &str, context: Value) -> AnyEvent {
        let content = content.to_owned();
        AnyEvent::Session(session::MessageReceived { message_id: id(n), content, context }.into())
    }

    /// The last commit was this.
    fn mark(&mut self, moment: &'static str) {
        if let Some(commit) = self.history.commits.last() {
            self.moments.insert(moment, commit.header.time);
        }
    }

    fn user(&mut self, n: u128, events: impl IntoIterator<Item = user::Event>) {
        let stream = StreamId::new(Category::User, id(n));
        self.history.commit(stream, events.into_iter().map(AnyEvent::User));
    }

    fn register(&mut self, n: u128, username: &str, role: user::Role) {
        let email = format!("{username}@example.org");
        self.user(n, [user::Registered { id: id(n), username: username.to_owned(), email, role }.into()]);
    }

    fn activate(&mut self, n: u128) {
        self.user(n, [user::ClaimGranted { field: user::Field::Username }.into()]);
        self.user(n, [user::ClaimGranted { field: user::Field::Email }.into(), user::Activated {}.into()]);
    }

    fn accounts(&mut self) {
        self.register(1, "ada", user::Role::Admin);
        self.mark("ada registers");
        // At the same time, somebody else asks for the same name.
        self.register(3, "ada", user::Role::User);
        self.activate(1);
        self.user(3, [user::RegistrationRefused { field: user::Field::Username }.into()]);
        self.user(3, [user::ClaimReleased { field: user::Field::Username }.into()]);
        self.register(2, "bob", user::Role::User);
        self.activate(2);
        self.user(1, [user::LoggedIn {}.into()]);
        self.mark("ada logs in");
        self.register(4, "eve", user::Role::User);
        let claimed = claim::Claimed { holder: ADA };
        self.history.commit(StreamId::new(Category::Claim, id(90)), [AnyEvent::Claim(claimed.into())]);
    }

    fn conversation(&mut self) {
        let chat = StreamId::new(Category::Session, CHAT);
        let run = StreamId::new(Category::Workflow, session::workflow_of(id(11)));
        let opened = AnyEvent::Session(session::Opened { owner: ADA }.into());
        self.history.commit(chat, [opened, Self::message(11, "Who owns\na value?", json!({}))]);
        self.mark("ada asks");
        let started = workflow::Started {
            owner: ADA,
            session_id: CHAT,
            message_id: id(11),
            asked_at: Version(1),
            query: "Who owns a value?".to_owned(),
            context: json!({}),
        };
        self.history.commit(run, [AnyEvent::Workflow(started.into())]);
        let text = "Each value has an owner [1].";
        let written = workflow::AnswerSynthesized { answer: answer(text) };
        self.history.commit(run, [AnyEvent::Workflow(written.into())]);
        let completed =
            session::ReplyCompleted { message_id: id(11), answer: answer(text), tasks_completed: 2, millis: 1500 };
        self.history.commit(chat, [AnyEvent::Session(completed.into())]);
        self.history.commit(run, [AnyEvent::Workflow(workflow::ReplyDelivered {}.into())]);
        self.history.commit(chat, [Self::message(12, "And now?", json!({ "timezone": "UTC" }))]);
        let failure = Failure::passing("llm_unreachable", "it does not answer");
        let failed = session::ReplyFailed { message_id: id(12), failure, millis: 30_000 };
        self.history.commit(chat, [AnyEvent::Session(failed.into())]);
        self.mark("no answer");
    }

    fn call(&mut self, n: u128, events: impl IntoIterator<Item = tool_call::Event>) {
        let stream = StreamId::new(Category::ToolCall, id(n));
        self.history.commit(stream, events.into_iter().map(AnyEvent::ToolCall));
    }

    fn tool_calls(&mut self) {
        let requested = |session_id| tool_call::Requested {
            owner: ADA,
            session_id,
            tool: "calculator".to_owned(),
            parameters: json!({ "expression": "6 * 7" }),
            repeatable: true,
            timeout_millis: 5000,
        };
        let finished = |outcome, millis| tool_call::Event::from(tool_call::Finished { outcome, millis });
        self.call(21, [requested(Some(CHAT)).into()]);
        self.call(21, [finished(tool_call::Outcome::Success(json!({ "value": 42 })), 250)]);
        self.call(22, [requested(None).into()]);
        let failure = Failure::passing("busy", "the tool is busy");
        self.call(22, [tool_call::AttemptFailed { failure: failure.clone(), retry_at: time(1) }.into()]);
        self.call(22, [finished(tool_call::Outcome::Timeout(failure.clone()), 5000)]);
        self.call(23, [requested(Some(CHAT)).into(), finished(tool_call::Outcome::Error(failure), 1)]);
        self.call(24, [requested(None).into(), finished(tool_call::uncertain(), 0)]);
        self.call(25, [requested(None).into()]);
    }

    fn document(&mut self, n: u8, events: impl IntoIterator<Item = document::Event>) {
        let stream = StreamId::new(Category::Document, id(u128::from(n)));
        self.history.commit(stream, events.into_iter().map(AnyEvent::Document));
    }

    fn upload(&mut self, n: u8, filename: &str, metadata: Value) {
        let filename = filename.to_owned();
        self.document(
            n,
            [document::Uploaded { owner: ADA, filename, content: blob(n), metadata, attempt: None }.into()],
        );
    }

    fn documents(&mut self) {
        self.upload(31, "ownership.html", json!({ "source": "book" }));
        self.mark("ada uploads");
        self.embedded(31, 2, Some("small-q8"));
        self.document(31, [document::Indexed {}.into()]);
        self.mark("indexed");

        let encrypted = Failure::lasting("encrypted_pdf", "the file asks for a password");
        let failed = document::Failed { step: document::Step::Extract, failure: encrypted };
        self.upload(32, "locked.PDF", json!({}));
        self.document(32, [failed.clone().into()]);
        self.upload(33, "again.pdf", json!({}));
        self.document(33, [failed.into()]);
        self.document(33, [document::RetryRequested {}.into()]);

        let failure = Failure::passing("busy", "try later");
        let retry = document::StepFailed { step: document::Step::Extract, failure, retry_at: time(9) };
        self.upload(34, "no extension", json!({}));
        self.document(34, [retry.clone().into()]);

        self.upload(35, "deleted.txt", json!({}));
        self.document(35, [document::Deleted {}.into()]);
        self.document(35, [document::StepFailed { step: document::Step::RemoveBlobs, ..retry }.into()]);
        self.document(35, [document::BlobsRemoved {}.into()]);
        self.upload(36, "first.txt", json!({ "first": true }));
        self.document(36, [document::Deleted {}.into()]);
        self.document(36, [document::BlobsRemoved {}.into()]);
        self.upload(36, "second.txt", json!({}));

        self.upload(37, "reembedded.txt", json!({}));
        self.embedded(37, 1, Some("small-q8"));
        self.document(37, [document::Indexed {}.into()]);
        self.document(37, [document::ReembedRequested {}.into()]);
        self.upload(38, "words.txt", json!({}));
        self.embedded(38, 1, None);
        self.document(38, [document::Indexed {}.into()]);
    }

    /// From text to published passages; without a model, without vectors.
    fn embedded(&mut self, n: u8, batches: u8, model: Option<&str>) {
        let extracted = document::Extracted {
            text: blob(n + 100),
            format: "html".to_owned(),
            title: Some("Ownership".to_owned()),
            pages: Some(12),
            language: Some("en".to_owned()),
            words: 900,
            warnings: vec!["page 3 has no text".to_owned()],
            authors: vec![],
            written: None,
            tags: vec![],
        };
        self.document(n, [extracted.into()]);
        let blobs: Vec<_> = (0..batches).map(|batch| blob(200 + batch)).collect();
        let chunks = u32::from(batches) * 35;
        self.document(n, [document::Chunked { batches: blobs.clone(), chunks }.into()]);
        let published = document::Published {
            owner: ADA,
            filename: "ownership.html".to_owned(),
            format: "html".to_owned(),
            language: Some("en".to_owned()),
            metadata: json!({}),
            uploaded_at: time(0),
            chunks,
            batches: blobs,
            vectors: vec![],
            model: model.map(str::to_owned),
            attempt: None,
            title: None,
            authors: vec![],
            tags: vec![],
            domain_vectors: vec![],
            domain_model: None,
        };
        let Some(model) = model else {
            let skipped = document::EmbeddingSkipped { reason: "there is no model".to_owned() };
            return self.document(n, [skipped.into(), published.into()]);
        };
        for batch in 0..batches {
            let (batch, vectors, model) = (u32::from(batch), blob(220 + batch), model.to_owned());
            let embedded = document::Embedded { batch, vectors, model, cached: 0, domain: None };
            self.document(n, [embedded.into()]);
        }
        self.document(n, [published.into()]);
    }
}
