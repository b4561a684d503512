//! The cache and the rate limits that all nodes share, on Redis.
//!
//! Redis holds nothing that may not be forgotten, so nobody waits for it: a call ends within [`CALL`] with an answer or with
//! [`Unavailable`], and while Redis does not answer, calls end at once. Keys are those of the specification, behind an optional
//! prefix: `cache:{key}` for values, `rate_limit:{user}:{endpoint}` for token buckets (`tokens@time`), and `count:{key}` for
//! plain counters. Every key expires.

mod connection;
mod recent;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    interfaces::{KeysInterface, LuaInterface},
    types::{Expiration, SetOptions, Value},
};
use lmao_ports::{Admission, Cache, Quota, RateLimiter, Unavailable};

use crate::{Standing, cache::Counts};
use connection::Connection;

pub use connection::{CALL, OpenError};
pub use recent::Recent;

/// Larger values are not remembered, in bytes: sending one takes too much of [`CALL`].
pub const MAX_VALUE: usize = 1024 * 1024;
/// Keys that Redis looks at in one step of an invalidation.
const SCAN_PAGE: u32 = 1_000;
/// An invalidation of so many steps is given up: 20 million keys.
const MAX_SCAN_PAGES: u32 = 20_000;

/// Adds 1; the first use sets the time to live, in ms, in the same step: a counter without one would count for ever.
const COUNT: &str = "
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return count
";

/// Takes a token from the bucket `tokens@time`, by the server's clock, so that all nodes have the same one.
/// Arguments: burst, ms per token, time to live in ms. Result: whole tokens left and 0, or 0 and the ms to wait.
/// A clock that is set back adds nothing.
const TAKE: &str = "
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local burst, refill = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens, since = string.match(redis.call('GET', KEYS[1]) or '', '^([%d.]+)@([%d.]+)$')
tokens, since = tonumber(tokens) or burst, tonumber(since) or now
tokens = math.min(burst, tokens + math.max(0, now - since) / refill)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = math.max(1, math.ceil((1 - tokens) * refill)) end
redis.call('SET', KEYS[1], string.format('%.6f@%.3f', tokens, now), 'PX', ARGV[3])
return { math.floor(tokens), wait }
";

/// [`Cache`] and [`RateLimiter`] on one Redis server.
#[derive(Debug)]
pub struct RedisCache {
    connection: Connection,
    prefix: String,
    counts: Counts,
}

impl RedisCache {
    /// Connects to `redis://[[user]:password@]host[:port][/database][?prefix=…&timeout_ms=…]`, or `rediss://…` for TLS, then
    /// `ca=FILE` with it, certificates in PEM to trust instead of the system's. A server that is away is no error: it is connected to as soon as it answers, and calls fail until then.
    ///
    /// # Errors
    /// The URL is none, or the server refuses the password.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let (connection, prefix) = Connection::open(url).await?;
        Ok(Self { connection, prefix, counts: Counts::new("redis") })
    }

    /// Asks the server whether it is there.
    ///
    /// # Errors
    /// It does not answer in time.
    pub async fn check(&self) -> Result<(), Unavailable> {
        self.connection.ping().await
    }

    /// How the server stands, as far as is known without asking it.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.connection.standing()
    }

    /// How often a value was known, and was not.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn key(&self, kind: &str, key: &str) -> String {
        format!("{}{kind}:{key}", self.prefix)
    }

    async fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
        options: Option<SetOptions>,
    ) -> Result<bool, Unavailable> {
        if value.len() > MAX_VALUE {
            return Ok(true);
        }
        let (key, expiration) = (self.key("cache", key), Some(Expiration::PX(milliseconds(ttl))));
        let stored: Value = self.connection.call(|redis| redis.set(key, value, expiration, options, false)).await?;
        Ok(!stored.is_null())
    }

    /// Forgets all keys that match, page by page: the server is never held up by one long command, as by `KEYS`.
    async fn forget(&self, pattern: &str) -> Result<(), Unavailable> {
        let mut cursor = "0".to_owned();
        for _ in 0..MAX_SCAN_PAGES {
            let (next, keys): (String, Vec<String>) =
                self.connection.call(|redis| redis.scan_page(cursor, pattern, Some(SCAN_PAGE), None)).await?;
            if !keys.is_empty() {
                let _: u64 = self.connection.call(|redis| redis.unlink(keys)).await?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
        Err(Unavailable::plain(
            "redis",
            "it holds too many keys to look for those to forget; they expire by themselves",
        ))
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Unavailable> {
        let key = self.key("cache", key);
        let known: Option<Bytes> = self.connection.call(|redis| redis.get(key)).await?;
        self.counts.asked(known.is_some());
        Ok(known)
    }

    /// Values over [`MAX_VALUE`] are forgotten at once.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), Unavailable> {
        self.set(key, value, ttl, None).await.map(drop)
    }

    /// Values over [`MAX_VALUE`] are forgotten at once.
    async fn put_new(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, Unavailable> {
        self.set(key, value, ttl, Some(SetOptions::NX)).await
    }

    /// In steps: what is put meanwhile may stay.
    async fn invalidate(&self, prefix: &str) -> Result<(), Unavailable> {
        for kind in ["cache", "count"] {
            self.forget(&(escaped(&self.key(kind, prefix)) + "*")).await?;
        }
        Ok(())
    }

    async fn count(&self, key: &str, ttl: Duration) -> Result<u64, Unavailable> {
        let key = self.key("count", key);
        self.connection.call(|redis| redis.eval(COUNT, key, milliseconds(ttl))).await
    }
}

#[async_trait]
impl RateLimiter for RedisCache {
    async fn take(&self, key: &str, quota: Quota) -> Result<Admission, Unavailable> {
        let key = self.key("rate_limit", key);
        let refill = quota.refill().as_secs_f64() * 1_000.0;
        let arguments: Vec<Value> =
            vec![i64::from(quota.burst()).into(), refill.to_string().into(), milliseconds(quota.memory()).into()];
        let (remaining, wait): (u32, u64) = self.connection.call(|redis| redis.eval(TAKE, key, arguments)).await?;
        Ok(match wait {
            0 => Admission::Admitted { remaining },
            wait => Admission::Refused { retry_after: Duration::from_millis(wait) },
        })
    }
}

/// At least 1: Redis refuses a time to live of zero.
fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// A pattern that matches `text` only.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
