//! A bucket of a server that speaks S3: the port's promises, and what other processes leave there.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering},
};

use lmao_ports::conformance;
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::*;

const OF: Uuid = Uuid::from_u128(4);
const FOLDER: Folder =
    Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: Some(Uuid::from_u128(3)) };

/// A part of the server's bucket that is this test's alone: the variable is an address of a bucket, with the keys of the server
/// that tests run against.
fn options() -> S3Options {
    let given = env::var("LMAO_TEST_S3")
        .unwrap_or_else(|_| panic!("LMAO_TEST_S3 is not set: run the tests with cargo xtask test"));
    let (place, query) = given.split_once('?').unwrap_or((&given, ""));
    let options: S3Options = format!("{place}/{}/deep?{query}", Uuid::new_v4()).parse().unwrap();
    options.with_variables(keys())
}

fn keys() -> [(String, String); 2] {
    let key = |name: &str| (name.to_owned(), env::var(name).unwrap_or_else(|_| "testing".to_owned()));
    [key("AWS_ACCESS_KEY_ID"), key("AWS_SECRET_ACCESS_KEY")]
}

async fn open(options: &S3Options, dir: &TempDir) -> S3Blobs {
    S3Blobs::open(options, OF, dir.path()).await.unwrap()
}

#[tokio::test]
async fn keeps_the_ports_promises() {
    let (options, dir) = (options(), TempDir::new().unwrap());
    conformance::blobs::all(async || Arc::new(open(&options, &dir).await) as Arc<dyn Blobs>).await;
}

/// A server that says nothing is left alone, and told to be away; it is used again once it answers.
#[tokio::test]
async fn a_server_that_is_away_is_left_alone_until_it_answers() {
    let (server, dir) = (options(), TempDir::new().unwrap());
    let address = server.endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix("http://"));
    let address = address.expect("LMAO_TEST_S3 names an endpoint with http").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let forward = |listener: TcpListener| {
        let address = address.clone();
        tokio::spawn(async move {
            // Dropped with the task, and its connections with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&address).await.unwrap();
                connections.spawn(pass(client, server, Arc::default()));
            }
        })
    };
    let way = forward(listener);
    let blobs = open(&S3Options { endpoint: Some(format!("http://{here}")), ..server }, &dir).await;
    let blob = blobs.put(FOLDER, "words".into()).await.unwrap();
    blobs.check().await.unwrap();
    assert_eq!(blobs.standing(), Standing::Up);
    way.abort();
    assert!(way.await.unwrap_err().is_cancelled());
    for _ in 0..crate::breaker::MAX_FAILURES {
        blobs.check().await.unwrap_err();
    }
    assert!(matches!(blobs.standing(), Standing::Down { .. }), "{:?}", blobs.standing());
    // Nobody asks it but those who try it out.
    let told = std::iter::repeat_with(|| blobs.get(FOLDER, &blob)).take(3);
    let told: Vec<_> = stream::iter(told).then(|asked| asked).collect().await;
    let lately = |error: &Unavailable| {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        source.contains("no answer lately")
    };
    assert!(told.iter().any(|told| told.as_ref().is_err_and(lately)), "{told:?}");
    let way = forward(TcpListener::bind(here).await.unwrap());
    while blobs.check().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((blobs.standing(), blobs.get(FOLDER, &blob).await.unwrap()), (Standing::Up, Some("words".into())));
    blobs.delete(FOLDER).await.unwrap();
    way.abort();
}

#[tokio::test]
async fn what_is_larger_than_a_part_comes_back_whole() {
    let (options, dir) = (options(), TempDir::new().unwrap());
    let blobs = open(&options, &dir).await;
    for size in [PART - 1, PART, PART + 1, 2 * PART + 5] {
        let content: Bytes = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let blob = blobs.put(FOLDER, content.clone()).await.unwrap();
        assert_eq!((blob.size, blobs.get(FOLDER, &blob).await.unwrap()), (size as u64, Some(content)));
    }
    blobs.delete(FOLDER).await.unwrap();
    assert_eq!(blobs.list(FOLDER).await.unwrap(), []);
}

/// Passes all on to the server, and knows how many bytes the largest of its answers had.
async fn measured(server: &S3Options) -> (S3Options, Arc<AtomicUsize>) {
    let largest = Arc::new(AtomicUsize::new(0));
    let address = server.endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix("http://"));
    let address = address.expect("LMAO_TEST_S3 names an endpoint with http").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let seen = Arc::clone(&largest);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(pass(client, TcpStream::connect(&address).await.unwrap(), Arc::clone(&seen)));
        }
    });
    (S3Options { endpoint, ..server.clone() }, largest)
}

/// One connection, until one of the two ends it.
async fn pass(mut client: TcpStream, mut server: TcpStream, largest: Arc<AtomicUsize>) -> std::io::Result<()> {
    let (mut answer, mut asked, mut answered) = (0, vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                answer = 0;
                match read? {
                    0 => return Ok(()),
                    read => server.write_all(&asked[..read]).await?,
                }
            }
            read = server.read(&mut answered) => match read? {
                0 => return Ok(()),
                read => {
                    answer += read;
                    largest.fetch_max(answer, Ordering::SeqCst);
                    client.write_all(&answered[..read]).await?;
                }
            },
        }
    }
}

/// A request has a limited time, and a blob may be of any size.
#[tokio::test]
async fn no_request_reads_more_than_a_part() {
    let (options, dir) = (options(), TempDir::new().unwrap());
    let (options, largest) = measured(&options).await;
    let blobs = open(&options, &dir).await;
    let content: Bytes = (0..2 * PART + 5).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let blob = blobs.put(FOLDER, content.clone()).await.unwrap();
    let head = 16 * 1024;
    assert_eq!(blobs.get(FOLDER, &blob).await.unwrap(), Some(content.clone()));
    let got = largest.swap(0, Ordering::SeqCst);
    assert!((PART..PART + head).contains(&got), "get: {got} bytes in one answer");
    let path = blobs.local(FOLDER, &blob).await.unwrap().unwrap();
    assert!(tokio::fs::read(&path).await.unwrap() == content);
    let fetched = largest.swap(0, Ordering::SeqCst);
    assert!((PART..PART + head).contains(&fetched), "local: {fetched} bytes in one answer");
    assert_eq!(blobs.local(FOLDER, &blob).await.unwrap(), Some(path));
    let looked = largest.load(Ordering::SeqCst);
    assert!((1..head).contains(&looked), "what is here is not read again: {looked} bytes in one answer");
}

#[tokio::test]
async fn an_altered_blob_is_an_error() {
    let (options, dir) = (options(), TempDir::new().unwrap());
    let blobs = open(&options, &dir).await;
    // Of the same size, shorter, and with more after it.
    for content in ["as it wos", "as it is", "", "as it was, and more"] {
        let blob = blobs.put(FOLDER, Bytes::from_static(b"as it was")).await.unwrap();
        blobs.store.put(&blobs.key(FOLDER, &blob), Bytes::from_static(content.as_bytes()).into()).await.unwrap();
        for error in [blobs.get(FOLDER, &blob).await.unwrap_err(), blobs.local(FOLDER, &blob).await.unwrap_err()] {
            assert!(error.message.contains("was altered"), "{content:?}: {error}");
        }
    }
    let blob = blobs.put(FOLDER, Bytes::from_static(b"as it was")).await.unwrap();
    assert!(blobs.get(FOLDER, &blob).await.unwrap().is_some(), "putting it again heals it");
}

#[tokio::test]
async fn what_one_process_deletes_is_gone_for_the_other() {
    let (options, here, there) = (options(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let (one, two) = (open(&options, &here).await, open(&options, &there).await);
    let blob = one.put(FOLDER, Bytes::from_static(b"kept")).await.unwrap();
    assert!(two.local(FOLDER, &blob).await.unwrap().is_some());
    one.delete(FOLDER).await.unwrap();
    assert_eq!(two.local(FOLDER, &blob).await.unwrap(), None, "no copy stands in for it");
}

#[tokio::test]
async fn another_logs_blobs_are_refused_and_so_is_a_bucket_that_is_not_there() {
    let (options, dir) = (options(), TempDir::new().unwrap());
    open(&options, &dir).await;
    open(&options, &dir).await;
    let refused = S3Blobs::open(&options, Uuid::from_u128(5), dir.path()).await.unwrap_err();
    assert!(refused.message.contains("restore the log"), "{refused}");
    let elsewhere = S3Options { bucket: format!("nobody-made-{}", Uuid::new_v4()), ..options };
    let refused = S3Blobs::open(&elsewhere, OF, dir.path()).await.unwrap_err();
    assert!(refused.message.contains("no such bucket"), "{refused}");
}

#[test]
fn addresses_say_where_the_bucket_is() {
    let parsed: S3Options = "s3://papers/lmao/blobs/?endpoint=http://127.0.0.1:9000/&region=eu-1".parse().unwrap();
    assert_eq!((&*parsed.bucket, &*parsed.prefix), ("papers", "lmao/blobs"));
    assert_eq!((parsed.endpoint.as_deref(), parsed.region.as_deref()), (Some("http://127.0.0.1:9000"), Some("eu-1")));
    assert_eq!("s3://papers".parse::<S3Options>().unwrap().prefix, "");
    for bad in ["papers", "s3://", "s3:///x", "s3://a b", "s3://a?endpoint=ftp://x", "s3://a?secret=x"] {
        let said = bad.parse::<S3Options>().unwrap_err().to_string();
        assert!(said.contains("s3://BUCKET"), "{bad}: {said}");
    }
    let said = format!("{:?}", parsed.with_variables([("AWS_SECRET_ACCESS_KEY".to_owned(), "hidden".to_owned())]));
    assert!(!said.contains("hidden"), "{said}");
}
