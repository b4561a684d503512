//! The promises of the ports against a real server, and what happens while one is away, paused or started anew.

use std::{
    env,
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use lmao_ports::conformance;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::cache::{CacheAside, LocalFallback, MemoryCache};

const TTL: Duration = Duration::from_secs(60);
/// Far more than any call takes; a call that hangs fails the test.
const HANGS: Duration = Duration::from_secs(20);

/// A busy machine may take longer than users should wait.
const PATIENT: &str = "timeout_ms=5000";

/// The shared server, in a namespace of this test.
pub(super) async fn open() -> RedisCache {
    RedisCache::open(&shared()).await.unwrap()
}

fn shared() -> String {
    let url = env::var("LMAO_TEST_REDIS")
        .unwrap_or_else(|_| panic!("LMAO_TEST_REDIS is not set: run the tests with cargo xtask test"));
    format!("{url}?{PATIENT}&prefix=test-{}:", Uuid::new_v4())
}

async fn raw(cache: &RedisCache, kind: &str, key: &str) -> (Option<String>, i64) {
    let name = cache.key(kind, key);
    let value = cache.connection.call(|redis| redis.get(name.clone())).await.unwrap();
    (value, cache.connection.call(|redis| redis.pttl(name)).await.unwrap())
}

/// A server of the test's own, which it may pause and kill.
struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        Self { process: Self::launch(port, &folder), port, folder }
    }

    fn launch(port: u16, folder: &TempDir) -> Child {
        let program = env::var("LMAO_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        Command::new(&program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program} cannot be started ({error}): run the tests with cargo xtask test")
            })
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = Self::launch(self.port, &self.folder);
    }

    async fn open(&self) -> RedisCache {
        RedisCache::open(&format!("redis://127.0.0.1:{}?timeout_ms=2000", self.port)).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Every kind of call.
async fn calls(cache: &RedisCache) -> [Result<(), Unavailable>; 7] {
    let quota = Quota::per_minute(1_000);
    [
        cache.get("key").await.map(drop),
        cache.put("key", Bytes::from_static(b"value"), TTL).await,
        cache.put_new("new", Bytes::new(), TTL).await.map(drop),
        cache.invalidate("key").await,
        cache.count("key", TTL).await.map(drop),
        cache.take("key", quota).await.map(drop),
        cache.check().await,
    ]
}

async fn all_fail(cache: &RedisCache) {
    let outcomes = tokio::time::timeout(HANGS, calls(cache)).await.expect("a call hangs");
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
}

/// Waits until it answers again, then everything has to work.
async fn works_again(cache: &RedisCache) {
    let answers = async {
        while cache.check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANGS, answers).await.expect("it does not come back");
    let outcomes = calls(cache).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

#[tokio::test]
async fn keeps_the_ports_promises() {
    conformance::cache::all(async || Arc::new(open().await) as Arc<dyn Cache>).await;
}

#[tokio::test]
async fn keeps_the_rate_limiters_promises() {
    conformance::rate::all(async || Arc::new(open().await) as Arc<dyn RateLimiter>).await;
}

#[tokio::test]
async fn the_fallback_keeps_the_promises_of_both() {
    let new = async || Arc::new(LocalFallback::new(Arc::new(open().await), MemoryCache::new(1 << 20)));
    conformance::cache::all(async || new().await as Arc<dyn Cache>).await;
    conformance::rate::all(async || new().await as Arc<dyn RateLimiter>).await;
}

#[tokio::test]
async fn keys_and_values_are_those_of_the_specification_and_all_expire() {
    let cache = open().await;
    cache.put("answer", Bytes::from_static(br#"{"a":1}"#), TTL).await.unwrap();
    let (value, ttl) = raw(&cache, "cache", "answer").await;
    assert_eq!(value.as_deref(), Some(r#"{"a":1}"#));
    assert!(ttl > 0 && ttl <= 60_000, "{ttl}");

    cache.count("logins", TTL).await.unwrap();
    let (value, ttl) = raw(&cache, "count", "logins").await;
    assert_eq!(value.as_deref(), Some("1"));
    assert!(ttl > 0 && ttl <= 60_000, "{ttl}");

    let key = format!("{}:chat", Uuid::new_v4());
    cache.take(&key, Quota::per_minute(30)).await.unwrap();
    let (value, ttl) = raw(&cache, "rate_limit", &key).await;
    let value = value.unwrap();
    let (tokens, time) = value.split_once('@').unwrap();
    assert_eq!(tokens.parse::<f64>().unwrap(), 29.0);
    assert!(time.parse::<f64>().unwrap() > 1.6e12, "milliseconds since 1970: {time}");
    assert!(ttl > 0 && ttl <= 60_000, "{ttl}");
}

#[tokio::test]
async fn prefixes_keep_users_of_one_server_apart() {
    let (one, two) = (open().await, open().await);
    for cache in [&one, &two] {
        cache.put("key", Bytes::from_static(b"x"), TTL).await.unwrap();
    }
    one.invalidate("").await.unwrap();
    assert_eq!(one.get("key").await.unwrap(), None);
    assert_eq!(two.get("key").await.unwrap(), Some(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn invalidation_goes_through_all_pages() {
    let cache = open().await;
    for n in 0..2_500 {
        cache.put(&format!("many:{n}"), Bytes::new(), TTL).await.unwrap();
    }
    cache.put("other", Bytes::new(), TTL).await.unwrap();
    cache.invalidate("many:").await.unwrap();
    for n in 0..2_500 {
        assert_eq!(cache.get(&format!("many:{n}")).await.unwrap(), None);
    }
    assert!(cache.get("other").await.unwrap().is_some());
    assert_eq!((cache.counts().hits(), cache.counts().misses()), (1, 2_500));
}

#[tokio::test]
async fn what_is_too_large_is_not_remembered() {
    let cache = open().await;
    cache.put("large", Bytes::from(vec![0; MAX_VALUE + 1]), TTL).await.unwrap();
    assert_eq!(cache.get("large").await.unwrap(), None);
    cache.put("fits", Bytes::from(vec![0; MAX_VALUE]), TTL).await.unwrap();
    assert_eq!(cache.get("fits").await.unwrap().map(|value| value.len()), Some(MAX_VALUE));
}

#[tokio::test]
async fn a_computed_value_is_shared_by_nodes() {
    let url = shared();
    for value in [&b"first"[..], b"second"] {
        let node = CacheAside::new(Arc::new(RedisCache::open(&url).await.unwrap()));
        let compute = async { Ok::<_, Unavailable>(Bytes::from_static(value)) };
        assert_eq!(node.get_or_compute("key", TTL, compute).await.unwrap(), Bytes::from_static(b"first"));
    }
}

#[tokio::test]
async fn a_paused_server_fails_calls_and_works_when_it_goes_on() {
    let server = Server::start();
    let cache = server.open().await;
    works_again(&cache).await;
    server.signal(rustix::process::Signal::STOP);
    all_fail(&cache).await;
    server.signal(rustix::process::Signal::CONT);
    works_again(&cache).await;
}

#[tokio::test]
async fn a_killed_server_fails_calls_and_works_when_started_again() {
    let mut server = Server::start();
    let cache = server.open().await;
    works_again(&cache).await;
    for _ in 0..2 {
        server.kill();
        all_fail(&cache).await;
        server.restart();
        works_again(&cache).await;
    }
}

#[tokio::test]
async fn a_server_that_comes_later_is_found() {
    let mut server = Server::start();
    server.kill();
    let cache = server.open().await;
    all_fail(&cache).await;
    server.restart();
    works_again(&cache).await;
}

#[tokio::test]
async fn without_the_server_limits_and_values_are_local() {
    let mut server = Server::start();
    let shared = Arc::new(server.open().await);
    works_again(&shared).await;
    let cache = LocalFallback::new(Arc::clone(&shared), MemoryCache::new(1 << 20));
    server.kill();
    let quota = Quota::new(1, Quota::MAX_REFILL);
    assert_eq!(cache.take("user:chat", quota).await.unwrap(), Admission::Admitted { remaining: 0 });
    assert!(matches!(cache.take("user:chat", quota).await.unwrap(), Admission::Refused { .. }));
    cache.put("local", Bytes::from_static(b"x"), TTL).await.unwrap();
    assert_eq!(cache.get("local").await.unwrap(), Some(Bytes::from_static(b"x")));
    assert_eq!(cache.count("local", TTL).await.unwrap(), 1);
    assert!(cache.invalidate("local").await.is_err(), "the shared cache may still hold it");
    assert_eq!(cache.get("local").await.unwrap(), None);
    server.restart();
    works_again(&shared).await;
    assert_eq!(cache.take("user:chat", quota).await.unwrap(), Admission::Admitted { remaining: 0 });
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_right_one_works() {
    let mut server = Server::start();
    server.kill();
    server.process = {
        let config = server.folder.path().join("redis.conf");
        let text = format!("bind 127.0.0.1\nport {}\nsave \"\"\nrequirepass right\n", server.port);
        std::fs::write(&config, text).unwrap();
        let program = env::var("LMAO_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        Command::new(program).arg(config).stdout(Stdio::null()).spawn().unwrap()
    };
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/3?{PATIENT}", server.port);
    let right = RedisCache::open(&url("right")).await.unwrap();
    works_again(&right).await;
    let refused = RedisCache::open(&url("wrong")).await.unwrap_err();
    assert!(matches!(refused, OpenError::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_url_is_refused_without_its_password() {
    for url in ["localhost", "http://localhost", "redis://:secret@host:port", "redis://:secret@host?x=1"] {
        let refused = RedisCache::open(url).await.unwrap_err().to_string();
        assert!(refused.contains("no URL") && !refused.contains("secret"), "{refused}");
    }
}

#[test]
fn patterns_match_what_they_are_made_of_only() {
    assert_eq!(escaped("a*b?c[d]^e-f\\g:h"), r"a\*b\?c\[d\]\^e\-f\\g:h");
}
