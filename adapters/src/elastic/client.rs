//! Requests and their answers: retries of what passes, limits of what is sent, and each item of a bulk looked at.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use elasticsearch::{
    cert::{Certificate, CertificateValidation},
    http::{
        Method,
        headers::{ACCEPT_ENCODING, HeaderMap, HeaderValue},
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use lmao_ports::{IndexError, Unavailable};
use rand::RngExt;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    error::{Error, Refusal, STORE},
    options::ElasticOptions,
};
use crate::{
    breaker::{Breaker, Standing},
    tls,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often what may pass is tried; in all, less than a second of pauses.
const ATTEMPTS: u32 = 4;
/// The first pause, about; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a bulk, about: larger ones are no faster, and hold up the server's memory.
const BULK: usize = 8 << 20;
/// The server's limit of a request where it does not tell its own.
const USUAL_LIMIT: usize = 100 << 20;
/// The first version that has `flat` vectors and everything else that is used here.
const OLDEST: (u32, u32) = (8, 13);

/// A server.
pub(super) struct Client {
    transport: Transport,
    endpoint: String,
    /// Bytes that the server takes in one request.
    limit: AtomicUsize,
    /// Set once the server was found to be new enough.
    is_fit: OnceCell<()>,
    breaker: Breaker,
}

impl fmt::Debug for Client {
    // Not the transport: it shows its credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A change of one stored entry. Those of one document go to one shard, the `routing`.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Put { id: String, routing: String, source: Bytes },
    Delete { id: String, routing: String },
}

#[derive(Deserialize)]
struct BulkAnswer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<std::collections::HashMap<String, BulkItem>>,
}

#[derive(Deserialize)]
struct BulkItem {
    status: u16,
    #[serde(default)]
    error: Value,
}

#[derive(Deserialize)]
struct Nodes {
    #[serde(default)]
    nodes: std::collections::HashMap<String, Node>,
}

#[derive(Deserialize)]
struct Node {
    version: String,
    #[serde(default)]
    http: Http,
}

#[derive(Deserialize, Default)]
struct Http {
    max_content_length_in_bytes: Option<usize>,
}

impl Client {
    /// A client of a server, which is looked at before anything else is asked of it.
    pub(super) fn new(options: &ElasticOptions) -> Result<Self, Error> {
        Ok(Self {
            transport: transport(options)?,
            endpoint: options.endpoint.to_string(),
            limit: AtomicUsize::new(USUAL_LIMIT),
            is_fit: OnceCell::new(),
            breaker: Breaker::default(),
        })
    }

    /// How the server stands, as far as is known without asking it.
    pub(super) fn standing(&self) -> Standing {
        self.breaker.standing()
    }

    /// The server is new enough, and its limits are known.
    async fn must_fit(&self) -> Result<(), Error> {
        // `GET /` is not there on a slim distribution.
        let nodes = match self.patiently::<Nodes>(Method::Get, "/_nodes/http", &[], None).await {
            Err(Error::Refused(refusal)) if refusal.status == 403 => {
                tracing::warn!(error = %refusal, "the search server's version is not checked");
                return Ok(());
            }
            nodes => nodes?.nodes,
        };
        for node in nodes.into_values() {
            check_version(&node.version)?;
            self.limit.fetch_min(node.http.max_content_length_in_bytes.unwrap_or(USUAL_LIMIT), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sends a request that may be sent twice, and reads its answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.call_bytes(method, path, query, body).await
    }

    /// Likewise, with a body that is not one JSON value.
    pub(super) async fn call_bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<T, Error> {
        self.is_fit.get_or_try_init(|| self.must_fit()).await?;
        self.patiently(method, path, query, body).await
    }

    async fn patiently<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        let answer = loop {
            if !self.breaker.permits() {
                return Err(Error::Away { endpoint: self.endpoint.clone() });
            }
            let answered = self.once(method, path, query, body.clone()).await;
            match &answered {
                Err(error) if error.is_silence() || matches!(error, Error::Untrusted { .. }) => {
                    self.breaker.failed(&error.to_string());
                }
                _ => self.breaker.answered(),
            }
            match answered {
                Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, path, attempt, "a request to the search server is tried again");
                    pause(attempt).await;
                    attempt += 1;
                }
                answer => break answer?,
            }
        };
        serde_json::from_slice(&answer).map_err(|source| self.unreadable(source))
    }

    /// An answer made no sense.
    pub(super) fn unreadable(&self, source: serde_json::Error) -> Error {
        Error::Unreadable { endpoint: self.endpoint.clone(), source }
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Bytes, Error> {
        let lost = |source: elasticsearch::Error| {
            let endpoint = self.endpoint.clone();
            if source.is_timeout() {
                Error::TimedOut { endpoint, seconds: TIMEOUT.as_secs() }
            } else if tls::is_refused(&source) {
                Error::Untrusted { endpoint, source }
            } else {
                Error::Unreachable { endpoint, source }
            }
        };
        // To compress a hundred passages costs the server twice what finding them does.
        let plain = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        let sent = self.transport.send(method, path, plain, Some(query), body, None);
        let answer = sent.await.map_err(lost)?;
        let status = answer.status_code();
        let body = answer.bytes().await.map_err(lost)?;
        if status.is_success() { Ok(body) } else { Err(Error::Refused(Refusal::of(status, &body))) }
    }

    /// Sends changes to the index behind its own alias `own`, in order, as writer of `epoch`. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a writer of a later epoch has changed one of them. Some changes may have been made then, and
    /// after any other error.
    pub(super) async fn bulk(&self, own: &str, epoch: u64, ops: &[Op]) -> Result<(), Error> {
        let limit = self.limit.load(Ordering::Relaxed);
        let most = BULK.min(limit / 2);
        let mut rest = ops;
        while !rest.is_empty() {
            let mut body = BytesMut::new();
            let mut taken = 0;
            for op in rest {
                if taken > 0 && body.len() + op.bytes() > most {
                    break;
                }
                op.write(epoch, &mut body);
                taken += 1;
            }
            if body.len() > limit {
                let is = body.len();
                let what = format!("a passage of {is} bytes with its vector; the search server takes {limit} at once");
                return Err(IndexError::Invalid(what).into());
            }
            self.bulk_part(own, epoch, &rest[..taken], body.freeze()).await?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    async fn bulk_part(&self, own: &str, epoch: u64, ops: &[Op], body: Bytes) -> Result<(), Error> {
        let path = format!("/{own}/_bulk");
        let query = [("require_alias", "true"), ("filter_path", "errors,items.*.status,items.*.error")];
        let (mut body, mut waiting) = (body, ops.iter().collect::<Vec<_>>());
        for attempt in 1.. {
            let answer: BulkAnswer = self.call_bytes(Method::Post, &path, &query, Some(body)).await?;
            if !answer.errors {
                break;
            }
            let mut again = Vec::new();
            for (op, item) in waiting.into_iter().zip(answer.items.iter().flat_map(|item| item.values())) {
                match Refusal::from_error(item.status, &item.error) {
                    _ if item.error.is_null() => {}
                    Refusal { status: 409, .. } => return Err(Error::Fenced),
                    refusal if Error::Refused(refusal.clone()).is_passing() && attempt < ATTEMPTS => again.push(op),
                    refusal => return Err(Error::Refused(refusal)),
                }
            }
            if again.is_empty() {
                break;
            }
            pause(attempt).await;
            let mut bytes = BytesMut::new();
            again.iter().for_each(|op| op.write(epoch, &mut bytes));
            (body, waiting) = (bytes.freeze(), again);
        }
        Ok(())
    }

    /// Lets searches see all changes made so far.
    pub(super) async fn refresh(&self, index: &str) -> Result<(), Error> {
        let answer: Value = self.call(Method::Post, &format!("/{index}/_refresh"), &[], None).await?;
        if answer["_shards"]["failed"].as_u64().unwrap_or(0) > 0 {
            return Err(Error::Refused(Refusal::from_error(503, &answer["_shards"]["failures"][0]["reason"])));
        }
        Ok(())
    }
}

impl Op {
    fn bytes(&self) -> usize {
        // The line before the source: two ids, the version and their names.
        256 + if let Self::Put { source, .. } = self { source.len() } else { 0 }
    }

    fn write(&self, epoch: u64, body: &mut BytesMut) {
        let (name, id, routing) = match self {
            Self::Put { id, routing, .. } => ("index", id, routing),
            Self::Delete { id, routing } => ("delete", id, routing),
        };
        let line = json!({ name: { "_id": id, "routing": routing, "version": epoch, "version_type": "external_gte" } });
        body.put_slice(line.to_string().as_bytes());
        body.put_u8(b'\n');
        if let Self::Put { source, .. } = self {
            body.put_slice(source);
            body.put_u8(b'\n');
        }
    }
}

/// Between half and all of a time that doubles, so that those who were refused together do not come back together.
async fn pause(attempt: u32) {
    let longest = PAUSE * 2_u32.pow(attempt.min(8) - 1);
    let share = rand::rng().random_range(0.5..=1.0);
    tokio::time::sleep(longest.mul_f64(share)).await;
}

fn check_version(version: &str) -> Result<(), Error> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST {
        return Ok(());
    }
    let (major, minor) = OLDEST;
    let message = format!("Elasticsearch is of version {version}; version {major}.{minor} or later is needed");
    Err(IndexError::from(Unavailable::plain(STORE, message)).into())
}

fn transport(options: &ElasticOptions) -> Result<Transport, Error> {
    let failed = |message: String, source: Box<dyn std::error::Error + Send + Sync>| {
        Error::from(IndexError::from(Unavailable::new(STORE, message, source)))
    };
    let pool = SingleNodeConnectionPool::new(options.endpoint.clone());
    let mut builder = TransportBuilder::new(pool).timeout(TIMEOUT);
    if let Some(credentials) = &options.credentials {
        builder = builder.auth(credentials.clone());
    }
    if let Some(path) = &options.ca {
        let cannot = || format!("the certificates in {} cannot be read", path.display());
        let pem = std::fs::read(path).map_err(|error| failed(cannot(), error.into()))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| failed(cannot(), error.into()))?;
        builder = builder.cert_validation(CertificateValidation::Full(certificate));
    }
    builder.build().map_err(|error| {
        failed(
            "no client for the search server can be made; check its certificates".to_owned(),
            error.to_string().into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for version in ["8.13.0", "8.19.21", "9.0.0", "10.1"] {
            assert!(check_version(version).is_ok(), "{version}");
        }
        for version in ["7.17.28", "8.12.2", "", "x"] {
            let error = IndexError::from(check_version(version).unwrap_err()).to_string();
            assert!(error.contains("8.13 or later"), "{error}");
        }
    }
    #[tokio::test]
    async fn answers_are_asked_for_as_they_are() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options: ElasticOptions =
            format!("elasticsearch+http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let client = Client::new(&options).unwrap();
        let asked = tokio::spawn(async move { client.once(Method::Get, "/", &[], None).await.map(drop) });
        let (mut server, _) = listener.accept().await.unwrap();
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.unwrap());
        }
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        asked.await.unwrap().unwrap();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let encodings: Vec<&str> = head.lines().filter(|line| line.starts_with("accept-encoding")).collect();
        assert_eq!(encodings, ["accept-encoding: identity"]);
    }
}
