//! The streams and buckets that the stores need: made from their definitions in `nats/`, and brought up to date.

use std::fmt;

use async_nats::jetstream::{ErrorCode, response::Response};
use lmao_ports::Unavailable;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Nats, STORE};

/// The key of the log's id in the metadata of its stream.
pub(super) const LOG_ID: &str = "lmao_log_id";
/// The key of the definitions' version there.
const VERSION: &str = "lmao_version";
/// The version of the definitions in this build.
const CURRENT: u64 = 1;

/// A stream that the stores need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Definition {
    Events,
    Snapshots,
    Vault,
    Nodes,
    Blobs,
}

impl Definition {
    pub(super) const ALL: [Self; 5] = [Self::Events, Self::Snapshots, Self::Vault, Self::Nodes, Self::Blobs];

    const fn json(self) -> &'static str {
        match self {
            Self::Events => include_str!("../../../nats/events.json"),
            Self::Snapshots => include_str!("../../../nats/snapshots.json"),
            Self::Vault => include_str!("../../../nats/vault.json"),
            Self::Nodes => include_str!("../../../nats/nodes.json"),
            Self::Blobs => include_str!("../../../nats/blobs.json"),
        }
    }

    /// The stream's name in the namespace.
    pub(crate) fn name(self, nats: &Nats) -> String {
        match self {
            Self::Events => nats.named("EVENTS"),
            Self::Snapshots => format!("KV_{}", nats.named("snapshots")),
            Self::Vault => format!("KV_{}", nats.named("vault")),
            Self::Nodes => format!("KV_{}", nats.named("nodes")),
            Self::Blobs => nats.named("BLOBS"),
        }
    }

    /// What all subjects of the stream begin with, the dot included.
    pub(crate) fn root(self, nats: &Nats) -> String {
        match self {
            Self::Events => nats.subject("events."),
            Self::Snapshots => format!("$KV.{}.", nats.named("snapshots")),
            Self::Vault => format!("$KV.{}.", nats.named("vault")),
            Self::Nodes => format!("$KV.{}.", nats.named("nodes")),
            Self::Blobs => nats.subject("blobs."),
        }
    }

    /// The configuration as it should be.
    fn wanted(self, nats: &Nats, replicas: Replicas) -> Result<Map<String, Value>, Unavailable> {
        let mut config: Map<String, Value> = serde_json::from_str(self.json())
            .map_err(|error| Unavailable::new(STORE, "a stream's definition does not parse", error))?;
        config.insert("name".to_owned(), json!(self.name(nats)));
        config.insert("subjects".to_owned(), json!([format!("{}>", self.root(nats))]));
        config.insert("num_replicas".to_owned(), json!(replicas.count()));
        config.insert("metadata".to_owned(), json!({ VERSION: CURRENT.to_string() }));
        Ok(config)
    }
}

/// On how many servers everything is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replicas {
    /// On one: it must sync each write (`sync_interval: always`).
    #[default]
    One,
    /// On three of a cluster.
    Three,
}

impl Replicas {
    const fn count(self) -> u64 {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }
}

/// What [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It made a stream.
    Created {
        /// The stream's name.
        stream: String,
    },
    /// It changed a setting of a stream.
    Updated {
        /// The stream's name.
        stream: String,
        /// The setting's name in the JetStream API.
        setting: String,
        /// What it was, as JSON.
        from: String,
        /// What it is, as JSON.
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { stream } => write!(f, "created {stream}"),
            Self::Updated { stream, setting, from, to } => write!(f, "{stream}: {setting} was {from}, is {to}"),
        }
    }
}

/// Makes the streams and buckets of the system, or brings them up to date. What is as it should be is left alone, and so are
/// settings that the definitions do not name. Repeating it is fine, also by several processes at once.
///
/// # Errors
/// [`Unavailable`]: it cannot be done now; it would store something on fewer servers than before; or a newer build has been
/// here. What was done before stays.
pub async fn migrate(nats: &Nats, replicas: Replicas) -> Result<Vec<Change>, Unavailable> {
    let mut changes = vec![];
    for definition in Definition::ALL {
        let wanted = definition.wanted(nats, replicas)?;
        let name = definition.name(nats);
        let found = match info(nats, &name).await? {
            Some(found) => found,
            None => match create(nats, definition, &name, wanted.clone()).await? {
                Made::New => {
                    changes.push(Change::Created { stream: name });
                    continue;
                }
                Made::ByAnother => info(nats, &name).await?.ok_or_else(|| {
                    Unavailable::plain(STORE, format!("{name} was deleted while it was made; try again"))
                })?,
            },
        };
        changes.extend(update(nats, definition, &name, wanted, found).await?);
    }
    Ok(changes)
}

enum Made {
    New,
    ByAnother,
}

async fn create(
    nats: &Nats,
    definition: Definition,
    name: &str,
    mut config: Map<String, Value>,
) -> Result<Made, Unavailable> {
    if definition == Definition::Events
        && let Some(Value::Object(metadata)) = config.get_mut("metadata")
    {
        metadata.insert(LOG_ID.to_owned(), json!(Uuid::new_v4()));
    }
    match request(nats, &format!("STREAM.CREATE.{name}"), &Value::Object(config)).await? {
        Ok(_) => Ok(Made::New),
        Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(Made::ByAnother),
        Err(error) => Err(refused(nats, &format!("{name} could not be made"), error)),
    }
}

async fn update(
    nats: &Nats,
    definition: Definition,
    name: &str,
    wanted: Map<String, Value>,
    found: Map<String, Value>,
) -> Result<Vec<Change>, Unavailable> {
    let (mut config, mut changes) = (found.clone(), vec![]);
    let wanted = with_metadata(definition, wanted, &found);
    check(name, &wanted, &found)?;
    for (setting, value) in wanted {
        let before = found.get(&setting).unwrap_or(&Value::Null);
        if !means_the_same(before, &value) {
            let (from, to) = (before.to_string(), value.to_string());
            changes.push(Change::Updated { stream: name.to_owned(), setting: setting.clone(), from, to });
            config.insert(setting, value);
        }
    }
    if changes.is_empty() {
        return Ok(changes);
    }
    match request(nats, &format!("STREAM.UPDATE.{name}"), &Value::Object(config)).await? {
        Ok(_) => Ok(changes),
        Err(error) => Err(refused(nats, &format!("{name} could not be brought up to date"), error)),
    }
}

/// What stands in the metadata beside ours stays; the log has an id.
fn with_metadata(
    definition: Definition,
    mut wanted: Map<String, Value>,
    found: &Map<String, Value>,
) -> Map<String, Value> {
    let mut metadata = found.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    if definition == Definition::Events && !metadata.contains_key(LOG_ID) {
        metadata.insert(LOG_ID.to_owned(), json!(Uuid::new_v4()));
    }
    metadata.insert(VERSION.to_owned(), json!(CURRENT.to_string()));
    wanted.insert("metadata".to_owned(), Value::Object(metadata));
    wanted
}

/// Refuses what would weaken the stream.
fn check(name: &str, wanted: &Map<String, Value>, found: &Map<String, Value>) -> Result<(), Unavailable> {
    let replicas = |config: &Map<String, Value>| config.get("num_replicas").and_then(Value::as_u64).unwrap_or(1);
    let (has, wants) = (replicas(found), replicas(wanted));
    if has > wants {
        let message =
            format!("{name} is stored on {has} servers, which is not reduced to {wants}: ask for {has} replicas");
        return Err(Unavailable::plain(STORE, message));
    }
    let version = found.get("metadata").and_then(|metadata| metadata.get(VERSION)).and_then(Value::as_str);
    if version.and_then(|version| version.parse::<u64>().ok()).is_some_and(|version| version > CURRENT) {
        let message = format!("{name} was made by a newer build; run `lmao migrate` of that build, or a later one");
        return Err(Unavailable::plain(STORE, message));
    }
    Ok(())
}

/// The server leaves out what is off.
fn means_the_same(found: &Value, wanted: &Value) -> bool {
    found == wanted || (found.is_null() && (*wanted == json!(false) || *wanted == json!(0)))
}

/// The configuration of a stream; `None` when there is no such stream.
pub(super) async fn info(nats: &Nats, name: &str) -> Result<Option<Map<String, Value>>, Unavailable> {
    match request(nats, &format!("STREAM.INFO.{name}"), &json!({})).await? {
        Ok(mut info) => match info.get_mut("config").map(Value::take) {
            Some(Value::Object(config)) => Ok(Some(config)),
            _ => Err(Unavailable::plain(STORE, format!("the server does not say how {name} is configured"))),
        },
        Err(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Err(error) => Err(refused(nats, &format!("{name} cannot be looked up"), error)),
    }
}

/// The configuration of a stream that must exist.
pub(super) async fn existing(nats: &Nats, definition: Definition) -> Result<Map<String, Value>, Unavailable> {
    let name = definition.name(nats);
    info(nats, &name).await?.ok_or_else(|| {
        let message = format!("there is no stream {name} on {}: run `lmao migrate` first", nats.servers());
        Unavailable::plain(STORE, message)
    })
}

async fn request(
    nats: &Nats,
    subject: &str,
    body: &Value,
) -> Result<Result<Value, async_nats::jetstream::Error>, Unavailable> {
    let answer: Response<Value> = nats.jetstream().request(subject.to_owned(), body).await.map_err(|error| {
        Unavailable::new(
            STORE,
            format!("{} does not answer; check that it runs, then try again", nats.servers()),
            error,
        )
    })?;
    Ok(match answer {
        Response::Ok(value) => Ok(value),
        Response::Err { error } => Err(error),
    })
}

fn refused(nats: &Nats, what: &str, error: async_nats::jetstream::Error) -> Unavailable {
    let hint = match error.error_code() {
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED | ErrorCode::CLUSTER_NO_PEERS => {
            ": three replicas need a cluster of three servers"
        }
        ErrorCode::STREAM_SUBJECT_OVERLAP => ": a stream of another system has its subjects; choose another namespace",
        ErrorCode::CLUSTER_NOT_AVAILABLE => ": the cluster has no leader; wait, then try again",
        _ => "",
    };
    Unavailable::new(STORE, format!("{what} on {}{hint}", nats.servers()), error)
}

#[cfg(test)]
mod tests {
    use super::{super::testing, *};

    #[tokio::test]
    async fn makes_what_is_missing_and_leaves_the_rest_alone() {
        let nats = testing::empty().await;
        let made = migrate(&nats, Replicas::One).await.unwrap();
        assert_eq!(made.len(), Definition::ALL.len());
        assert!(made.iter().all(|change| matches!(change, Change::Created { .. })), "{made:?}");
        let before = existing(&nats, Definition::Events).await.unwrap();
        assert!(before["metadata"][LOG_ID].as_str().unwrap().parse::<Uuid>().is_ok());
        assert_eq!(migrate(&nats, Replicas::One).await.unwrap(), []);
        assert_eq!(existing(&nats, Definition::Events).await.unwrap(), before);
    }

    #[tokio::test]
    async fn brings_back_what_somebody_changed_and_keeps_what_is_theirs() {
        let nats = testing::migrated().await;
        let name = Definition::Snapshots.name(&nats);
        let mut config = existing(&nats, Definition::Snapshots).await.unwrap();
        config.insert("max_age".to_owned(), json!(1_000_000_000_000_u64));
        config.insert("description".to_owned(), json!("ours"));
        config["metadata"]["team"] = json!("blue");
        config.insert("compression".to_owned(), json!("s2"));
        request(&nats, &format!("STREAM.UPDATE.{name}"), &Value::Object(config)).await.unwrap().unwrap();
        let changes = migrate(&nats, Replicas::One).await.unwrap();
        let settings: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(settings.len(), 2, "{settings:?}");
        assert!(settings.iter().any(|change| change.contains("max_age was 1000000000000, is 0")), "{settings:?}");
        let config = existing(&nats, Definition::Snapshots).await.unwrap();
        assert_eq!((&config["metadata"]["team"], &config["compression"]), (&json!("blue"), &json!("s2")));
    }

    #[tokio::test]
    async fn several_at_once_make_one_log() {
        let nats = testing::empty().await;
        let outcomes = futures::future::join_all((0..8).map(|_| migrate(&nats, Replicas::One))).await;
        let changes: Vec<Change> = outcomes.into_iter().flat_map(Result::unwrap).collect();
        let logs = Change::Created { stream: Definition::Events.name(&nats) };
        assert_eq!(changes.iter().filter(|change| **change == logs).count(), 1, "{changes:?}");
        assert_eq!(migrate(&nats, Replicas::One).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_a_newer_build_made_is_left_alone_and_one_server_is_no_cluster() {
        let nats = testing::migrated().await;
        let error = migrate(&nats, Replicas::Three).await.unwrap_err().to_string();
        assert!(error.contains("cluster of three"), "{error}");
        let name = Definition::Events.name(&nats);
        let mut config = existing(&nats, Definition::Events).await.unwrap();
        config["metadata"][VERSION] = json!("2");
        request(&nats, &format!("STREAM.UPDATE.{name}"), &Value::Object(config)).await.unwrap().unwrap();
        let error = migrate(&nats, Replicas::One).await.unwrap_err().to_string();
        assert!(error.contains("newer build"), "{error}");
    }

    #[test]
    fn fewer_replicas_are_refused() {
        let config = |replicas: u64| json!({ "num_replicas": replicas }).as_object().unwrap().clone();
        assert!(check("EVENTS", &config(3), &config(1)).is_ok());
        let error = check("EVENTS", &config(1), &config(3)).unwrap_err().to_string();
        assert!(error.contains("ask for 3 replicas"), "{error}");
    }
}
