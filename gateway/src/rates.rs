//! How often clients may ask: token buckets by person and kind of request, and one for all people together.
//!
//! The buckets lie behind a port, so that all gateways share them where there is a store for that. Who is refused is told when
//! to come again; who is admitted, how much is left.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use lmao_ports::{Admission, Quota};
use poem::{
    Addr,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    web::RemoteAddr,
};
use uuid::Uuid;

use crate::{app::App, error::ApiError};

/// Requests that are admitted in a minute, and as many at once before; 0 is without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of one person, but for what `documents` counts; messages over a socket too.
    pub requests: u32,
    /// Of one person, to hand documents in, change and delete them.
    pub documents: u32,
    /// Logins with one name from one address.
    pub logins: u32,
    /// Of all people together.
    pub all: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { requests: 1200, documents: 600, logins: 60, all: 60_000 }
    }
}

const DOCUMENTS: &str = "/api/v1/documents";
/// It reads.
const SEARCH: &str = "/api/v1/documents/search";
/// Whose bucket is that of all people together.
const EVERYBODY: &str = "all";

/// Kinds of requests, each with buckets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Requests,
    Documents,
    Logins,
}

impl Class {
    /// Of a request that came with a token.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || path == SEARCH;
        if path.starts_with(DOCUMENTS) && !reads { Self::Documents } else { Self::Requests }
    }

    /// As keys and answers call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Documents => "documents",
            Self::Logins => "login",
        }
    }

    const fn rate(self, rates: Rates) -> u32 {
        match self {
            Self::Requests => rates.requests,
            Self::Documents => rates.documents,
            Self::Logins => rates.logins,
        }
    }
}

/// How a bucket stands after it was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    quota: Quota,
    admission: Admission,
}

impl Standing {
    /// Says it in the headers `RateLimit-Limit`, `-Remaining` and `-Reset` (draft-ietf-httpapi-ratelimit-headers-05): requests,
    /// requests, and seconds until the next one is admitted or, while some are, until all are again.
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        let Self { quota, admission } = self;
        let (remaining, reset) = match admission {
            Admission::Admitted { remaining } => (remaining, quota.refill() * quota.burst().saturating_sub(remaining)),
            Admission::Refused { retry_after } => (0, retry_after),
        };
        let numbers = [
            ("ratelimit-limit", u64::from(quota.burst())),
            ("ratelimit-remaining", u64::from(remaining)),
            ("ratelimit-reset", seconds(reset)),
        ];
        for (name, number) in numbers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
        }
    }
}

/// Begun ones count.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl App {
    /// Counts a person's request; how their bucket stands then, if there is one.
    ///
    /// # Errors
    /// 429: there were too many, of this person or of all together.
    pub(crate) async fn count(&self, user: Uuid, class: Class) -> Result<Option<Standing>, ApiError> {
        let rates = self.state.limits.rates;
        let own = self.take(&user.to_string(), class, class.rate(rates)).await?;
        self.take(EVERYBODY, Class::Requests, rates.all).await?;
        Ok(own)
    }

    /// Counts an attempt to log in, by name and address.
    ///
    /// # Errors
    /// 429: there were too many with this name from this address.
    pub(crate) async fn count_login(&self, who: &str) -> Result<(), ApiError> {
        self.take(who, Class::Logins, Class::Logins.rate(self.state.limits.rates)).await.map(drop)
    }

    async fn take(&self, who: &str, class: Class, rate: u32) -> Result<Option<Standing>, ApiError> {
        if rate == 0 {
            return Ok(None);
        }
        let quota = Quota::per_minute(rate);
        let asked = self.state.limiter.take(&format!("{who}:{}", class.name()), quota).await;
        let Ok(admission) = asked.inspect_err(|error| tracing::debug!(%error, "a request is not counted")) else {
            return Ok(None);
        };
        let standing = Standing { quota, admission };
        match admission {
            Admission::Admitted { .. } => Ok(Some(standing)),
            Admission::Refused { retry_after } => Err(refused(who, class, rate, retry_after, standing)),
        }
    }
}

/// Who counts as one address: an IPv4 address, or the /64 network that an IPv6 host commonly has to itself.
pub(crate) fn network(from: &RemoteAddr) -> String {
    let Addr::SocketAddr(address) = &from.0 else { return "unknown".to_owned() };
    match address.ip().to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
        }
    }
}

fn refused(who: &str, class: Class, rate: u32, retry_after: Duration, standing: Standing) -> ApiError {
    let retry_after = Duration::from_secs(seconds(retry_after));
    let (scope, whose) = match (who, class) {
        (EVERYBODY, _) => (EVERYBODY, "of all users together"),
        (_, Class::Requests) => (class.name(), "of one user"),
        (_, Class::Documents) => (class.name(), "that change documents of one user"),
        (_, Class::Logins) => (class.name(), "to log in with one name"),
    };
    let message = format!(
        "too many requests: {rate} a minute are admitted {whose}; nothing was done, try again in {} s",
        retry_after.as_secs()
    );
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
    let error = error.with("scope", scope).with("limit_per_minute", rate);
    ApiError { retry_after: Some(retry_after), rate: Some(standing), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_documents_is_counted_apart() {
        let upload = "/api/v1/documents/upload";
        for (method, path, class) in [
            (Method::POST, upload, Class::Documents),
            (Method::DELETE, "/api/v1/documents/7", Class::Documents),
            (Method::GET, "/api/v1/documents/7", Class::Requests),
            (Method::POST, SEARCH, Class::Requests),
            (Method::POST, "/api/v1/chat/message", Class::Requests),
        ] {
            assert_eq!(Class::of(&method, path), class, "{method} {path}");
        }
    }

    #[test]
    fn a_host_has_one_address() {
        let network = |text: &str| network(&RemoteAddr(Addr::SocketAddr(text.parse().unwrap())));
        assert_eq!(network("192.0.2.7:4000"), "192.0.2.7");
        assert_eq!(network("[::ffff:192.0.2.7]:4000"), "192.0.2.7");
        assert_eq!(network("[2001:db8:1:2:3:4:5:6]:4000"), network("[2001:db8:1:2::1]:4001"));
        assert_ne!(network("[2001:db8:1:2::1]:4000"), network("[2001:db8:1:3::1]:4000"));
    }

    #[test]
    fn headers_say_how_a_bucket_stands() {
        let told = |admission| {
            let mut headers = HeaderMap::new();
            Standing { quota: Quota::per_minute(60), admission }.tell(&mut headers);
            ["limit", "remaining", "reset"]
                .map(|name| headers[&format!("ratelimit-{name}")].to_str().unwrap().to_owned())
        };
        assert_eq!(told(Admission::Admitted { remaining: 57 }), ["60", "57", "3"]);
        assert_eq!(told(Admission::Refused { retry_after: Duration::from_millis(1) }), ["60", "0", "1"]);
    }
}
