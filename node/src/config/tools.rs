//! Tools of the configuration: `[[tools]]`, each an HTTP endpoint with a name, a schema, and whether it may be repeated.

use std::{collections::BTreeSet, fmt, time::Duration};

use lmao_ports::ToolSpec;
use lmao_tools::{Registry, check_schema};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

/// Characters of a tool's name: what language models take.
const MAX_NAME: usize = 64;
/// Seconds that a tool may run.
const MAX_TIMEOUT: u64 = 600;

/// The tools that run elsewhere. Shown by name, without what their addresses may hide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Tools(Vec<HttpTool>);

/// A tool that runs behind an HTTP endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpTool {
    /// Its name: lower case, digits, `_`, `-`.
    pub name: String,
    /// Where calls are sent.
    pub url: ToolUrl,
    /// What it does, for people and models.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments (an object).
    pub schema: Value,
    /// Whether running it twice does no harm.
    #[serde(default)]
    pub idempotent: bool,
    /// Seconds that it may run.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
}

const fn default_timeout() -> u64 {
    30
}

impl Tools {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HttpTool> {
        self.0.iter()
    }

    /// What is wrong with them.
    pub(super) fn fault(&self) -> Option<String> {
        let mut names = BTreeSet::from(Registry::BUILTIN);
        self.0.iter().find_map(|tool| {
            let fault =
                if names.insert(&tool.name) { tool.fault()? } else { "there is another of that name".to_owned() };
            Some(format!("tools: {:?}: {fault}", tool.name))
        })
    }
}

impl HttpTool {
    /// As the registry knows it.
    pub(crate) fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: self.name.clone(),
            description: self.description.clone(),
            capabilities: vec![],
            parameters: self.schema.clone(),
            repeatable: self.idempotent,
            timeout: Duration::from_secs(self.timeout),
        }
    }

    fn fault(&self) -> Option<String> {
        let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(usual) {
            return Some(format!("a name has 1 to {MAX_NAME} lower case letters, digits, _ and -"));
        }
        if !(1..=MAX_TIMEOUT).contains(&self.timeout) {
            return Some(format!("timeout is {} seconds; use 1 to {MAX_TIMEOUT}", self.timeout));
        }
        let fault = check_schema(&self.schema).err()?;
        Some(format!("schema is no JSON Schema that can be used: {fault}"))
    }
}

impl Serialize for Tools {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_none();
        }
        serializer.collect_map(self.0.iter().map(|tool| {
            let HttpTool { name, url, description, schema, idempotent, timeout } = tool;
            let shown = json!({
                "url": url.to_string(),
                "description": description,
                "schema": schema.to_string(),
                "idempotent": idempotent,
                "timeout": timeout,
            });
            (name, shown)
        }))
    }
}

/// The address of a tool. Whatever follows the host may be a secret, and is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ToolUrl(reqwest::Url);

impl ToolUrl {
    /// The address itself, for the one who connects.
    pub(crate) fn reveal(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for ToolUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let url = reqwest::Url::parse(&text).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(Self).ok_or("a tool's address is http://HOST/PATH or https://HOST/PATH")
    }
}

impl fmt::Display for ToolUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str("/…")
    }
}

impl fmt::Debug for ToolUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::{Loaded, Overrides, load};

    use super::*;

    fn loaded(text: &str) -> Result<Loaded, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lmao.toml");
        fs::write(&path, text).unwrap();
        load(&Overrides { file: Some(path), flags: vec![] }, []).map_err(|error| error.to_string())
    }

    fn tool(lines: &str) -> String {
        let mut table = toml_defaults();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let key = line.split(' ').next().unwrap();
            table.retain(|known| known.split(' ').next() != Some(key));
            table.push(line.to_owned());
        }
        table.retain(|line| !line.ends_with("= absent"));
        format!("[[tools]]\n{}\n", table.join("\n"))
    }

    fn toml_defaults() -> Vec<String> {
        let lines = [
            "name = \"pay\"",
            "url = \"https://me:hush@shop.example:8443/hooks/T0KEN?key=hush\"",
            "schema = { type = \"object\", properties = { amount = { type = \"integer\", minimum = 1 } } }",
        ];
        lines.map(str::to_owned).into()
    }

    #[test]
    fn a_tool_is_a_table() {
        let text = tool("idempotent = true\ntimeout = 5\ndescription = \"Pays.\"") + &tool("name = \"look-up_2\"");
        let loaded = loaded(&text).unwrap();
        let specs: Vec<ToolSpec> = loaded.config.tools.iter().map(HttpTool::spec).collect();
        let schema = json!({ "type": "object", "properties": { "amount": { "type": "integer", "minimum": 1 } } });
        assert_eq!((specs[0].name.as_str(), specs[0].description.as_str()), ("pay", "Pays."));
        assert_eq!(
            (specs[0].repeatable, specs[0].timeout, &specs[0].parameters),
            (true, Duration::from_secs(5), &schema)
        );
        assert_eq!((specs[1].name.as_str(), specs[1].repeatable), ("look-up_2", false));
        assert_eq!(specs[1].timeout, Duration::from_secs(30));
        let url = loaded.config.tools.iter().next().unwrap().url.reveal();
        assert_eq!(url, "https://me:hush@shop.example:8443/hooks/T0KEN?key=hush");
    }

    #[test]
    fn it_is_shown_without_the_secrets_of_its_address() {
        let loaded = loaded(&tool("")).unwrap();
        let entries = loaded.entries();
        let value = |key: &str| entries.iter().find(|(known, _)| known == key).unwrap().1.clone().unwrap();
        assert_eq!(value("tools.pay.url"), "https://shop.example:8443/…");
        assert_eq!((value("tools.pay.idempotent"), value("tools.pay.timeout")), ("false".to_owned(), "30".to_owned()));
        assert!(value("tools.pay.schema").starts_with("{\"properties\""));
        assert!(loaded.origins["tools.pay.url"].ends_with("lmao.toml"));
        let shown = format!("{entries:?} {:?}", loaded.config);
        assert!(!shown.contains("hush") && !shown.contains("T0KEN"), "{shown}");
        let none = load(&Overrides::default(), []).unwrap();
        assert!(none.entries().contains(&("tools".to_owned(), None)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_secrets_are_not_repeated() {
        for (lines, fault) in [
            ("name = \"Pay\"", "a name has 1 to 64"),
            ("name = \"\"", "a name has 1 to 64"),
            ("name = \"calculator\"", "another of that name"),
            ("name = absent", "missing field `name`"),
            ("url = absent", "missing field `url`"),
            ("schema = absent", "missing field `schema`"),
            ("url = \"ftp://me:hush@host/\"", "http://HOST/PATH"),
            ("url = \"hush\"", "http://HOST/PATH"),
            ("url = 424242", "expected"),
            ("schema = { type = \"no such type\" }", "no JSON Schema"),
            ("schema = \"text\"", "no JSON Schema"),
            ("timeout = 0", "1 to 600"),
            ("timeout = 601", "1 to 600"),
            ("timeout = -1", "expected"),
            ("retries = 3", "is no configuration key"),
        ] {
            let error = loaded(&tool(lines)).unwrap_err();
            assert!(error.contains(fault) && error.contains("tools"), "{lines}: {error}");
            assert!(!error.contains("hush") && !error.contains("424242"), "{error}");
        }
        let error = loaded(&(tool("") + &tool(""))).unwrap_err();
        assert!(error.contains("tools: \"pay\": there is another of that name"), "{error}");
        let environment = [("LMAO_TOOLS".to_owned(), "http://me:hush@host/".to_owned())];
        let error = load(&Overrides::default(), environment).unwrap_err().to_string();
        assert!(error.starts_with("LMAO_TOOLS: tools: expected") && !error.contains("hush"), "{error}");
    }
}
