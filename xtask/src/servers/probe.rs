//! Asks a server for its version over its own protocol: whoever gets an answer knows that it is ready, and what it is.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Kind;

/// Connecting, and each read and write.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// What is said of a server that tells its version only to whom it knows, or only over TLS.
const UNTOLD: &str = "(untold)";
const POSTGRES_PROTOCOL: i32 = 3 << 16;

/// The parts of a URL that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    scheme: String,
    user: Option<String>,
    /// `host:port`
    authority: String,
    path: String,
}

impl Address {
    fn parse(url: &str, port: u16) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").context("a URL begins with SCHEME://")?;
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let user = user.map(|user| user.split(':').next().unwrap_or(user).to_owned()).filter(|user| !user.is_empty());
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:{port}") };
        Ok(Self { scheme: scheme.to_owned(), user, authority, path: path.to_owned() })
    }

    pub(super) fn connect(&self) -> Result<TcpStream> {
        let mut last = None;
        for address in self.authority.to_socket_addrs().with_context(|| format!("{} has no address", self.authority))? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        let refused = last.context("it has no address")?;
        Err(refused).with_context(|| format!("{} cannot be connected to", self.authority))
    }
}

/// A URL as it may be shown.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.rsplit_once('@').and_then(|(who, host)| Some((who.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:…@{host}{path}"),
        None => url.to_owned(),
    }
}

/// What the server at `url` says that it is.
///
/// # Errors
/// Nothing answers there, it is not ready, or it is something else.
pub(super) fn version(kind: Kind, url: &str) -> Result<String> {
    let port = match kind {
        Kind::S3 => return s3(&s3_endpoint(url)?),
        Kind::Nats => 4222,
        Kind::Postgres => 5432,
        Kind::Elasticsearch => 9200,
        Kind::Redis => 6379,
    };
    let address = Address::parse(url, port)?;
    if ["https", "rediss", "tls", "elasticsearch+https"].contains(&address.scheme.as_str()) {
        address.connect()?;
        return Ok(UNTOLD.to_owned());
    }
    match kind {
        Kind::Nats => nats(&address),
        Kind::Postgres => postgres(&address),
        Kind::Elasticsearch => elasticsearch(&address),
        Kind::Redis => redis(&address),
        Kind::S3 => Ok(UNTOLD.to_owned()),
    }
}

/// Reads until `enough` of it is there.
pub(super) fn read_until(stream: &mut TcpStream, enough: impl Fn(&str) -> bool) -> Result<String> {
    let (mut answer, mut part) = (vec![], [0; 4096]);
    while (answer.len() as u64) < MAX_ANSWER {
        let n = stream.read(&mut part).context("it does not answer")?;
        answer.extend(part.iter().take(n));
        let text = String::from_utf8_lossy(&answer);
        if n == 0 || enough(&text) {
            return Ok(text.into_owned());
        }
    }
    bail!("its answer does not end")
}

/// NATS introduces itself: `INFO {"version":"2.15.1",…}`.
fn nats(address: &Address) -> Result<String> {
    let hello = read_until(&mut address.connect()?, |text| text.contains("\r\n"))?;
    let info = hello.strip_prefix("INFO ").context("it does not introduce itself as NATS does")?;
    let info: Value = serde_json::from_str(info.trim()).context("its introduction is no JSON")?;
    if info.get("jetstream") != Some(&Value::Bool(true)) {
        bail!("its JetStream is off");
    }
    info.get("version").and_then(Value::as_str).map(str::to_owned).context("it does not say its version")
}

fn redis(address: &Address) -> Result<String> {
    let mut stream = address.connect()?;
    stream.write_all(b"INFO server\r\n").context("it takes no command")?;
    let line = "redis_version:";
    let whole =
        |text: &str| text.starts_with('-') || text.split_once(line).is_some_and(|(_, rest)| rest.contains('\r'));
    let answer = read_until(&mut stream, whole)?;
    if answer.starts_with("-NOAUTH") {
        return Ok(UNTOLD.to_owned());
    }
    let (_, rest) = answer.split_once(line).with_context(|| format!("it answers {:?}", answer.trim()))?;
    Ok(rest.split('\r').next().unwrap_or_default().to_owned())
}

/// The server that the address of a bucket names: `s3://BUCKET?endpoint=URL&…`.
pub(super) fn s3_endpoint(url: &str) -> Result<Address> {
    let (_, query) = url.split_once('?').context("the address of the bucket names no endpoint")?;
    let endpoint = query.split('&').find_map(|setting| setting.strip_prefix("endpoint="));
    let endpoint = endpoint.context("the address of the bucket names no endpoint")?;
    Address::parse(endpoint, if endpoint.starts_with("https") { 443 } else { 80 })
}

/// S3 has no version; the program that serves it says what it is in a header.
fn s3(address: &Address) -> Result<String> {
    if address.scheme == "https" {
        address.connect()?;
        return Ok(UNTOLD.to_owned());
    }
    let mut stream = address.connect()?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {}\r\n\r\n", address.authority).context("it takes no request")?;
    let answer = read_until(&mut stream, |text| text.contains("\r\n\r\n"))?;
    let server = answer.lines().find_map(|line| line.strip_prefix("Server: "));
    Ok(server.and_then(|server| server.split(' ').next()).unwrap_or(UNTOLD).to_owned())
}

fn elasticsearch(address: &Address) -> Result<String> {
    let health = get(address, "/_cluster/health")?;
    match health.get("status").and_then(Value::as_str) {
        Some("green" | "yellow") => {}
        other => bail!("its health is {}", other.unwrap_or("not known")),
    }
    let nodes = get(address, "/_nodes/_local/none?filter_path=nodes.*.version")?;
    let node = nodes.get("nodes").and_then(Value::as_object).and_then(|nodes| nodes.values().next());
    let version = node.and_then(|node| node.get("version")).and_then(Value::as_str);
    version.map(str::to_owned).context("it does not say its version")
}

fn get(address: &Address, path: &str) -> Result<Value> {
    let mut stream = address.connect()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", address.authority).context("it takes no request")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).context("it does not answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("it does not speak HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200") {
        bail!("it answers {status:?}");
    }
    serde_json::from_str(body).context("it answers no JSON")
}

/// PostgreSQL names its version between the start of a session and the first query, without which none was made.
fn postgres(address: &Address) -> Result<String> {
    let mut stream = address.connect()?;
    let user = address.user.as_deref().unwrap_or("postgres");
    let database = if address.path.is_empty() { user } else { &address.path };
    let words = format!("user\0{user}\0database\0{database}\0\0");
    let length = i32::try_from(words.len() + 8).context("the URL is too long")?;
    let start = [&length.to_be_bytes()[..], &POSTGRES_PROTOCOL.to_be_bytes(), words.as_bytes()].concat();
    stream.write_all(&start).context("it takes no message")?;

    let mut version = None;
    // Some thirty messages come before it is ready.
    for _ in 0..100 {
        let (kind, body) = postgres_message(&mut stream)?;
        let text = String::from_utf8_lossy(&body);
        match kind {
            b'E' => bail!("it says {:?}", text.split('\0').find_map(|field| field.strip_prefix('M')).unwrap_or(&text)),
            b'R' if body != [0; 4] => return Ok(UNTOLD.to_owned()),
            b'S' => {
                let told = text.strip_prefix("server_version\0").map(|told| told.trim_end_matches('\0').to_owned());
                version = told.or(version);
            }
            b'Z' => {
                stream.write_all(b"X\0\0\0\x04").ok();
                // Distributions add their own: `15.13 (Debian 15.13-0+deb12u1)`.
                let version = version.context("it does not say its version")?;
                return Ok(version.split(' ').next().unwrap_or(&version).to_owned());
            }
            _ => {}
        }
    }
    bail!("it does not get ready")
}

fn postgres_message(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).context("it does not answer")?;
    let [kind, a, b, c, d] = head;
    let length = u64::from(u32::from_be_bytes([a, b, c, d])).saturating_sub(4);
    if length > MAX_ANSWER {
        bail!("it does not speak PostgreSQL's protocol");
    }
    let mut body = vec![];
    stream.take(length).read_to_end(&mut body).context("its answer ends too soon")?;
    Ok((kind, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_passwords() {
        let address = Address::parse("postgres://lmao:a@b@db.example/app?sslmode=off", 5432).unwrap();
        assert_eq!(
            (address.authority.as_str(), address.user.as_deref(), address.path.as_str()),
            ("db.example:5432", Some("lmao"), "app")
        );
        let address = Address::parse("redis://:secret@[::1]:7000", 6379).unwrap();
        assert_eq!((address.authority.as_str(), address.user), ("[::1]:7000", None));
        assert!(Address::parse("localhost:4222", 4222).is_err());
        assert_eq!(without_password("redis://:se@cret@host:1/0?prefix=a@b"), "redis://:…@host:1/0?prefix=a@b");
        assert_eq!(without_password("postgres://lmao@host/db"), "postgres://lmao@host/db");
        assert_eq!(without_password("nats://host:1"), "nats://host:1");
    }
}
