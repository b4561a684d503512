use std::{
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use futures::TryStreamExt as _;
use lmao_events::{AnyEvent, Category, Hash, user};
use lmao_ports::conformance::{
    fixtures::{record, stream},
    log as suite,
};
use sqlx::Connection as _;
use tempfile::TempDir;

use super::*;

async fn open(path: &Path) -> SqliteLog {
    SqliteLog::open(path, Access::ReadWrite).await.unwrap()
}

fn next(stream: StreamId, head: &Head) -> Arc<Record> {
    record(stream, head, &[AnyEvent::User(user::LoggedIn {}.into())])
}

/// A record of about this many bytes.
fn large(stream: StreamId, head: &Head, bytes: usize) -> Arc<Record> {
    let registered =
        user::Registered { id: stream.id, username: "u".repeat(bytes), email: String::new(), role: user::Role::User };
    record(stream, head, &[AnyEvent::User(registered.into())])
}

async fn grow(log: &SqliteLog, stream: StreamId, commits: usize) -> Head {
    let mut head = log.last(&stream).await.unwrap().map_or_else(Head::default, |last| last.head());
    for _ in 0..commits {
        head = log.append(&head, next(stream, &head)).await.unwrap();
    }
    head
}

async fn read(log: &SqliteLog, stream: StreamId) -> Result<Vec<Recorded>, ReadError> {
    log.read(&stream, Version(1)).try_collect().await
}

/// Brings everything from the write-ahead log into the file itself.
async fn checkpoint(path: &Path) {
    let mut connection = SqliteConnection::connect(&path.display().to_string()).await.unwrap();
    sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_what_every_log_promises() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    suite::all(async || Arc::new(open(&path).await) as Arc<dyn EventLog>).await;
    suite::a_reopened_log_keeps_everything(async || Arc::new(open(&path).await) as Arc<dyn EventLog>).await;
}

#[tokio::test]
async fn a_reader_beside_the_writer_sees_what_follows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let none = SqliteLog::open(&path, Access::ReadOnly).await.unwrap_err();
    assert!(none.to_string().contains("there is no"), "{none}");

    let writer = open(&path).await;
    let stream = stream(Category::Session);
    let head = grow(&writer, stream, 3).await;
    let reader = SqliteLog::open(&path, Access::ReadOnly).await.unwrap();
    assert_eq!(reader.id(), writer.id());
    assert!(matches!(reader.append(&head, next(stream, &head)).await, Err(AppendError::Unavailable(_))));

    let mut records = reader.subscribe(Position(0), Filter::All);
    for version in 1..=6 {
        if version == 4 {
            grow(&writer, stream, 3).await;
        }
        assert_eq!(records.try_next().await.unwrap().unwrap().record.header().version, Version(version));
    }
    assert_eq!(reader.tail().await.unwrap(), writer.tail().await.unwrap());
}

/// The lock of the data directory forbids it; should it happen, the fence holds.
#[tokio::test]
async fn two_writers_of_one_file_never_fork_a_stream() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let (one, two) = (open(&path).await, open(&path).await);
    let stream = stream(Category::Session);
    let head = grow(&one, stream, 2).await;
    let other = two.append(&head, next(stream, &head)).await.unwrap();
    let refused = one.append(&head, next(stream, &head)).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    one.append(&other, next(stream, &other)).await.unwrap();
    assert_eq!(read(&two, stream).await.unwrap().len(), 4);
}

#[tokio::test]
async fn an_altered_record_is_noticed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let stream = stream(Category::Session);
    let log = open(&path).await;
    grow(&log, stream, 5).await;
    let third = read(&log, stream).await.unwrap().swap_remove(2);
    drop(log);
    checkpoint(&path).await;

    let mut bytes = std::fs::read(&path).unwrap();
    let record = third.record.bytes();
    let at = bytes.windows(record.len()).position(|window| window == record).expect("records are stored as they are");
    bytes[at + record.len() - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let log = open(&path).await;
    match read(&log, stream).await {
        Err(ReadError::Damaged { position, .. }) => assert_eq!(position, third.position),
        other => panic!("{other:?}"),
    }
    // A subscriber gets what stands before it, and may go on behind it.
    let mut all = log.subscribe(Position(0), Filter::All);
    for before in 1..third.position.0 {
        assert_eq!(all.try_next().await.unwrap().unwrap().position, Position(before));
    }
    match all.try_next().await {
        Err(ReadError::Damaged { position, .. }) => assert_eq!(position, third.position),
        other => panic!("{other:?}"),
    }
    let behind = log.subscribe(third.position, Filter::All).try_next().await.unwrap().unwrap();
    assert_eq!(behind.position, Position(third.position.0 + 1));
}

#[tokio::test]
async fn a_damaged_page_is_an_error_that_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let stream = stream(Category::Session);
    grow(&open(&path).await, stream, 100).await;
    checkpoint(&path).await;
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(4 * 4096)).unwrap();
    file.write_all(&vec![0xAA; usize::try_from(length).unwrap() - 4 * 4096]).unwrap();

    let error = match SqliteLog::open(&path, Access::ReadWrite).await {
        Err(error) => error.to_string(),
        Ok(log) => read(&log, stream).await.unwrap_err().to_string(),
    };
    assert!(error.contains("damaged") && error.contains("backup"), "{error}");

    file.rewind().unwrap();
    file.write_all(&[0x55; 4096]).unwrap();
    let error = SqliteLog::open(&path, Access::ReadWrite).await.unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains("backup"), "{error}");
}

#[tokio::test]
async fn a_newer_file_and_a_missing_folder_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    drop(open(&path).await);
    let mut connection = SqliteConnection::connect(&path.display().to_string()).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut connection).await.unwrap();
    for access in [Access::ReadWrite, Access::ReadOnly] {
        let error = SqliteLog::open(&path, access).await.unwrap_err().to_string();
        assert!(error.contains("newer build") && error.contains("upgrade"), "{error}");
    }
    let missing = folder.path().join("no/such/folder/log.db");
    let error = SqliteLog::open(&missing, Access::ReadWrite).await.unwrap_err().to_string();
    assert!(error.contains("cannot be opened"), "{error}");
}

#[tokio::test]
async fn a_full_disk_stores_nothing_and_the_log_goes_on() {
    let folder = TempDir::new().unwrap();
    let file = File::wal(&STORE, &folder.path().join("log.db"), SqliteSynchronous::Full).limited_to_pages(64);
    let log = SqliteLog::open_to_write(file).await.unwrap();
    let stream = stream(Category::User);
    let head = grow(&log, stream, 1).await;
    let too_much = large(stream, &head, 400 * 1024);
    match log.append(&head, Arc::clone(&too_much)).await {
        Err(AppendError::Unavailable(error)) => assert!(error.to_string().contains("disk is full"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&log, stream).await.unwrap().len(), 1);
    grow(&log, stream, 3).await;
    assert!(matches!(log.append(&head, too_much).await, Err(AppendError::Conflict)));
}

/// The arguments that run one test of this binary.
fn child(test: &str, folder: &Path) -> Command {
    // An ignored signal stays ignored in what is executed: a file that grows too large is an error, not a death.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    command.args([name.as_str(), "--exact", "--nocapture"]).env(CHILD, folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Set in children only: the folder of the log.
const CHILD: &str = "LMAO_TEST_CHILD";

fn child_folder() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// The child of the next test; nothing by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_appends_until_it_is_killed() {
    let Some(folder) = child_folder() else { return };
    let log = open(&folder.join("log.db")).await;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let (stream, mut head) = (stream(Category::Session), Head::default());
                loop {
                    head = log.append(&head, next(stream, &head)).await.unwrap();
                    println!("acked {stream} {} {}", head.version, head.hash);
                }
            })
        })
        .collect();
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("log.db");
    let mut acked: Vec<(StreamId, u64, String)> = Vec::new();
    for round in 1..=4 {
        let mut child = child("child_appends_until_it_is_killed", folder.path()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |acked: &mut Vec<_>| -> bool {
            let Some(Ok(line)) = lines.next() else { return false };
            // A line that the kill cut off was not seen by anybody.
            let words: Vec<&str> = line.split(' ').collect();
            if let ["acked", stream, version, hash] = words[..]
                && hash.len() == 64
            {
                acked.push((stream.parse().unwrap(), version.parse().unwrap(), hash.to_owned()));
            }
            true
        };
        let before = acked.len();
        while acked.len() < before + 50 * round && take(&mut acked) {}
        assert!(acked.len() > before, "the child appends");
        child.kill().unwrap();
        while take(&mut acked) {}
        child.wait().unwrap();

        let log = open(&path).await;
        for (stream, version, hash) in &acked {
            let stored = log.read(stream, Version(*version)).try_next().await.unwrap().expect("acknowledged");
            assert_eq!(stored.hash.to_string(), *hash);
        }
        let all: Vec<Recorded> = all(&log).await;
        let mut heads = std::collections::HashMap::<StreamId, Hash>::new();
        for recorded in all {
            let header = recorded.record.header();
            assert_eq!(
                heads.insert(header.stream, recorded.hash).unwrap_or_default(),
                header.prev,
                "an unbroken chain"
            );
        }
    }
}

async fn all(log: &SqliteLog) -> Vec<Recorded> {
    let mut records = log.subscribe(Position(0), Filter::All);
    let (end, mut all) = (log.tail().await.unwrap(), Vec::<Recorded>::new());
    while all.last().map_or(Position(0), |last| last.position) < end {
        all.push(records.try_next().await.unwrap().unwrap());
    }
    all
}

/// The child of the next test; nothing by itself.
#[tokio::test]
async fn child_fills_its_disk() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Some(folder) = child_folder() else { return };
    let log = open(&folder.join("log.db")).await;
    let stream = stream(Category::User);
    let mut head = grow(&log, stream, 1).await;
    let hard = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: Some(1024 * 1024), maximum: hard }).unwrap();
    let refused = loop {
        let record = large(stream, &head, 200 * 1024);
        match log.append(&head, Arc::clone(&record)).await {
            Ok(new) => head = new,
            Err(AppendError::Conflict) => panic!("nobody else writes"),
            Err(AppendError::Unknown(_) | AppendError::Unavailable(_)) => break record,
        }
    };
    assert_eq!(log.last(&stream).await.unwrap().unwrap().head(), head, "the log can still be read");
    setrlimit(Resource::Fsize, Rlimit { current: hard, maximum: hard }).unwrap();
    log.append(&head, refused).await.unwrap();
    head = grow(&log, stream, 3).await;
    assert_eq!(read(&log, stream).await.unwrap().last().unwrap().head(), head);
    println!("went on");
}

#[test]
fn a_failed_write_leaves_a_log_that_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut child = child("child_fills_its_disk", folder.path()).spawn().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success() && said.contains("went on"), "{said}");
}
