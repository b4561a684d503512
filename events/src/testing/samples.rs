//! One sample of every event, for golden files; and the values that tests of deciders begin from.

use serde_json::json;

use super::{id, time};
use crate::{
    Answer, AnyEvent, BlobRef, Citation, ContentHash, Failure, TokenUsage, Version, claim, document, session,
    tool_call, user, workflow,
};

pub(crate) fn blob(n: u8) -> BlobRef {
    BlobRef { sha256: ContentHash([n; 32]), size: u64::from(n) * 1000 + 1 }
}

pub(crate) fn passing() -> Failure {
    Failure::passing("llm_unreachable", "the endpoint does not answer; check llm.base_url")
}

pub(crate) fn lasting() -> Failure {
    Failure::lasting("encrypted_pdf", "the file asks for a password; upload it without one")
}

pub(crate) fn answer() -> Answer {
    let citation = Citation {
        n: 1,
        document_id: id(31),
        chunk_id: id(32),
        filename: "ownership.html".to_owned(),
        page_number: Some(4),
        section: Some("Ownership > Moves".to_owned()),
        quote: "each value has an owner".to_owned(),
        start: 120,
        end: 143,
        score: 0.75,
    };
    Answer {
        text: "Each value has an owner [1].".to_owned(),
        citations: vec![citation],
        model: "extractive".to_owned(),
        usage: Some(TokenUsage { prompt: 900, completion: 40 }),
        grounded: true,
        notices: vec!["semantic search is off".to_owned()],
    }
}

pub(crate) fn started() -> workflow::Started {
    workflow::Started {
        owner: id(1),
        session_id: id(10),
        message_id: id(11),
        asked_at: Version(1),
        query: "Who owns a value?".to_owned(),
        context: json!({"timezone": "UTC"}),
    }
}

pub(crate) fn retrieved() -> workflow::TaskCompleted {
    let passages = vec![workflow::PassageRef { document_id: id(31), chunk_id: id(32), score: 0.75 }];
    let result = workflow::TaskResult::Retrieved { passages, notices: vec!["semantic search is off".to_owned()] };
    workflow::TaskCompleted { task: workflow::TaskId(1), result, millis: 12 }
}

pub(crate) fn synthesized() -> workflow::TaskCompleted {
    workflow::TaskCompleted { task: workflow::TaskId(2), result: workflow::TaskResult::Synthesized, millis: 30 }
}

pub(crate) fn planned() -> workflow::Planned {
    let retrieve = workflow::TaskKind::Retrieve { query: "Who owns a value?".to_owned(), max_results: 12 };
    let task = |id, kind, depends_on| workflow::Task { id: workflow::TaskId(id), kind, depends_on };
    let synthesize = workflow::TaskKind::Synthesize;
    workflow::Planned { tasks: vec![task(1, retrieve, vec![]), task(2, synthesize, vec![workflow::TaskId(1)])] }
}

pub(crate) fn uploaded() -> document::Uploaded {
    let metadata = json!({"title": "The book", "year": 2024, "weight": 0.5, "tags": ["a", null, true]});
    document::Uploaded {
        owner: id(1),
        filename: "book.pdf".to_owned(),
        content: blob(1),
        metadata,
        attempt: Some(id(31)),
    }
}

pub(crate) fn extracted() -> document::Extracted {
    document::Extracted {
        text: blob(2),
        format: "pdf".to_owned(),
        title: Some("The book".to_owned()),
        pages: Some(300),
        language: Some("en".to_owned()),
        words: 90_000,
        warnings: vec!["page 7 has no text".to_owned()],
        authors: vec!["A. Writer".to_owned()],
        written: Some("2024-02-29".to_owned()),
        tags: vec!["birds".to_owned()],
    }
}

pub(crate) fn chunked() -> document::Chunked {
    document::Chunked { batches: vec![blob(3), blob(4)], chunks: 100 }
}

pub(crate) fn embedded(batch: u32) -> document::Embedded {
    let vectors = blob(5 + u8::try_from(batch).expect("few batches"));
    document::Embedded { batch, vectors, model: "bge-small-en-v1.5/int8".to_owned(), cached: 3, domain: None }
}

pub(crate) fn published() -> document::Published {
    document::Published {
        owner: id(1),
        filename: "book.pdf".to_owned(),
        format: "pdf".to_owned(),
        language: Some("en".to_owned()),
        metadata: uploaded().metadata,
        uploaded_at: time(1),
        chunks: 100,
        batches: chunked().batches,
        vectors: vec![blob(5), blob(6)],
        model: Some("bge-small-en-v1.5/int8".to_owned()),
        attempt: uploaded().attempt,
        title: Some("The book".to_owned()),
        authors: vec!["A. Writer".to_owned()],
        tags: vec!["a".to_owned(), "birds".to_owned()],
        domain_vectors: vec![],
        domain_model: None,
    }
}

pub(crate) fn requested(repeatable: bool) -> tool_call::Requested {
    tool_call::Requested {
        owner: id(1),
        session_id: Some(id(10)),
        tool: "calculator".to_owned(),
        parameters: json!({"expression": "1 + 2"}),
        repeatable,
        timeout_millis: 30_000,
    }
}

pub(crate) fn registered() -> user::Registered {
    let (username, email) = ("Ada".to_owned(), "Ada@Example.org".to_owned());
    user::Registered { id: id(1), username, email, role: user::Role::Admin }
}

/// At least one of every event; some events in several shapes.
pub(crate) fn every_event() -> Vec<AnyEvent> {
    let sessions: Vec<session::Event> = vec![
        session::Opened { owner: id(1) }.into(),
        session::MessageReceived {
            message_id: id(11),
            content: "Who owns a value? – Grüße".to_owned(),
            context: json!({"timezone": "UTC", "page": {"n": 1}}),
        }
        .into(),
        session::ReplyCompleted { message_id: id(11), answer: answer(), tasks_completed: 2, millis: 55 }.into(),
        session::ReplyFailed { message_id: id(11), failure: passing(), millis: 55 }.into(),
    ];
    let workflows: Vec<workflow::Event> = vec![
        started().into(),
        planned().into(),
        retrieved().into(),
        workflow::TaskFailed { task: workflow::TaskId(2), failure: passing(), retry_at: time(9) }.into(),
        workflow::AnswerSynthesized { answer: answer() }.into(),
        workflow::WorkflowFailed { task: workflow::TaskId(2), failure: lasting() }.into(),
        workflow::ReplyDelivered {}.into(),
    ];
    let step = document::Step::Embed;
    let documents: Vec<document::Event> = vec![
        uploaded().into(),
        extracted().into(),
        chunked().into(),
        embedded(0).into(),
        document::EmbeddingSkipped { reason: "there is no model".to_owned() }.into(),
        published().into(),
        document::Indexed {}.into(),
        document::StepFailed { step, failure: passing(), retry_at: time(9) }.into(),
        document::Failed { step, failure: lasting() }.into(),
        document::RetryRequested {}.into(),
        document::ReembedRequested {}.into(),
        document::Deleted {}.into(),
        document::BlobsRemoved {}.into(),
    ];
    let outcome = tool_call::Outcome::Success(json!({"result": 3, "exact": true}));
    let tool_calls: Vec<tool_call::Event> = vec![
        requested(true).into(),
        tool_call::AttemptStarted { attempt: id(40), deadline: time(30) }.into(),
        tool_call::AttemptFailed { failure: passing(), retry_at: time(9) }.into(),
        tool_call::Finished { outcome, millis: 4 }.into(),
    ];
    let users: Vec<user::Event> = vec![
        registered().into(),
        user::ClaimGranted { field: user::Field::Username }.into(),
        user::Activated {}.into(),
        user::RegistrationRefused { field: user::Field::Email }.into(),
        user::ClaimReleased { field: user::Field::Username }.into(),
        user::LoggedIn {}.into(),
    ];
    let claims: Vec<claim::Event> =
        vec![claim::Claimed { holder: id(1) }.into(), claim::Released { holder: id(1) }.into()];
    std::iter::empty()
        .chain(sessions.into_iter().map(AnyEvent::Session))
        .chain(workflows.into_iter().map(AnyEvent::Workflow))
        .chain(documents.into_iter().map(AnyEvent::Document))
        .chain(tool_calls.into_iter().map(AnyEvent::ToolCall))
        .chain(users.into_iter().map(AnyEvent::User))
        .chain(claims.into_iter().map(AnyEvent::Claim))
        .collect()
}
