//! Cross-origin requests: which web pages of other origins may read answers (the CORS protocol of the Fetch standard).
//! There are no cookies here: a page can do what the token that it has allows, and nothing else.

use std::{fmt, str::FromStr};

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use serde::{Deserialize, Serialize};

/// What a page may send.
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
const HEADERS: &str =
    "authorization, content-type, idempotency-key, if-none-match, lmao-position, traceparent, x-request-id";
/// What a page may read beside the body.
const EXPOSED: &str = "allow, content-disposition, etag, lmao-position, ratelimit-limit, ratelimit-remaining, ratelimit-reset, \
                       retry-after, x-request-id";
/// Seconds for which a browser need not ask again.
const MAX_AGE: u16 = 600;

/// Origins whose pages may call: `https://app.example.org`, several with commas between. None unless there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Origins(Vec<String>);

/// As a file may have them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an origin such as https://app.example.org, or a list of them")]
enum Written {
    Text(String),
    List(Vec<String>),
}

/// What is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: write SCHEME://HOST or SCHEME://HOST:PORT, for example https://app.example.org")]
pub struct NoOrigin(String);

impl Origins {
    /// The origin of a request, if its pages may call.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.0.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// The answer to a browser that asks whether a page may send a request: nothing else is done for it.
    pub(crate) fn preflight(&self, request: &Request) -> Option<Response> {
        let asks = *request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && self.of(request.headers()).is_some();
        asks.then(|| {
            Response::builder()
                .status(StatusCode::NO_CONTENT)
                .header(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)
                .header(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS)
                .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
                .finish()
        })
    }

    /// Lets the page of this origin read the answer.
    pub(crate) fn permit(&self, origin: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.0.is_empty() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// An origin as browsers send it: in lower case, without a path, and without the port that goes without saying.
fn origin(text: &str) -> Result<String, NoOrigin> {
    let bad = || NoOrigin(text.to_owned());
    let lower = text.trim().trim_end_matches('/').to_ascii_lowercase();
    let (scheme, host) = lower.split_once("://").ok_or_else(bad)?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_host =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    if !is_scheme || !is_host {
        return Err(bad());
    }
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    Ok(format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host)))
}

impl FromStr for Origins {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        text.split(',').filter(|one| !one.trim().is_empty()).map(origin).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<Written> for Origins {
    type Error = NoOrigin;

    fn try_from(written: Written) -> Result<Self, NoOrigin> {
        match written {
            Written::Text(text) => text.parse(),
            Written::List(list) => list.iter().map(|one| origin(one)).collect::<Result<_, _>>().map(Self),
        }
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl From<Origins> for String {
    fn from(origins: Origins) -> Self {
        origins.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn origins_are_read_as_browsers_send_them() {
        let read = |text: &str| text.parse::<Origins>().map(|origins| origins.to_string());
        let written = "https://App.example.org:443/, http://localhost:3000,http://[::1]:80,tauri://localhost";
        let wanted = "https://app.example.org,http://localhost:3000,http://[::1],tauri://localhost";
        assert_eq!(read(written).as_deref(), Ok(wanted));
        assert_eq!(read(wanted).as_deref(), Ok(wanted));
        assert_eq!(read("").as_deref(), Ok(""));
        for bad in ["*", "null", "example.org", "https://", "https://a/b", "https://a b", "https://u@a", "://a"] {
            assert_eq!(read(bad), Err(NoOrigin(bad.to_owned())), "{bad}");
        }
        let list: Origins = serde_json::from_value(json!(["https://a", "https://b"])).unwrap();
        assert_eq!(json!(list), json!("https://a,https://b"));
        assert!(serde_json::from_value::<Origins>(json!(["https://a,https://b"])).is_err());
    }
}
