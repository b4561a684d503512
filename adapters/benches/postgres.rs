//! The read model on Postgres beside a bare loop of `INSERT … SELECT … FROM unnest(…)`: same rows, same tables, same settings
//! of the connection, same batches, taken in turn within one run.
//!
//! The bare loop folds nothing, keeps no checkpoint and updates no row: its arrays are the final rows, made beforehand. The
//! read model gets events: each message also changes its session and its conversation.
//!
//! Needs a server at `LMAO_TEST_POSTGRES`. Prints a table and JSON. `LMAO_BENCH_COMMITS` (20,000) shrinks it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]

use std::time::Instant;

use chrono::{DateTime, Utc};
use lmao_adapters::postgres::{PostgresReadModel, migrate};
use lmao_events::{
    Answer, AnyEvent, Category, CommitId, Hash, Header, Owes, Position, StreamId, Timestamp, TokenUsage, Version,
    session, user,
};
use lmao_ports::{Committed, Projection as _};
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

/// Both are run this often, in turn; the medians count.
const ROUNDS: usize = 5;
/// Commits of one transaction.
const BATCHES: [usize; 3] = [50, 500, 2000];
/// Sessions that are talked in at the same time, and how many commits each of them gets.
const ACTIVE: usize = 64;
const TALK: usize = 40;
const OWNER: Uuid = Uuid::from_u128(1);
const FIRST: i64 = 1_750_000_000_000_000;

#[tokio::main]
async fn main() {
    let commits: usize = std::env::var("LMAO_BENCH_COMMITS").map_or(20_000, |value| value.parse().unwrap());
    let Ok(server) = std::env::var("LMAO_TEST_POSTGRES") else {
        eprintln!("LMAO_TEST_POSTGRES is not set: it names the server to measure");
        std::process::exit(1);
    };
    let history = history(commits);
    println!("{:>6} {:<10} {:>10} {:>10}", "batch", "", "commits/s", "rows/s");
    for size in BATCHES {
        let (mut ours, mut bare, mut rows) = (vec![], vec![], 0);
        for _ in 0..ROUNDS {
            let schema = Schema::new(&server).await;
            ours.push(schema.feed(&history, size).await);
            let batches = schema.rows(&history, size).await;
            rows = batches.iter().map(Rows::count).sum();
            schema.drop().await;
            let schema = Schema::new(&server).await;
            bare.push(schema.insert(&batches).await);
            schema.drop().await;
        }
        let (ours, bare) = (median(&mut ours), median(&mut bare));
        for (name, seconds) in [("read model", ours), ("bare", bare)] {
            println!("{size:>6} {name:<10} {:>10.0} {:>10.0}", commits as f64 / seconds, rows as f64 / seconds);
        }
        let per_second = |count: usize, seconds: f64| (count as f64 / seconds).round();
        println!(
            "{}",
            json!({
                "bench": "postgres", "batch": size, "commits": commits, "rows": rows,
                "read_model": { "commits_per_second": per_second(commits, ours), "rows_per_second": per_second(rows, ours) },
                "bare": { "commits_per_second": per_second(commits, bare), "rows_per_second": per_second(rows, bare) },
                "ratio": (bare / ours * 100.0).round() / 100.0,
            })
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A person who talks in many sessions; a commit each millisecond.
fn history(commits: usize) -> Vec<Committed> {
    let mut history = Vec::with_capacity(commits);
    let person = user::Registered {
        id: OWNER,
        username: "ada".to_owned(),
        email: "ada@example.org".to_owned(),
        role: user::Role::User,
    };
    add(&mut history, StreamId::new(Category::User, OWNER), 1, AnyEvent::User(person.into()));
    while history.len() < commits {
        let sessions: Vec<Uuid> = (0..ACTIVE).map(|_| Uuid::now_v7()).collect();
        let mut asked = [Uuid::nil(); ACTIVE];
        for (turn, at) in (0..TALK).flat_map(|turn| (0..ACTIVE).map(move |at| (turn, at))) {
            if history.len() == commits {
                break;
            }
            let event: session::Event = match turn {
                0 => session::Opened { owner: OWNER }.into(),
                turn if turn % 2 == 1 => {
                    asked[at] = Uuid::now_v7();
                    let content = "Who owns a value, and for how long? ".repeat(4);
                    session::MessageReceived { message_id: asked[at], content, context: json!({}) }.into()
                }
                _ => session::ReplyCompleted {
                    message_id: asked[at],
                    answer: answer(),
                    tasks_completed: 2,
                    millis: 1500,
                }
                .into(),
            };
            let stream = StreamId::new(Category::Session, sessions[at]);
            add(&mut history, stream, turn as u64 + 1, AnyEvent::Session(event));
        }
    }
    history
}

fn answer() -> Answer {
    Answer {
        text: "Each value has one owner at a time, and is dropped when its owner goes out of scope. ".repeat(8),
        citations: vec![],
        model: "extractive".to_owned(),
        usage: Some(TokenUsage { prompt: 900, completion: 40 }),
        grounded: true,
        notices: vec![],
    }
}

fn add(history: &mut Vec<Committed>, stream: StreamId, version: u64, event: AnyEvent) {
    let place = history.len() as u64 + 1;
    let id = CommitId(Uuid::now_v7());
    let header = Header {
        id,
        stream,
        version: Version(version),
        codec: lmao_events::CODEC,
        time: Timestamp(FIRST + place.cast_signed() * 1000),
        who: None,
        key: stream.id,
        causation: Uuid::nil(),
        correlation: Uuid::nil(),
        traceparent: None,
        prev: Hash([0; 32]),
        owes: Owes::Nothing,
    };
    history.push(Committed {
        position: Position(place),
        hash: Hash::of(id.0.as_bytes()),
        header,
        events: Ok(vec![event]),
    });
}

type Times = Vec<DateTime<Utc>>;
type Sessions = (Vec<Uuid>, Vec<String>, Times, Times, Times);
type Conversations = (Vec<Uuid>, Vec<Uuid>, Times, Times, Vec<Option<String>>);

/// The rows that a batch adds, as they are in the end, in arrays.
#[derive(Default)]
struct Rows {
    sessions: Sessions,
    conversations: Conversations,
    messages: Messages,
}

#[derive(Default)]
struct Messages {
    ids: Vec<Uuid>,
    conversations: Vec<Uuid>,
    roles: Vec<String>,
    contents: Vec<String>,
    times: Vec<DateTime<Utc>>,
    metadata: Vec<String>,
    tokens: Vec<Option<i64>>,
    models: Vec<Option<String>>,
    ordinals: Vec<i64>,
}

impl Rows {
    fn count(&self) -> usize {
        self.sessions.0.len() + self.conversations.0.len() + self.messages.ids.len()
    }
}

/// A schema of its own with empty tables.
struct Schema {
    name: String,
    url: String,
}

impl Schema {
    async fn new(server: &str) -> Self {
        let name = format!("bench_{}", Uuid::new_v4().simple());
        let url = format!("{server}{}schema={name}", if server.contains('?') { '&' } else { '?' });
        migrate(&url).await.unwrap();
        Self { name, url }
    }

    /// A connection as the read model has it.
    async fn connect(&self) -> PgConnection {
        let server = self.url.replace(&format!("schema={}", self.name), "");
        let options: PgConnectOptions = server.parse().unwrap();
        let settings = [("search_path", self.name.as_str()), ("synchronous_commit", "off"), ("timezone", "UTC")];
        options.options(settings).disable_statement_logging().connect().await.unwrap()
    }

    async fn drop(self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut self.connect().await).await.unwrap();
    }

    /// Seconds that the read model takes.
    async fn feed(&self, history: &[Committed], size: usize) -> f64 {
        let model = PostgresReadModel::open(&self.url).await.unwrap();
        let start = Instant::now();
        for batch in history.chunks(size) {
            model.apply(batch).await.unwrap();
        }
        let seconds = start.elapsed().as_secs_f64();
        model.close().await;
        seconds
    }

    /// What it has made, in the same batches.
    async fn rows(&self, history: &[Committed], size: usize) -> Vec<Rows> {
        let mut connection = self.connect().await;
        let mut batches: Vec<Rows> = history.chunks(size).map(|_| Rows::default()).collect();
        let batch_of = |time: DateTime<Utc>| {
            let place = (time.timestamp_micros() - FIRST) / 1000 - 1;
            usize::try_from(place).unwrap() / size
        };
        type Session = (Uuid, String, DateTime<Utc>, DateTime<Utc>, DateTime<Utc>, Uuid, Option<String>);
        let sessions: Vec<Session> = sqlx::query_as(
            "SELECT sessions.id, session_token, sessions.created_at, expires_at, last_activity, conversations.id, title
             FROM sessions JOIN conversations ON session_id = sessions.id ORDER BY sessions.created_at",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        for (id, token, created, expires, last, conversation, title) in sessions {
            let Rows { sessions, conversations, .. } = &mut batches[batch_of(created)];
            sessions.0.push(id);
            sessions.1.push(token);
            sessions.2.push(created);
            sessions.3.push(expires);
            sessions.4.push(last);
            conversations.0.push(conversation);
            conversations.1.push(id);
            conversations.2.push(created);
            conversations.3.push(last);
            conversations.4.push(title);
        }
        type Message = (Uuid, Uuid, String, String, DateTime<Utc>, String, Option<i64>, Option<String>, i64);
        let messages: Vec<Message> = sqlx::query_as(
            "SELECT id, conversation_id, role, content, created_at, metadata::text, tokens_used, model_used, ordinal
             FROM messages ORDER BY created_at",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        for (id, conversation, role, content, time, metadata, tokens, model, ordinal) in messages {
            let rows = &mut batches[batch_of(time)].messages;
            rows.ids.push(id);
            rows.conversations.push(conversation);
            rows.roles.push(role);
            rows.contents.push(content);
            rows.times.push(time);
            rows.metadata.push(metadata);
            rows.tokens.push(tokens);
            rows.models.push(model);
            rows.ordinals.push(ordinal);
        }
        batches
    }

    /// Seconds that the bare loop takes.
    async fn insert(&self, batches: &[Rows]) -> f64 {
        let mut connection = self.connect().await;
        sqlx::query(
            "INSERT INTO users (id, username, email, created_at, updated_at) VALUES ($1, '', '', now(), now())",
        )
        .bind(OWNER)
        .execute(&mut connection)
        .await
        .unwrap();
        let start = Instant::now();
        for batch in batches {
            let mut transaction = connection.begin().await.unwrap();
            insert(&mut transaction, batch).await;
            transaction.commit().await.unwrap();
        }
        start.elapsed().as_secs_f64()
    }
}

async fn insert(connection: &mut PgConnection, Rows { sessions, conversations, messages }: &Rows) {
    if !sessions.0.is_empty() {
        sqlx::query(
            "INSERT INTO sessions (id, user_id, session_token, created_at, expires_at, last_activity)
             SELECT id, $1, token, created, expires, last
             FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
                 AS new (id, token, created, expires, last)",
        )
        .bind(OWNER)
        .bind(&sessions.0)
        .bind(&sessions.1)
        .bind(&sessions.2)
        .bind(&sessions.3)
        .bind(&sessions.4)
        .execute(&mut *connection)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO conversations (id, session_id, user_id, created_at, updated_at, title)
             SELECT id, session, $1, created, updated, title
             FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[])
                 AS new (id, session, created, updated, title)",
        )
        .bind(OWNER)
        .bind(&conversations.0)
        .bind(&conversations.1)
        .bind(&conversations.2)
        .bind(&conversations.3)
        .bind(&conversations.4)
        .execute(&mut *connection)
        .await
        .unwrap();
    }
    if messages.ids.is_empty() {
        return;
    }
    sqlx::query(
        "INSERT INTO messages
             (id, conversation_id, role, content, created_at, metadata, tokens_used, model_used, ordinal)
         SELECT id, conversation, role, content, at, metadata::jsonb, tokens, model, ordinal
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::bigint[],
                 $8::text[], $9::bigint[])
             AS new (id, conversation, role, content, at, metadata, tokens, model, ordinal)",
    )
    .bind(&messages.ids)
    .bind(&messages.conversations)
    .bind(&messages.roles)
    .bind(&messages.contents)
    .bind(&messages.times)
    .bind(&messages.metadata)
    .bind(&messages.tokens)
    .bind(&messages.models)
    .bind(&messages.ordinals)
    .execute(connection)
    .await
    .unwrap();
}
