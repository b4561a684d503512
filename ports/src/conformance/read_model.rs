//! What every [`ReadModel`] promises: a scripted history becomes these rows, however it is cut into batches.

mod script;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use lmao_events::{AnyEvent, Category, Position, StreamId, Version, session, tool_call, user};
use serde_json::json;
use uuid::Uuid;

use super::fixtures::{History, id, time};
use crate::{
    Committed, DocumentStatus, Filter, Journal, MessageRow, Page, PageRequest, ParkedStream, ProjectionError,
    ReadError, ReadModel, Unparked, UserRow,
};
use script::{ADA, BOB, CHAT, Script};

/// The whole suite; `new` makes an empty read model.
pub async fn all(new: impl AsyncFn() -> Arc<dyn ReadModel>) {
    accounts_become_rows(&*new().await).await;
    conversations_become_rows(&*new().await).await;
    documents_become_rows(&*new().await).await;
    batches_do_not_matter(&new).await;
    what_was_taken_in_is_skipped(&*new().await).await;
    reset_and_replay_lead_to_the_same(&*new().await).await;
    lists_are_paged(&*new().await).await;
    sessions_are_paged(&*new().await).await;
    texts_of_any_kind_are_kept(&*new().await).await;
    others_see_nothing(&*new().await).await;
    a_poisoned_stream_is_named_and_nothing_taken_in(&*new().await).await;
    a_parked_stream_is_skipped_and_the_others_go_on(&*new().await).await;
    what_a_parked_stream_left_out_is_taken_in_again(&new).await;
    the_erased_change_nothing(&*new().await).await;
    it_belongs_to_one_log_until_it_is_reset(&*new().await).await;
    readers_wait_for_a_position(new().await).await;
}

async fn apply(model: &dyn ReadModel, commits: &[Committed]) {
    model.apply(commits).await.expect("apply");
}

async fn everything(model: &dyn ReadModel) -> Script {
    let script = Script::new();
    apply(model, &script.history.commits).await;
    assert_eq!(model.checkpoint().await.expect("checkpoint"), script.history.end());
    script
}

fn page_of(limit: u32, cursor: Option<String>) -> PageRequest {
    PageRequest { limit, cursor }
}

async fn messages(model: &dyn ReadModel, owner: Uuid, session: Uuid) -> Vec<MessageRow> {
    model.messages(owner, session, &page_of(200, None)).await.expect("messages").expect("a session").items
}

/// Registered, then active or refused, then seen.
pub async fn accounts_become_rows(model: &dyn ReadModel) {
    let script = everything(model).await;
    let ada = UserRow {
        id: ADA,
        username: "ada".to_owned(),
        email: "ada@example.org".to_owned(),
        role: user::Role::Admin,
        created_at: script.at("ada registers"),
        last_login: Some(script.at("ada logs in")),
        is_active: true,
    };
    assert_eq!(model.user(ADA).await.expect("user"), Some(ada));
    let pending = model.user(id(4)).await.expect("user").expect("registered");
    assert!(!pending.is_active && pending.last_login.is_none());
    assert_eq!(model.user(id(3)).await.expect("user"), None, "refused, with ada's name");
}

/// A session has a title; its messages come oldest first, each answer with its metadata.
pub async fn conversations_become_rows(model: &dyn ReadModel) {
    let script = everything(model).await;
    let row = model.session(ADA, CHAT).await.expect("session").expect("opened");
    assert_eq!((row.id, row.user_id, row.title.as_deref()), (CHAT, ADA, Some("Who owns a value?")));
    assert_eq!((row.created_at, row.last_activity), (script.at("ada asks"), script.at("no answer")));
    assert_eq!(row.messages, 4);
    let page = model.sessions(ADA, &page_of(200, None)).await.expect("sessions");
    assert!(page.items.contains(&row), "{page:?}");

    let rows = messages(model, ADA, CHAT).await;
    let roles: Vec<&str> = rows.iter().map(|row| row.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
    assert!(rows.iter().all(|row| row.session_id == CHAT));
    let [asked, answered, again, failed] = rows.as_slice() else { panic!("four messages") };
    assert_eq!((asked.id, asked.content.as_str()), (id(11), "Who owns\na value?"));
    assert_eq!((asked.created_at, asked.tokens_used, &asked.model_used), (script.at("ada asks"), None, &None));
    assert_eq!(asked.metadata, json!({}));
    assert_eq!(answered.id, session::reply_of(id(11)));
    assert_eq!(answered.content, "Each value has an owner [1].");
    assert_eq!((answered.tokens_used, answered.model_used.as_deref()), (Some(940), Some("extractive")));
    let citation = json!({
        "n": 1, "document_id": id(31), "chunk_id": id(32), "filename": "ownership.html", "page_number": 4,
        "section": "Ownership > Moves", "quote": "each value has an owner", "start": 120, "end": 143, "score": 0.75,
    });
    let metadata = json!({
        "plan_id": session::workflow_of(id(11)), "message_id": id(11), "reply_id": answered.id,
        "tasks_completed": 2, "execution_time": 1.5, "citations": [citation], "grounded": true,
        "notices": ["semantic search is off"],
    });
    assert_eq!(answered.metadata, metadata);
    assert_eq!(again.metadata, json!({ "context": { "timezone": "UTC" } }));
    assert_eq!((failed.id, failed.content.as_str()), (session::reply_of(id(12)), ""));
    assert_eq!(failed.metadata["error"], json!({ "reason": "llm_unreachable", "message": "it does not answer" }));
}

/// Each step shows; what is deleted is gone; what is uploaded again is new.
pub async fn documents_become_rows(model: &dyn ReadModel) {
    let script = everything(model).await;
    let document = async |n: u128| model.document(ADA, id(n)).await.expect("document").expect("uploaded");

    let ready = document(31).await;
    assert_eq!((ready.status, ready.file_type.as_str()), (DocumentStatus::Ready, "html"));
    assert_eq!((ready.user_id, ready.filename.as_str(), ready.file_size), (ADA, "ownership.html", 31_001));
    assert_eq!(ready.content_hash, "1f".repeat(32));
    assert_eq!((ready.uploaded_at, ready.processed_at), (script.at("ada uploads"), Some(script.at("indexed"))));
    assert_eq!(ready.chunks_count, Some(70));
    let metadata = json!({
        "source": "book", "title": "Ownership", "pages": 12, "language": "en", "words": 900,
        "warnings": ["page 3 has no text"], "batches": 2, "batches_done": 2,
    });
    assert_eq!(ready.metadata, metadata);

    let failed = document(32).await;
    assert_eq!((failed.status, failed.file_type.as_str()), (DocumentStatus::Failed, "pdf"));
    assert_eq!(failed.metadata["failure"]["reason"], "encrypted_pdf");
    assert_eq!(document(33).await.status, DocumentStatus::Extracting, "tried again");
    let waiting = document(34).await;
    assert_eq!((waiting.status, waiting.file_type.as_str()), (DocumentStatus::Queued, "unknown"));
    assert_eq!(waiting.metadata["retrying"]["reason"], "busy", "it says what it waits for");
    assert_eq!(model.document(ADA, id(35)).await.expect("document"), None, "deleted");
    let again = document(36).await;
    assert_eq!((again.status, again.filename.as_str()), (DocumentStatus::Queued, "second.txt"));
    assert_eq!(document(37).await.metadata["batches_done"], json!(0), "embedded again");

    let other = model.documents_of_other_models("other").await.expect("documents");
    assert_eq!(other, [id(31), id(38)]);
    assert_eq!(model.documents_of_other_models("small-q8").await.expect("documents"), [id(38)]);
}

/// One by one, all at once, or anything between: the same content.
pub async fn batches_do_not_matter(new: &impl AsyncFn() -> Arc<dyn ReadModel>) {
    let script = Script::new();
    let commits = &script.history.commits;
    let mut digests = Vec::new();
    for size in [1, 2, 7, commits.len()] {
        let model = new().await;
        let empty = model.digest().await.expect("digest");
        for batch in commits.chunks(size) {
            apply(&*model, batch).await;
        }
        digests.push(model.digest().await.expect("digest"));
        assert_ne!(digests.last(), Some(&empty), "the digest covers the rows");
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

/// A batch that comes twice, whole or in part, changes nothing the second time.
pub async fn what_was_taken_in_is_skipped(model: &dyn ReadModel) {
    let script = Script::new();
    let commits = &script.history.commits;
    apply(model, &commits[..10]).await;
    apply(model, &commits[5..]).await;
    let (digest, checkpoint) = (model.digest().await.expect("digest"), model.checkpoint().await.expect("checkpoint"));
    apply(model, commits).await;
    apply(model, &commits[..3]).await;
    apply(model, &[]).await;
    assert_eq!(model.digest().await.expect("digest"), digest);
    assert_eq!(model.checkpoint().await.expect("checkpoint"), checkpoint);
    assert_eq!(messages(model, ADA, CHAT).await.len(), 4);
}

/// Disposable.
pub async fn reset_and_replay_lead_to_the_same(model: &dyn ReadModel) {
    let empty = model.digest().await.expect("digest");
    let script = everything(model).await;
    let digest = model.digest().await.expect("digest");
    model.reset().await.expect("reset");
    assert_eq!(model.checkpoint().await.expect("checkpoint"), Position(0));
    assert_eq!(model.digest().await.expect("digest"), empty);
    assert_eq!(model.user(ADA).await.expect("user"), None);
    apply(model, &script.history.commits).await;
    assert_eq!(model.digest().await.expect("digest"), digest);
}

/// The first log to come has it.
pub async fn it_belongs_to_one_log_until_it_is_reset(model: &dyn ReadModel) {
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for log in [one, two, one] {
        assert_eq!(model.computed_from(log).await.expect("computed_from"), one);
    }
    model.reset().await.expect("reset");
    assert_eq!(model.computed_from(two).await.expect("computed_from"), two);
}

/// Page by page, every row once; a cursor that no page gave out is behind the end.
pub async fn lists_are_paged(model: &dyn ReadModel) {
    everything(model).await;
    let all = messages(model, ADA, CHAT).await;
    let (mut paged, mut cursor) = (Vec::new(), None);
    loop {
        let page = model.messages(ADA, CHAT, &page_of(3, cursor)).await.expect("messages").expect("a session");
        assert_eq!(page.total, 4);
        paged.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);

    let list = async |status, limit, cursor| -> Page<_> {
        model.documents(ADA, status, &page_of(limit, cursor)).await.expect("documents")
    };
    let all: Vec<Uuid> = list(None, 200, None).await.items.iter().map(|row| row.id).collect();
    assert_eq!(all, [38, 37, 36, 34, 33, 32, 31].map(id), "newest first");
    let (mut paged, mut cursor) = (Vec::new(), None);
    for _ in 0..4 {
        let page = list(None, 2, cursor).await;
        assert_eq!(page.total, 7);
        paged.extend(page.items.into_iter().map(|row| row.id));
        cursor = page.next;
    }
    assert_eq!((paged, cursor), (all, None));
    let queued = list(Some(DocumentStatus::Queued), 1, None).await;
    assert_eq!((queued.total, queued.items[0].id), (2, id(36)));
    let rest = list(Some(DocumentStatus::Queued), 1, queued.next).await;
    assert_eq!((rest.items[0].id, rest.next), (id(34), None));
    let strange = list(None, 10, Some("no cursor".to_owned())).await;
    assert_eq!((strange.items.len(), strange.next, strange.total), (0, None, 7));
}

/// Page by page, the newest first, with what was said in each; one in which nothing was is among them.
pub async fn sessions_are_paged(model: &dyn ReadModel) {
    let mut script = Script::new();
    for n in [61, 62, 63] {
        let session = StreamId::new(Category::Session, id(n));
        script.history.commit(session, [AnyEvent::Session(session::Opened { owner: ADA }.into())]);
        if n != 62 {
            script.history.commit(session, [Script::message(n * 10, &format!("about {n}"), json!({}))]);
        }
    }
    apply(model, &script.history.commits).await;
    let list = async |limit, cursor| model.sessions(ADA, &page_of(limit, cursor)).await.expect("sessions");
    let all = list(200, None).await;
    assert_eq!((all.total, all.next), (4, None));
    let told: Vec<_> = all.items.iter().map(|row| (row.id, row.title.as_deref(), row.messages)).collect();
    let first = (CHAT, Some("Who owns a value?"), 4);
    assert_eq!(told, [(id(63), Some("about 63"), 1), (id(62), None, 0), (id(61), Some("about 61"), 1), first]);
    let (mut paged, mut cursor) = (Vec::new(), None);
    for _ in 0..2 {
        let page = list(2, cursor).await;
        assert_eq!(page.total, 4);
        paged.extend(page.items);
        cursor = page.next;
    }
    assert_eq!((paged, cursor), (all.items, None));
    let strange = list(10, Some("no cursor".to_owned())).await;
    assert_eq!((strange.items, strange.next, strange.total), (vec![], None, 4));
}

/// Quotes, controls, other scripts, a zero character, and a great deal of it.
pub async fn texts_of_any_kind_are_kept(model: &dyn ReadModel) {
    let contents = [
        "it's \"quoted\" \\ \n\t\r\u{1}",
        "zero \0 inside",
        "日本語 🦀 \u{202e}",
        "'); DROP TABLE users; --",
        &"long ".repeat(26_000),
    ];
    let mut script = Script::new();
    let session = StreamId::new(Category::Session, id(60));
    script.history.commit(session, [AnyEvent::Session(session::Opened { owner: ADA }.into())]);
    for (n, content) in (0..).zip(contents) {
        script.history.commit(session, [Script::message(600 + n, content, json!({ "note": content }))]);
    }
    apply(model, &script.history.commits).await;
    let rows = messages(model, ADA, session.id).await;
    for (row, content) in rows.iter().zip(contents) {
        assert!(row.content == content, "{:?} came back as {:?}", &content[..9], row.content.get(..9));
        assert!(row.metadata["context"]["note"] == content, "{:?} in metadata", &content[..9]);
    }
    assert_eq!(rows.len(), contents.len());
}

/// A row of somebody else's is as absent as one that does not exist.
pub async fn others_see_nothing(model: &dyn ReadModel) {
    everything(model).await;
    assert_eq!(model.session(BOB, CHAT).await.expect("session"), None);
    let sessions = model.sessions(BOB, &page_of(10, None)).await.expect("sessions");
    assert_eq!((sessions.items, sessions.total), (vec![], 0));
    assert_eq!(model.messages(BOB, CHAT, &page_of(10, None)).await.expect("messages"), None);
    assert_eq!(model.document(BOB, id(31)).await.expect("document"), None);
    let documents = model.documents(BOB, None, &page_of(10, None)).await.expect("documents");
    assert_eq!((documents.items, documents.total), (vec![], 0));
    assert_eq!(model.messages(ADA, id(99), &page_of(10, None)).await.expect("messages"), None);
}

/// A session of an account that nobody registered, among others that are fine.
fn poisoned() -> (History, StreamId) {
    let mut script = Script::new();
    let (bad, good) = (StreamId::new(Category::Session, id(70)), StreamId::new(Category::Session, id(71)));
    script.history.commit(bad, [AnyEvent::Session(session::Opened { owner: id(999) }.into())]);
    script.history.commit(good, [AnyEvent::Session(session::Opened { owner: BOB }.into())]);
    script.history.commit(bad, [Script::message(701, "one", json!({}))]);
    script.history.commit(good, [Script::message(711, "two", json!({}))]);
    (script.history, bad)
}

/// The error names the first commit that does not fit.
pub async fn a_poisoned_stream_is_named_and_nothing_taken_in(model: &dyn ReadModel) {
    let (history, bad) = poisoned();
    let empty = model.digest().await.expect("digest");
    match model.apply(&history.commits).await {
        Err(ProjectionError::Poisoned { stream, version, .. }) => assert_eq!((stream, version), (bad, Version(1))),
        other => panic!("{other:?}"),
    }
    assert_eq!(model.digest().await.expect("digest"), empty);
    assert_eq!(model.checkpoint().await.expect("checkpoint"), Position(0));
}

/// Once it is parked the rest is taken in; what refers to it is poisoned in its turn.
pub async fn a_parked_stream_is_skipped_and_the_others_go_on(model: &dyn ReadModel) {
    let (mut history, bad) = poisoned();
    let first = history.commits.iter().find(|commit| commit.header.stream == bad).expect("it is there");
    let parked = ParkedStream { stream: bad, version: Version(1), position: first.position, reason: "test".to_owned() };
    model.park(&parked).await.expect("park");
    assert_eq!(model.parked().await.expect("parked"), [parked]);
    apply(model, &history.commits).await;
    assert_eq!(model.checkpoint().await.expect("checkpoint"), history.end());
    assert_eq!(messages(model, BOB, id(71)).await.len(), 1);
    assert_eq!(model.session(id(999), bad.id).await.expect("session"), None);

    let call = StreamId::new(Category::ToolCall, id(72));
    history.commit(
        call,
        [AnyEvent::ToolCall(
            tool_call::Requested {
                owner: ADA,
                session_id: Some(bad.id),
                tool: "calculator".to_owned(),
                parameters: json!({}),
                repeatable: true,
                timeout_millis: 1000,
            }
            .into(),
        )],
    );
    let refused = model.apply(&history.commits).await;
    assert!(matches!(&refused, Err(ProjectionError::Poisoned { stream, .. }) if *stream == call), "{refused:?}");
    model.reset().await.expect("reset");
    assert_eq!(model.parked().await.expect("parked"), []);
}

/// A history as a log that has ended.
#[derive(Debug)]
pub struct Written(pub Vec<Committed>);

#[async_trait]
impl Journal for Written {
    fn read(&self, stream: StreamId, from: Version) -> BoxStream<'static, Result<Committed, ReadError>> {
        let mut commits = self.0.clone();
        commits.retain(|commit| commit.header.stream == stream && commit.header.version >= from);
        stream::iter(commits.into_iter().map(Ok)).boxed()
    }

    fn follow(&self, after: Position, _: Filter) -> BoxStream<'static, Result<Committed, ReadError>> {
        let mut commits = self.0.clone();
        commits.retain(|commit| commit.position > after);
        stream::iter(commits.into_iter().map(Ok)).boxed()
    }

    async fn tail(&self) -> Result<Position, ReadError> {
        Ok(self.0.last().map_or(Position(0), |commit| commit.position))
    }

    fn log_id(&self) -> Uuid {
        id(1)
    }
}

/// Unparked, a stream leads to the same rows as if it had never been parked; one that still does not fit stays parked.
pub async fn what_a_parked_stream_left_out_is_taken_in_again(new: &impl AsyncFn() -> Arc<dyn ReadModel>) {
    let (history, bad) = poisoned();
    let good = StreamId::new(Category::Session, id(71));
    let parked = |stream: StreamId| {
        let first = history.commits.iter().find(|commit| commit.header.stream == stream).expect("it is there");
        ParkedStream { stream, version: Version(1), position: first.position, reason: "test".to_owned() }
    };
    let (whole, model) = (new().await, new().await);
    whole.park(&parked(bad)).await.expect("park");
    apply(&*whole, &history.commits).await;
    for stream in [bad, good] {
        model.park(&parked(stream)).await.expect("park");
    }
    apply(&*model, &history.commits).await;
    let expected = whole.digest().await.expect("digest");
    assert_ne!(model.digest().await.expect("digest"), expected);

    let log = Written(history.commits.clone());
    assert_eq!(model.unpark(good, &log).await.expect("unpark"), Unparked::TakenIn);
    assert_eq!(model.unpark(good, &log).await.expect("unpark"), Unparked::NotParked);
    assert_eq!(model.digest().await.expect("digest"), expected);
    match model.unpark(bad, &log).await.expect("unpark") {
        Unparked::Again(again) => assert_eq!((again.stream, again.version), (bad, Version(1))),
        other => panic!("{other:?}"),
    }
    assert_eq!(model.digest().await.expect("digest"), expected);
    let left: Vec<_> = model.parked().await.expect("parked").into_iter().map(|parked| parked.stream).collect();
    assert_eq!(left, [bad]);
    assert_eq!(model.checkpoint().await.expect("checkpoint"), history.end());
}

/// Their commits move the checkpoint and nothing else.
pub async fn the_erased_change_nothing(model: &dyn ReadModel) {
    let mut script = everything(model).await;
    let digest = model.digest().await.expect("digest");
    script.history.erased(StreamId::new(Category::Session, id(80)));
    script.history.erased(StreamId::new(Category::Document, id(81)));
    apply(model, &script.history.commits).await;
    assert_eq!(model.checkpoint().await.expect("checkpoint"), script.history.end());
    assert_eq!(model.digest().await.expect("digest"), digest);
}

/// Until it is there, or until they give up.
pub async fn readers_wait_for_a_position(model: Arc<dyn ReadModel>) {
    let script = Script::new();
    let end = script.history.end();
    assert!(!model.wait_for(end, Duration::from_millis(20)).await);
    let waiting = Arc::clone(&model);
    let waiter = tokio::spawn(async move { waiting.wait_for(end, Duration::from_secs(60)).await });
    model.awaited().await;
    apply(&*model, &script.history.commits).await;
    assert!(waiter.await.expect("no panic"));
    assert!(model.wait_for(Position(1), Duration::ZERO).await, "what is there needs no waiting");
    assert!(time(0) < script.at("ada asks"));
}
