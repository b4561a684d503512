use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use lmao_ports::{ReadModel, conformance::read_model as suite};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use super::*;
use crate::sqlite::SqliteReadModel;

mod history;

/// A schema of its own, gone with this.
struct Scratch {
    schema: String,
}

fn server() -> String {
    std::env::var("LMAO_TEST_POSTGRES").expect("LMAO_TEST_POSTGRES is not set: run the tests with cargo xtask test")
}

async fn raw() -> PgConnection {
    server().parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

impl Scratch {
    async fn new() -> Self {
        let scratch = Self { schema: format!("test_{}", Uuid::new_v4().simple()) };
        migrate(&scratch.url()).await.unwrap();
        scratch
    }

    fn url(&self) -> String {
        let server = server();
        let joint = if server.contains('?') { '&' } else { '?' };
        format!("{server}{joint}schema={}", self.schema)
    }

    async fn open(&self) -> PostgresReadModel {
        PostgresReadModel::open(&self.url()).await.unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema);
        // A test that failed cleans up, too; and it may be on a runtime that cannot wait.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut raw().await).await.map(|_| ()) })
        });
        if let Err(error) = dropped.join().unwrap() {
            eprintln!("a schema is left: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_every_read_model_promises() {
    let scratches = tokio::sync::Mutex::new(vec![]);
    suite::all(async || {
        let scratch = Scratch::new().await;
        let model = Arc::new(scratch.open().await) as Arc<dyn ReadModel>;
        scratches.lock().await.push(scratch);
        model
    })
    .await;
}

/// How a move from one store to the other is checked.
#[tokio::test]
async fn both_stores_make_the_same_of_one_history() {
    let scratch = Scratch::new().await;
    let model = scratch.open().await;
    let folder = tempfile::TempDir::new().unwrap();
    let embedded = SqliteReadModel::open(&folder.path().join("read.db")).await.unwrap();
    assert_eq!(model.digest().await.unwrap(), embedded.digest().await.unwrap());
    for seed in [1, 77, 4711] {
        let history = history::history(seed, 1200);
        for model in [&model as &dyn ReadModel, &embedded] {
            model.reset().await.unwrap();
            for batch in history.commits.chunks(500) {
                model.apply(batch).await.unwrap();
            }
        }
        let digest = model.digest().await.unwrap();
        assert_eq!(digest, embedded.digest().await.unwrap(), "seed {seed}");
        // Told apart by a single character.
        let mut connection = raw().await;
        let changed = format!("UPDATE {}.messages SET content = content || '.' WHERE ordinal = 131072", scratch.schema);
        let changed = sqlx::raw_sql(AssertSqlSafe(changed)).execute(&mut connection).await.unwrap();
        assert!(changed.rows_affected() > 0);
        assert_ne!(model.digest().await.unwrap(), digest);
    }
}

/// Two that feed the same tables at the same time: every commit is taken in once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_at_once_stay_correct() {
    let scratch = Scratch::new().await;
    let (whole, history) = (Scratch::new().await, history::history(3, 800));
    let one = whole.open().await;
    one.apply(&history.commits).await.unwrap();

    let feed = async |size: usize| {
        let model = scratch.open().await;
        for batch in history.commits.chunks(size) {
            model.apply(batch).await.unwrap();
        }
        assert_eq!(model.checkpoint().await.unwrap(), history.end());
    };
    tokio::join!(feed(7), feed(10));
    let model = scratch.open().await;
    assert_eq!(model.digest().await.unwrap(), one.digest().await.unwrap());
}

/// What another process has set aside, or taken in again, holds here from the next batch on.
#[tokio::test]
async fn parked_streams_are_known_to_all() {
    let scratch = Scratch::new().await;
    let (one, other) = (scratch.open().await, scratch.open().await);
    let history = history::history(5, 300);
    let (first, rest) = history.commits.split_at(100);
    one.apply(first).await.unwrap();
    let commit = rest.iter().find(|commit| commit.header.version.0 > 1).unwrap();
    let (stream, version, position) = (commit.header.stream, commit.header.version, commit.position);
    other.park(&ParkedStream { stream, version, position, reason: "zero \0".to_owned() }).await.unwrap();
    one.apply(rest).await.unwrap();
    assert_eq!(one.parked().await.unwrap()[0].reason, "zero \0");
    let without = one.digest().await.unwrap();
    let log = suite::Written(history.commits.clone());
    assert_eq!(other.unpark(stream, &log).await.unwrap(), Unparked::TakenIn);
    assert_ne!(one.digest().await.unwrap(), without);

    let whole = Scratch::new().await;
    let model = whole.open().await;
    model.apply(&history.commits).await.unwrap();
    assert_eq!(one.digest().await.unwrap(), model.digest().await.unwrap());
}

/// Tables that went back miss what lies between: whoever feeds them is told once, and reads the log again from there.
#[tokio::test]
async fn tables_that_went_back_are_not_fed_on() {
    let scratch = Scratch::new().await;
    let (one, other) = (scratch.open().await, scratch.open().await);
    let history = history::history(5, 200);
    let (first, rest) = history.commits.split_at(100);
    one.apply(first).await.unwrap();
    other.reset().await.unwrap();
    let error = one.apply(rest).await.unwrap_err().to_string();
    assert!(error.contains("went back") && error.contains("to 0"), "{error}");
    assert_eq!(one.checkpoint().await.unwrap(), Position(0));
    one.apply(&history.commits).await.unwrap();
    assert_eq!(one.checkpoint().await.unwrap(), history.end());
}

/// On a node that feeds nothing: told, or asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_feed_nothing_wait_as_well() {
    let scratch = Scratch::new().await;
    let (feeding, waiting) = (scratch.open().await, Arc::new(scratch.open().await));
    let history = history::history(9, 60);
    for batch in history.commits.chunks(20) {
        let (end, model) = (batch.last().unwrap().position, Arc::clone(&waiting));
        let waiter = tokio::spawn(async move { model.wait_for(end, Duration::from_secs(60)).await });
        feeding.apply(batch).await.unwrap();
        assert!(waiter.await.unwrap());
        // A lost connection is no reason to wait in vain.
        end_connections(&scratch).await;
        feeding.checkpoint().await.unwrap();
    }
    assert!(!waiting.wait_for(Position(history.end().0 + 1), Duration::from_millis(300)).await);
    assert!(waiting.wait_for(history.end(), Duration::ZERO).await);
}

/// Ends the sessions of this schema, as a server that restarts does.
async fn end_connections(scratch: &Scratch) {
    sqlx::query("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = $1")
        .bind(format!("lmao.{}", scratch.schema))
        .execute(&mut raw().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn goes_on_when_the_server_was_away() {
    let scratch = Scratch::new().await;
    let model = scratch.open().await;
    let history = history::history(11, 100);
    for batch in history.commits.chunks(10) {
        end_connections(&scratch).await;
        model.apply(batch).await.unwrap();
        end_connections(&scratch).await;
        assert!(model.user(Uuid::nil()).await.unwrap().is_none());
    }
    assert_eq!(model.checkpoint().await.unwrap(), history.end());
}

/// A caller that is cancelled anywhere leaves all of its batch or nothing, and a model that goes on.
#[tokio::test]
async fn a_cancelled_batch_is_whole_or_absent() {
    let (scratch, whole) = (Scratch::new().await, Scratch::new().await);
    let (model, other) = (scratch.open().await, whole.open().await);
    let history = history::history(13, 400);
    for (n, batch) in history.commits.chunks(10).enumerate() {
        // At another of its waits each time, the last one included: written, and not yet remembered.
        cancelled_after(n % 24, model.apply(batch)).await;
        model.apply(batch).await.unwrap();
    }
    other.apply(&history.commits).await.unwrap();
    assert_eq!(model.digest().await.unwrap(), other.digest().await.unwrap());
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

#[tokio::test]
async fn migrating_is_done_once_and_never_backwards() {
    let scratch = Scratch { schema: format!("test_{}", Uuid::new_v4().simple()) };
    let error = PostgresReadModel::open(&scratch.url()).await.unwrap_err().to_string();
    assert!(error.contains("lmao migrate") && error.contains(&scratch.schema), "{error}");
    let url = scratch.url();
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    one.unwrap();
    other.unwrap();
    let model = scratch.open().await;
    model.apply(&history::history(1, 20).commits).await.unwrap();
    let digest = model.digest().await.unwrap();
    migrate(&url).await.unwrap();
    assert_eq!(scratch.open().await.digest().await.unwrap(), digest);

    let later = format!(
        "INSERT INTO {}._sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of a later day', true, '', 0)",
        scratch.schema
    );
    sqlx::raw_sql(AssertSqlSafe(later)).execute(&mut raw().await).await.unwrap();
    for error in [migrate(&url).await.unwrap_err(), PostgresReadModel::open(&url).await.unwrap_err()] {
        assert!(error.to_string().contains("upgrade lmao"), "{error}");
    }
}

/// Each says what happened and what to do, and none says the password.
#[tokio::test]
async fn servers_that_cannot_be_used_say_so() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let base = server().split('?').next().unwrap().to_owned();
    let (host, _) = base.rsplit_once('/').unwrap();
    let away = format!("postgres://lmao:s3cret@{nobody}/lmao");
    let missing = format!("{host}/no_such_database");
    let stranger = format!("postgres://no_such_user:s3cret@{}/postgres", host.rsplit(['@', '/']).next().unwrap());
    for (url, what) in [(&away, "start"), (&missing, "no such database"), (&stranger, "refuses this user or password")]
    {
        let opened = match PostgresReadModel::open(url).await {
            // It may come later.
            Ok(opened) => opened.user(Uuid::nil()).await.unwrap_err(),
            Err(error) => error,
        };
        for error in [migrate(url).await.unwrap_err(), opened] {
            let said = format!("{error} {error:?}");
            assert!(error.message.contains(what), "{said}");
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}

/// Whoever asks a server that is away waits for it a few times, and then no more.
#[tokio::test]
async fn a_server_that_is_away_is_left_alone() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let model = PostgresReadModel::open(&format!("postgres://lmao@{nobody}/lmao")).await.unwrap();
    while model.standing() == Standing::Up {
        model.user(Uuid::nil()).await.unwrap_err();
    }
    let error = model.user(Uuid::nil()).await.unwrap_err();
    assert!(error.message.contains("asked again within seconds"), "{error}");
    assert!(!model.wait_for(Position(1), Duration::from_secs(3600)).await, "nobody waits for it");
}

/// What the server refuses once the tables are open.
#[tokio::test]
async fn a_server_that_refuses_is_unavailable() {
    let scratch = Scratch::new().await;
    let joint = format!("{}&options=", scratch.url());
    let history = history::history(1, 20);
    let read_only = PostgresReadModel::open(&format!("{joint}-c%20default_transaction_read_only=on")).await.unwrap();
    match read_only.apply(&history.commits).await.unwrap_err() {
        ProjectionError::Unavailable(error) => assert!(error.message.contains("primary"), "{error}"),
        other => panic!("{other}"),
    }
    let model = scratch.open().await;
    let held: Vec<_> = futures::future::join_all((0..10).map(|_| model.pool.acquire())).await;
    let error = model.user(Uuid::nil()).await.unwrap_err();
    assert!(error.message.contains("every connection is in use"), "{error}");
    drop(held);
    sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE {}.projection", scratch.schema)))
        .execute(&mut raw().await)
        .await
        .unwrap();
    match model.apply(&history.commits).await.unwrap_err() {
        ProjectionError::Unavailable(error) => assert!(error.message.contains("lmao migrate"), "{error}"),
        other => panic!("{other}"),
    }
}

/// No table is walked and no list sorted, whatever its length.
#[tokio::test]
async fn questions_are_answered_by_indexes() {
    let scratch = Scratch::new().await;
    let model = scratch.open().await;
    let mut connection = model.pool.acquire().await.unwrap();
    // Small tables are walked all the same; this shows what can be avoided.
    sqlx::raw_sql("SET enable_seqscan = off; SET enable_sort = off; SET plan_cache_mode = force_generic_plan")
        .execute(&mut *connection)
        .await
        .unwrap();
    let questions = [
        (query::MESSAGES, "uuid, bigint, bigint"),
        (query::CONVERSATION, "uuid, uuid"),
        (query::ALL_DOCUMENTS, "uuid, timestamptz, uuid, bigint"),
        (query::DOCUMENTS_OF_STATUS, "uuid, timestamptz, uuid, bigint, text"),
    ];
    for (n, (question, types)) in questions.into_iter().enumerate() {
        let nulls = vec!["NULL"; types.split(',').count()].join(", ");
        let plan = format!("PREPARE question_{n} ({types}) AS {question}");
        sqlx::raw_sql(AssertSqlSafe(plan)).execute(&mut *connection).await.unwrap();
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!("EXPLAIN EXECUTE question_{n} ({nulls})")))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let plan = rows.join("\n");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{question}:\n{plan}");
    }
}
