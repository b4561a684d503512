//! The URL of a NATS server or cluster: `nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT][,HOST[:PORT]…][?namespace=NAME]`, or `tls://…`,
//! where `ca=FILE` names the certificates to trust instead of the system's.

use std::path::PathBuf;

use lmao_ports::Unavailable;

use super::STORE;

/// Roots of subjects: a namespace of this name would overlap with a system that has none.
const ROOTS: [&str; 5] = ["events", "blobs", "live", "commands", "nodes"];
/// The longest namespace, in bytes.
const MAX_NAMESPACE: usize = 64;

/// Who connects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    Anonymous,
    User { name: String, password: String },
    Token(String),
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `nats://host:port`, each without login.
    pub(super) servers: Vec<String>,
    pub(super) login: Login,
    pub(super) namespace: Option<String>,
    /// Certificates in PEM, trusted instead of the system's.
    pub(super) ca: Option<PathBuf>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Unavailable> {
        let wrong = |what: &str| {
            let form = "nats://[USER:PASSWORD@]HOST:PORT[,HOST:PORT…][?namespace=NAME]";
            Unavailable::plain(STORE, format!("the URL {what}; it has the form {form}"))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
        if !matches!(scheme, "nats" | "tls") {
            return Err(wrong("begins with neither nats:// nor tls://"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, hosts) = match rest.rsplit_once('@') {
            Some((login, hosts)) => (Login::parse(login), hosts),
            None => (Login::Anonymous, rest),
        };
        let hosts: Vec<&str> = hosts.trim_end_matches('/').split(',').collect();
        if hosts.iter().any(|host| host.is_empty() || host.contains('/')) {
            return Err(wrong("names no host, or something behind it"));
        }
        let servers = hosts.iter().map(|host| format!("{scheme}://{host}")).collect();
        let (mut namespace, mut ca) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("namespace", name)) if is_namespace(name) => namespace = Some(name.to_owned()),
                Some(("namespace", _)) => {
                    return Err(wrong("has a namespace that is taken or is not of a-z, 0-9 and -, at most 64 of them"));
                }
                Some(("ca", file)) if scheme == "tls" && !file.is_empty() => ca = Some(PathBuf::from(decoded(file))),
                Some(("ca", _)) => return Err(wrong("has a ca without a file, or without tls://")),
                _ => return Err(wrong("has a parameter other than namespace and ca")),
            }
        }
        Ok(Self { servers, login, namespace, ca })
    }
}

impl Login {
    fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, password)) => Self::User { name: decoded(name), password: decoded(password) },
            None => Self::Token(decoded(text)),
        }
    }
}

fn is_namespace(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= MAX_NAMESPACE && name.chars().all(fits) && !ROOTS.contains(&name)
}

/// Without the percent signs of RFC 3986; what is no escape stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'%')
            .then(|| behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_who_where_and_in_which_namespace() {
        let parsed = Address::parse("tls://ada:p%40ss%2fword@one:4222,two?namespace=blue-2").unwrap();
        assert_eq!(parsed.servers, ["tls://one:4222", "tls://two"]);
        assert_eq!(parsed.login, Login::User { name: "ada".to_owned(), password: "p@ss/word".to_owned() });
        assert_eq!(parsed.namespace.as_deref(), Some("blue-2"));
        let parsed = Address::parse("nats://s3cret@one/").unwrap();
        assert_eq!((parsed.login, parsed.namespace), (Login::Token("s3cret".to_owned()), None));
        assert_eq!(parsed.servers, ["nats://one"]);
        let parsed = Address::parse("tls://one?ca=/etc/our%20ca.pem&namespace=blue").unwrap();
        assert_eq!((parsed.ca, parsed.namespace.as_deref()), (Some("/etc/our ca.pem".into()), Some("blue")));
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for url in [
            "localhost:4222",
            "http://ada:secret@one",
            "nats://ada:secret@",
            "nats://ada:secret@one,,two",
            "nats://ada:secret@one?namespace=A",
            "nats://ada:secret@one?namespace=events",
            "nats://ada:secret@one?name=x",
            "nats://ada:secret@one?ca=/etc/ca.pem",
            "tls://ada:secret@one?ca=",
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains("namespace=NAME") && !error.contains("secret"), "{error}");
        }
    }
}
