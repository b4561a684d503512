use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use lmao_events::{AnyEvent, Category, session, user};
use lmao_ports::{
    PageRequest, ReadModel as _,
    conformance::{
        fixtures::{History, id},
        read_model as suite,
    },
};
use serde_json::json;
use sqlx::Row as _;
use tempfile::TempDir;

use super::*;

fn new_path(folder: &TempDir) -> std::path::PathBuf {
    folder.path().join(format!("{}.db", Uuid::new_v4()))
}

/// A person with a session of this many messages.
fn history(messages: u128) -> History {
    let mut history = History::default();
    let (person, chat) = (StreamId::new(Category::User, id(1)), StreamId::new(Category::Session, id(10)));
    let (username, email, role) = ("ada".to_owned(), "ada@example.org".to_owned(), user::Role::User);
    history.commit(person, [AnyEvent::User(user::Registered { id: id(1), username, email, role }.into())]);
    history.commit(chat, [AnyEvent::Session(session::Opened { owner: id(1) }.into())]);
    for n in 0..messages {
        let (message_id, content) = (id(1000 + n), format!("message {n}"));
        let message = session::MessageReceived { message_id, content, context: json!({}) };
        history.commit(chat, [AnyEvent::Session(message.into())]);
    }
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_every_read_model_promises() {
    let folder = TempDir::new().unwrap();
    suite::all(async || {
        Arc::new(SqliteReadModel::open(&new_path(&folder)).await.unwrap()) as Arc<dyn lmao_ports::ReadModel>
    })
    .await;
}

#[tokio::test]
async fn tool_calls_become_rows() {
    let folder = TempDir::new().unwrap();
    let model = SqliteReadModel::open(&new_path(&folder)).await.unwrap();
    suite::accounts_become_rows(&model).await;
    let rows = sqlx::query(
        "SELECT status, session_id IS NOT NULL AS inside, result, error_message, execution_time, parameters
         FROM tool_executions ORDER BY id",
    )
    .fetch_all(&model.database.readers)
    .await
    .unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            assert_eq!(row.get::<&str, _>("parameters"), r#"{"expression":"6 * 7"}"#);
            let text = |column| row.get::<Option<String>, _>(column);
            let time: Option<f64> = row.get("execution_time");
            (row.get::<String, _>("status"), row.get::<bool, _>("inside"), text("result"), text("error_message"), time)
        })
        .collect();
    let row = |status: &str, inside, result: Option<&str>, error: Option<&str>, time| {
        (status.to_owned(), inside, result.map(str::to_owned), error.map(str::to_owned), time)
    };
    assert_eq!(rows[0], row("success", true, Some(r#"{"value":42}"#), None, Some(0.25)));
    assert_eq!(rows[1], row("timeout", false, None, Some("the tool is busy"), Some(5.0)));
    assert_eq!(rows[2], row("error", true, None, Some("the tool is busy"), Some(0.001)));
    assert_eq!((rows[3].0.as_str(), rows[3].4), ("uncertain", Some(0.0)));
    assert_eq!(rows[4], row("running", false, None, None, None));
    assert_eq!(rows.len(), 5);
}

#[tokio::test]
async fn a_reopened_model_goes_on_where_it_was() {
    let folder = TempDir::new().unwrap();
    let path = new_path(&folder);
    let history = history(10);
    let (first, rest) = history.commits.split_at(6);
    let model = SqliteReadModel::open(&path).await.unwrap();
    model.apply(first).await.unwrap();
    drop(model);
    let model = SqliteReadModel::open(&path).await.unwrap();
    assert_eq!(model.checkpoint().await.unwrap(), first.last().unwrap().position);
    model.apply(rest).await.unwrap();

    let reader = SqliteReadModel::open_read_only(&path).await.unwrap();
    assert!(reader.wait_for(history.end(), Duration::from_secs(5)).await);
    assert_eq!(reader.digest().await.unwrap(), model.digest().await.unwrap());
    assert!(matches!(reader.apply(rest).await, Err(ProjectionError::Unavailable(_))));
}

/// A batch without rows moves the checkpoint in memory; the file learns of it with the next rows, when a stream is taken in
/// again, or when it is saved. Killed before, the model takes the batch in once more.
#[tokio::test]
async fn a_checkpoint_without_rows_may_wait() {
    let folder = TempDir::new().unwrap();
    let path = new_path(&folder);
    let mut history = history(2);
    let rows = history.end();
    for _ in 0..3 {
        history.erased(StreamId::new(Category::Session, id(80)));
    }
    let model = SqliteReadModel::open(&path).await.unwrap();
    model.apply(&history.commits).await.unwrap();
    let quiet = history.commits.len() - 3;
    let stored = async || SqliteReadModel::open_read_only(&path).await.unwrap().checkpoint().await.unwrap();
    assert_eq!(stored().await, history.end(), "rows take it along");

    model.reset().await.unwrap();
    model.apply(&history.commits[..quiet]).await.unwrap();
    model.apply(&history.commits[quiet..]).await.unwrap();
    assert_eq!((model.checkpoint().await.unwrap(), stored().await), (history.end(), rows));
    let digest = model.digest().await.unwrap();
    drop(model);

    let model = SqliteReadModel::open(&path).await.unwrap();
    assert_eq!(model.checkpoint().await.unwrap(), rows);
    model.apply(&history.commits).await.unwrap();
    model.save().await.unwrap();
    assert_eq!((stored().await, model.digest().await.unwrap()), (history.end(), digest));
}

/// What a parked stream left out may lie behind the file's checkpoint: taken in again, it does not come once more.
#[tokio::test]
async fn what_is_taken_in_again_takes_the_checkpoint_along() {
    let folder = TempDir::new().unwrap();
    let path = new_path(&folder);
    let history = history(2);
    let chat = StreamId::new(Category::Session, id(10));
    let first = history.commits.iter().find(|commit| commit.header.stream == chat).unwrap();
    let parked =
        ParkedStream { stream: chat, version: first.header.version, position: first.position, reason: String::new() };
    let model = SqliteReadModel::open(&path).await.unwrap();
    model.park(&parked).await.unwrap();
    for commit in &history.commits {
        model.apply(std::slice::from_ref(commit)).await.unwrap();
    }
    let log = suite::Written(history.commits.clone());
    assert_eq!(model.unpark(chat, &log).await.unwrap(), Unparked::TakenIn);
    let digest = model.digest().await.unwrap();
    drop(model);
    let model = SqliteReadModel::open(&path).await.unwrap();
    model.apply(&history.commits).await.unwrap();
    assert_eq!(model.digest().await.unwrap(), digest);
}

/// Waits for `future` this often and drops it when the next answer is there, unheard.
async fn cancelled_after(waits: usize, future: impl Future) {
    let mut future = pin!(future);
    let mut left = waits;
    poll_fn(|context| {
        let Some(fewer) = left.checked_sub(1) else { return Poll::Ready(()) };
        left = fewer;
        future.as_mut().poll(context).map(|_| ())
    })
    .await;
}

/// A caller that is cancelled anywhere leaves all of its batch or nothing, and a model that goes on.
#[tokio::test]
async fn a_cancelled_batch_is_whole_or_absent() {
    let folder = TempDir::new().unwrap();
    let model = SqliteReadModel::open(&new_path(&folder)).await.unwrap();
    let history = history(300);
    for (n, batch) in history.commits.chunks(3).enumerate() {
        // At another of its waits each time, the last one included: written, and not yet remembered.
        cancelled_after(n % 12, model.apply(batch)).await;
        model.apply(batch).await.unwrap();
    }
    let page = PageRequest { limit: 1, cursor: None };
    assert_eq!(model.messages(id(1), id(10), &page).await.unwrap().unwrap().total, 300);
}

#[tokio::test]
async fn files_of_other_builds_and_damaged_files_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = new_path(&folder);
    let model = SqliteReadModel::open(&path).await.unwrap();
    let mut writer = model.database.writer().await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of a later day', true, x'00', 0)",
    )
    .execute(writer.connection())
    .await
    .unwrap();
    drop(writer);
    let error = SqliteReadModel::open(&path).await.unwrap_err().to_string();
    assert!(error.contains("newer build"), "{error}");
    let error = SqliteReadModel::open_read_only(&path).await.unwrap_err().to_string();
    assert!(error.contains("another build"), "{error}");

    let path = new_path(&folder);
    std::fs::write(&path, [7; 8192]).unwrap();
    let error = SqliteReadModel::open(&path).await.unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains("delete read.db"), "{error}");
}

/// No table is walked and no list sorted, whatever its length.
#[tokio::test]
async fn questions_are_answered_by_indexes() {
    let folder = TempDir::new().unwrap();
    let model = SqliteReadModel::open(&new_path(&folder)).await.unwrap();
    let plans = [
        "SELECT * FROM messages WHERE conversation_id = ? AND ordinal > ? ORDER BY ordinal LIMIT ?",
        "SELECT count(*) FROM messages WHERE conversation_id = ?",
        "SELECT id FROM conversations WHERE session_id = ? AND user_id = ?",
        "SELECT * FROM documents WHERE user_id = ?1 AND (uploaded_at, id) < (?2, ?3)
         ORDER BY uploaded_at DESC, id DESC LIMIT ?4",
        "SELECT * FROM documents WHERE user_id = ?1 AND status = ?5 AND (uploaded_at, id) < (?2, ?3)
         ORDER BY uploaded_at DESC, id DESC LIMIT ?4",
        "SELECT count(*) FROM documents WHERE user_id = ? AND status = ?",
        "UPDATE sessions SET last_activity = 1 FROM json_each(?4) AS touch WHERE sessions.id = touch.value ->> 0",
        "UPDATE users SET updated_at = 1 FROM json_each(?2) AS change WHERE users.id = change.value ->> 0",
        "UPDATE tool_executions SET status = 1 FROM json_each(?7) AS ended WHERE tool_executions.id = ended.value ->> 0",
    ];
    for plan in plans {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {plan}")))
            .fetch_all(&model.database.readers)
            .await
            .unwrap();
        for row in rows {
            let step: &str = row.get("detail");
            let walks = step.starts_with("SCAN") && !step.contains("VIRTUAL TABLE");
            assert!(!walks && !step.contains("TEMP B-TREE"), "{plan}: {step}");
        }
    }
}
