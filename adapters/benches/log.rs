//! Appends to the event log beside a bare SQLite loop that does the same group commit: same rows, same schema, same
//! pragmas, same file system, taken in turn within one run.
//!
//! The bare loop is SQLite's C interface on a thread of its own: it takes what waits, inserts row by row with one prepared
//! statement, commits, answers. Its rows are hashed beforehand, and it checks nothing but the unique index.
//!
//! Prints a table and JSON. `LMAO_BENCH_APPENDS` (of one of 256 writers) shrinks it.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::cast_possible_truncation, reason = "its numbers are small")]

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lmao_adapters::sqlite::{Access, SqliteLog};
use lmao_events::{
    AnyEvent, CODEC, Category, CommitId, DataKey, Hash, Head, Header, NONCE_BYTES, Owes, Payload, Position, Record,
    StreamId, Timestamp, Version, session,
};
use lmao_ports::EventLog;
use serde_json::json;
use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};
use uuid::Uuid;

/// Writers, and how many times as many appends each of them makes as one of 256.
const WRITERS: [(usize, f64); 4] = [(1, 5.0), (16, 3.0), (256, 1.0), (1024, 0.5)];
/// Both are run this often, in turn; the medians count.
const ROUNDS: usize = 5;
/// As many appends as the log lets wait, and takes at once.
const QUEUE: usize = 1024;

fn main() {
    let appends: f64 = std::env::var("LMAO_BENCH_APPENDS").map_or(60.0, |value| value.parse().unwrap());
    let runtime = Runtime::new().unwrap();
    println!("{:>7} {:<5} {:>10} {:>9} {:>9} {:>12}", "writers", "", "appends/s", "p50 ms", "p99 ms", "CPU us each");
    for (writers, times) in WRITERS {
        let chains: Vec<Arc<Chain>> =
            (0..writers).map(|n| Arc::new(Chain::new(n, (appends * times).ceil() as usize))).collect();
        let (mut ours, mut bare) = (Side::default(), Side::default());
        for _ in 0..ROUNDS {
            bare.run(&runtime, &chains, &Bare::open);
            ours.run(&runtime, &chains, &Ours::open);
        }
        let (ours, bare) = (ours.figures(), bare.figures());
        for (name, figures) in [("log", &ours), ("bare", &bare)] {
            let Figures { rate, p50, p99, cpu } = figures;
            println!("{writers:>7} {name:<5} {rate:>10.0} {p50:>9.2} {p99:>9.2} {cpu:>12.1}");
        }
        println!(
            "{}",
            json!({
                "bench": "log", "writers": writers, "log": ours.json(), "bare": bare.json(),
                "ratio": round(ours.rate / bare.rate), "record_bytes": chains[0].0[0].record.bytes().len(),
            })
        );
    }
}

/// The records of one stream, sealed beforehand, each with what it expects.
struct Chain(Vec<Link>);

struct Link {
    expected: Head,
    hash: Hash,
    record: Arc<Record>,
}

impl Chain {
    fn new(number: usize, length: usize) -> Self {
        let stream = StreamId::new(Category::Session, Uuid::now_v7());
        let key = DataKey::new([7; 32]);
        let mut head = Head::default();
        let links = (0..length).map(|n| {
            let said = session::MessageReceived {
                message_id: Uuid::now_v7(),
                content: format!("{number}.{n}: {}", "Who owns a value, and for how long? ".repeat(8)),
                context: json!({}),
            };
            let event = AnyEvent::Session(session::Event::MessageReceived(said));
            let payload = Payload { command: None, events: vec![event.encode()] };
            let mut nonce = [0; NONCE_BYTES];
            nonce[..16].copy_from_slice(Uuid::new_v4().as_bytes());
            let record = Record::seal(header(stream, &head), &payload, &key, nonce).unwrap();
            let (expected, hash) = (head, record.hash());
            head = Head { version: head.version.next(), position: Position(0), hash };
            Link { expected, hash, record: Arc::new(record) }
        });
        Self(links.collect())
    }
}

fn header(stream: StreamId, head: &Head) -> Header {
    Header {
        id: CommitId(Uuid::now_v7()),
        stream,
        version: head.version.next(),
        codec: CODEC,
        time: Timestamp(1_750_000_000_000_000),
        who: Some(stream.id),
        key: stream.id,
        causation: Uuid::new_v4(),
        correlation: Uuid::new_v4(),
        traceparent: None,
        prev: head.hash,
        owes: Owes::Nothing,
    }
}

/// Something that appends durably.
trait Appends: Clone + Send + 'static {
    fn append(&self, link: &Link) -> impl Future<Output = ()> + Send;
}

/// What was measured of one side.
#[derive(Default)]
struct Side {
    rates: Vec<f64>,
    cpu: Vec<f64>,
    latencies: Vec<f64>,
}

struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
}

impl Side {
    /// All chains at once, each in order, into a new file.
    fn run<A: Appends>(&mut self, runtime: &Runtime, chains: &[Arc<Chain>], open: &impl AsyncFn(&Path) -> A) {
        let dir = tempfile::tempdir().unwrap();
        let latencies = Arc::new(Mutex::new(vec![]));
        runtime.block_on(async {
            let target = open(&dir.path().join("log.db")).await;
            let (start, cpu) = (Instant::now(), cpu_time());
            let writers = chains.iter().map(|chain| {
                let (chain, target, latencies) = (Arc::clone(chain), target.clone(), Arc::clone(&latencies));
                tokio::spawn(async move {
                    let mut taken = Vec::with_capacity(chain.0.len());
                    for link in &chain.0 {
                        let start = Instant::now();
                        target.append(link).await;
                        taken.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                    latencies.lock().unwrap().extend(taken);
                })
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.await.unwrap();
            }
            let appends = chains.iter().map(|chain| chain.0.len()).sum::<usize>() as f64;
            self.rates.push(appends / start.elapsed().as_secs_f64());
            self.cpu.push((cpu_time() - cpu).as_secs_f64() * 1e6 / appends);
        });
        self.latencies.append(&mut latencies.lock().unwrap());
    }

    fn figures(&mut self) -> Figures {
        Figures {
            rate: quantile(&mut self.rates, 0.5),
            p50: quantile(&mut self.latencies, 0.5),
            p99: quantile(&mut self.latencies, 0.99),
            cpu: quantile(&mut self.cpu, 0.5),
        }
    }
}

impl Figures {
    fn json(&self) -> serde_json::Value {
        let Self { rate, p50, p99, cpu } = self;
        json!({ "per_second": rate.round(), "p50_ms": round(*p50), "p99_ms": round(*p99), "cpu_us": round(*cpu) })
    }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q).round() as usize]
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// CPU time of all threads of this process so far, to 10 ms (`proc_pid_stat(5)`: fields 14 and 15, in ticks).
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let ticks = behind_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

#[derive(Clone)]
struct Ours(Arc<SqliteLog>);

impl Ours {
    async fn open(path: &Path) -> Self {
        Self(Arc::new(SqliteLog::open(path, Access::ReadWrite).await.unwrap()))
    }
}

impl Appends for Ours {
    async fn append(&self, link: &Link) {
        self.0.append(&link.expected, Arc::clone(&link.record)).await.unwrap();
    }
}

/// One row that waits.
struct Row {
    hash: Hash,
    record: Arc<Record>,
    reply: oneshot::Sender<i64>,
}

#[derive(Clone)]
struct Bare(mpsc::Sender<Row>);

impl Bare {
    async fn open(path: &Path) -> Self {
        let (queue, rows) = mpsc::channel(QUEUE);
        let path = path.to_owned();
        std::thread::spawn(move || serve(&bare::Connection::open(&path), rows));
        Self(queue)
    }
}

impl Appends for Bare {
    async fn append(&self, link: &Link) {
        let (reply, answer) = oneshot::channel();
        let row = Row { hash: link.hash, record: Arc::clone(&link.record), reply };
        assert!(self.0.send(row).await.is_ok(), "the bare loop has ended");
        answer.await.unwrap();
    }
}

fn serve(connection: &bare::Connection, mut queue: mpsc::Receiver<Row>) {
    let insert =
        connection.prepare(c"INSERT INTO log (position, stream, version, hash, record) VALUES (?, ?, ?, ?, ?)");
    let (mut position, mut waiting) = (0, vec![]);
    while queue.blocking_recv_many(&mut waiting, QUEUE) > 0 {
        connection.execute(c"BEGIN IMMEDIATE");
        let first = position;
        for row in &waiting {
            position += 1;
            let header = row.record.header();
            let Version(version) = header.version;
            let key = header.stream.key();
            insert.run(position, &key, version.cast_signed(), &row.hash.0, row.record.bytes());
        }
        connection.execute(c"COMMIT");
        for (row, position) in waiting.drain(..).zip(first + 1..) {
            row.reply.send(position).unwrap();
        }
    }
}

/// SQLite's C interface, as far as the loop needs it.
#[expect(unsafe_code, reason = "each call gets live handles of its own thread and buffers that outlive the step")]
mod bare {
    use std::{
        ffi::{CStr, CString, c_int},
        path::Path,
        ptr,
    };

    use libsqlite3_sys as sqlite;

    const SCHEMA: &str = include_str!("../../migrations/sqlite/log.sql");
    const PRAGMAS: &CStr = c"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
        PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864";

    pub(super) struct Connection(*mut sqlite::sqlite3);
    pub(super) struct Statement(*mut sqlite::sqlite3_stmt);

    impl Connection {
        pub(super) fn open(path: &Path) -> Self {
            let path = CString::new(path.to_str().unwrap()).unwrap();
            let flags = sqlite::SQLITE_OPEN_READWRITE | sqlite::SQLITE_OPEN_CREATE | sqlite::SQLITE_OPEN_NOMUTEX;
            let mut db = ptr::null_mut();
            let code = unsafe { sqlite::sqlite3_open_v2(path.as_ptr(), &raw mut db, flags, ptr::null()) };
            assert_eq!(code, sqlite::SQLITE_OK);
            let connection = Self(db);
            connection.execute(PRAGMAS);
            connection.execute(&CString::new(SCHEMA).unwrap());
            connection
        }

        pub(super) fn execute(&self, sql: &CStr) {
            let code = unsafe { sqlite::sqlite3_exec(self.0, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
            assert_eq!(code, sqlite::SQLITE_OK, "{sql:?}");
        }

        pub(super) fn prepare(&self, sql: &CStr) -> Statement {
            let mut statement = ptr::null_mut();
            let code =
                unsafe { sqlite::sqlite3_prepare_v2(self.0, sql.as_ptr(), -1, &raw mut statement, ptr::null_mut()) };
            assert_eq!(code, sqlite::SQLITE_OK, "{sql:?}");
            Statement(statement)
        }
    }

    impl Drop for Connection {
        fn drop(&mut self) {
            unsafe { sqlite::sqlite3_close(self.0) };
        }
    }

    impl Statement {
        pub(super) fn run(&self, position: i64, stream: &[u8], version: i64, hash: &[u8], record: &[u8]) {
            let blob = |at: c_int, bytes: &[u8]| {
                let length = c_int::try_from(bytes.len()).unwrap();
                unsafe { sqlite::sqlite3_bind_blob(self.0, at, bytes.as_ptr().cast(), length, sqlite::SQLITE_STATIC()) }
            };
            let number = |at: c_int, value: i64| unsafe { sqlite::sqlite3_bind_int64(self.0, at, value) };
            let bound = [number(1, position), blob(2, stream), number(3, version), blob(4, hash), blob(5, record)];
            assert_eq!(bound, [sqlite::SQLITE_OK; 5]);
            assert_eq!(unsafe { sqlite::sqlite3_step(self.0) }, sqlite::SQLITE_DONE);
            unsafe { sqlite::sqlite3_reset(self.0) };
        }
    }

    impl Drop for Statement {
        fn drop(&mut self) {
            unsafe { sqlite::sqlite3_finalize(self.0) };
        }
    }
}
