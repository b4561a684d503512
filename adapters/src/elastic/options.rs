//! Where the server is and how it is used, as one URL says it:
//! `elasticsearch+https://USER:PASSWORD@HOST:PORT?prefix=NAME&replicas=N&ca=FILE&api_key=KEY`.

use std::{fmt, path::PathBuf, str::FromStr};

use elasticsearch::{auth::Credentials, http::Url};

/// What stands before the scheme that the server speaks.
const SCHEME: &str = "elasticsearch+";
/// Elasticsearch allows 255 bytes; ours are followed by `-chunks-000001-own`.
const LONGEST_PREFIX: usize = 100;

/// A server, and what is ours on it.
#[derive(Clone)]
pub struct ElasticOptions {
    /// Without credentials and parameters: this may be shown.
    pub(super) endpoint: Url,
    pub(super) prefix: String,
    pub(super) replicas: u32,
    pub(super) ca: Option<PathBuf>,
    pub(super) credentials: Option<Credentials>,
}

/// Why a URL names no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Not of the form that is understood.
    #[error("a search server is given as elasticsearch+http://HOST:PORT or elasticsearch+https://HOST:PORT")]
    Form,
    /// A parameter that there is none of.
    #[error("{0} is no parameter of a search server; there are prefix, replicas, ca and api_key")]
    Unknown(String),
    /// A parameter's value makes no sense.
    #[error("{parameter} of a search server has to be {wanted}")]
    Value {
        /// Its name.
        parameter: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
}

impl ElasticOptions {
    /// These, with an API key (base64 of `id:key`, as the server gives it out) in place of any other credentials.
    #[must_use]
    pub fn with_api_key(mut self, key: String) -> Self {
        self.credentials = Some(Credentials::EncodedApiKey(key));
        self
    }

    /// These, with a user's password in place of any other credentials.
    #[must_use]
    pub fn with_password(mut self, user: String, password: String) -> Self {
        self.credentials = Some(Credentials::Basic(user, password));
        self
    }

    /// The alias under which searches find the index.
    pub(super) fn alias(&self) -> String {
        format!("{}-chunks", self.prefix)
    }

    fn set(&mut self, parameter: &str, value: &str) -> Result<(), OptionsError> {
        let wrong = |parameter, wanted| OptionsError::Value { parameter, wanted };
        match parameter {
            "prefix" if is_prefix(value) => value.clone_into(&mut self.prefix),
            "prefix" => {
                let wanted = "at most 100 of a-z, 0-9, - and _, beginning with a letter or a digit";
                return Err(wrong("prefix", wanted));
            }
            "replicas" => self.replicas = value.parse().map_err(|_| wrong("replicas", "a number from 0 on"))?,
            "ca" => self.ca = Some(PathBuf::from(value)),
            "api_key" => self.credentials = Some(Credentials::EncodedApiKey(value.to_owned())),
            other => return Err(OptionsError::Unknown(other.to_owned())),
        }
        Ok(())
    }
}

fn is_prefix(value: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    value.len() <= LONGEST_PREFIX
        && value.starts_with(is_plain)
        && value.chars().all(|c| is_plain(c) || c == '-' || c == '_')
}

impl FromStr for ElasticOptions {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let url = text.strip_prefix(SCHEME).filter(|url| url.starts_with("http")).ok_or(OptionsError::Form)?;
        let url = Url::parse(url).map_err(|_| OptionsError::Form)?;
        if !url.has_host() || !matches!(url.scheme(), "http" | "https") {
            return Err(OptionsError::Form);
        }
        let mut endpoint = url.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        endpoint.set_password(None).and_then(|()| endpoint.set_username("")).map_err(|()| OptionsError::Form)?;
        let mut options = Self { endpoint, prefix: "lmao".to_owned(), replicas: 1, ca: None, credentials: None };
        if !url.username().is_empty() {
            options.credentials =
                Some(Credentials::Basic(decoded(url.username()), decoded(url.password().unwrap_or_default())));
        }
        for (parameter, value) in url.query_pairs() {
            options.set(&parameter, &value)?;
        }
        Ok(options)
    }
}

/// What `%XX` stands for; as it is where that is no text.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

impl fmt::Debug for ElasticOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticOptions")
            .field("endpoint", &self.endpoint.as_str())
            .field("prefix", &self.prefix)
            .field("replicas", &self.replicas)
            .field("has_credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_it_all_and_secrets_stay_inside() {
        let options: ElasticOptions =
            "elasticsearch+https://me:s%40cret@search:9200/base?prefix=team-a&replicas=2&ca=/etc/ca.pem"
                .parse()
                .unwrap();
        assert_eq!(options.endpoint.as_str(), "https://search:9200/base");
        assert_eq!((options.alias().as_str(), options.replicas), ("team-a-chunks", 2));
        assert!(
            matches!(&options.credentials, Some(Credentials::Basic(user, password)) if user == "me" && password == "s@cret")
        );
        assert!(!format!("{options:?}").contains("cret"));
        let options: ElasticOptions = "elasticsearch+http://localhost:9200?api_key=abc".parse().unwrap();
        assert_eq!((options.alias().as_str(), options.replicas), ("lmao-chunks", 1));
        assert!(matches!(&options.credentials, Some(Credentials::EncodedApiKey(key)) if key == "abc"));
        assert!(!format!("{options:?}").contains("abc"));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let error = |url: &str| url.parse::<ElasticOptions>().unwrap_err().to_string();
        for url in ["", "http://localhost:9200", "elasticsearch+ftp://x", "elasticsearch+http://", "elasticsearch://x"]
        {
            assert!(error(url).contains("elasticsearch+http://HOST:PORT"), "{url}");
        }
        assert!(error("elasticsearch+http://x?shards=2").contains("shards"));
        assert!(error("elasticsearch+http://x?replicas=-1").contains("replicas"));
        for prefix in ["", "A", "_a", "a b", "a*", &"a".repeat(101)] {
            assert!(error(&format!("elasticsearch+http://x?prefix={prefix}")).contains("prefix"), "{prefix}");
        }
    }
}
