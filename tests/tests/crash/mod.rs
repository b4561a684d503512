//! The crash test: the process is killed at random moments while clients talk and upload. Whatever was accepted ends
//! exactly once, whatever was seen stays, and the projections are those that the log makes.

mod clients;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::{
    sync::watch,
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use self::clients::{Seen, Shelf, Talk, World, look, talk, text, upload};
use crate::support::{Client, Server, lmao, lmao_json};

const TALKERS: u64 = 4;
const UPLOADERS: u64 = 3;
/// How long a server lives once it is ready, in milliseconds.
const LIFE: std::ops::Range<u64> = 200..2000;
/// One kill of so many comes before the server is ready.
const EARLY: u32 = 5;
/// After the last kill everything ends within this time.
const PATIENCE: Duration = Duration::from_secs(120);

/// How to try the server.
struct Trial {
    kills: u32,
    models: &'static str,
}

#[tokio::test]
async fn what_was_accepted_ends_exactly_once_however_often_the_process_is_killed() {
    LocalSet::new().run_until(run(Trial { kills: setting("LMAO_CRASH_KILLS", 60), models: "off" })).await;
}

#[tokio::test]
async fn with_an_embedding_model_too_what_was_accepted_ends_exactly_once() {
    let doctor = lmao(&["doctor", "--json"]).env("LMAO_MODELS", "auto").output().expect("lmao can be started");
    let found: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let parts = found.as_array().expect("a list");
    let model = parts.iter().find(|part| part["name"] == "embedding model").expect("the model is among them");
    if model["state"] != "ok" {
        println!("left out: crash::with_an_embedding_model: no embedding model is in the cache");
        return;
    }
    LocalSet::new().run_until(run(Trial { kills: setting("LMAO_CRASH_KILLS", 60) / 6, models: "auto" })).await;
}

fn setting(name: &str, default: u32) -> u32 {
    env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn run(trial: Trial) {
    let seed = u64::from(setting("LMAO_CRASH_SEED", 1));
    let folder = tempfile::tempdir().expect("a folder").keep();
    let data = folder.join("data");
    println!("LMAO_CRASH_SEED={seed}, {} kills; {} is kept if this fails", trial.kills, folder.display());

    let mut random = StdRng::seed_from_u64(seed);
    let (place, address) = watch::channel(None);
    let (client, begins) = first_start(&data, &trial, &mut random).await;
    let world = World::new(client.clone(), address);
    let talkers = (0..TALKERS).map(|n| spawn_local(talk(world.clone(), format!("talker {n}"), seed * 100 + n)));
    let talkers: Vec<_> = talkers.collect();
    let uploaders = (0..UPLOADERS).map(|n| spawn_local(upload(world.clone(), format!("flock-{n}"), seed * 200 + n)));
    let uploaders: Vec<_> = uploaders.collect();
    let looker = spawn_local(look(world.clone(), seed * 300));

    for kill in 0..trial.kills {
        let mut server = Server::spawn(&data, &[("LMAO_MODELS", trial.models)]);
        if kill % EARLY == 0 {
            sleep(begins.mul_f64(random.random_range(0.0..1.2))).await;
        } else {
            server.ready().await;
            place.send_replace(Some(server.url.clone()));
            sleep(Duration::from_millis(random.random_range(LIFE))).await;
        }
        server.kill9();
        place.send_replace(None);
    }
    let server = Server::start_with(&data, &[("LMAO_MODELS", trial.models)]).await;
    place.send_replace(Some(server.url.clone()));
    world.end();
    let promised = timeout(PATIENCE, async {
        let (mut talks, mut shelves) = (vec![], vec![]);
        for talker in talkers {
            talks.extend(talker.await.expect("a talker is content"));
        }
        for uploader in uploaders {
            shelves.push(uploader.await.expect("an uploader is content"));
        }
        (talks, shelves, looker.await.expect("what was seen stays"))
    });
    let (talks, shelves, seen) = promised.await.expect("every request is answered in the end");

    let client = client.at(&server.url);
    let messages = check_talks(&client, &talks, &seen).await;
    let documents = check_documents(&client, &shelves, &seen).await;
    check_log(&client).await;
    let live = client.get("/admin/projections?digest=true").await.expect("an answer").body;
    assert!(server.sigterm().await.success(), "a server that is asked to end ends well");
    check_files(&data, trial.models, &live["projections"]);
    println!(
        "{} kills, {} requests broken off by them; {messages} messages answered and {documents} documents ready, each once",
        trial.kills,
        world.broken()
    );
    fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// Kills the very first starts, lets one succeed, and says how long it took.
async fn first_start(data: &Path, trial: &Trial, random: &mut StdRng) -> (Client, Duration) {
    for _ in 0..4 {
        let server = Server::spawn(data, &[("LMAO_MODELS", trial.models)]);
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        server.kill9();
    }
    let begun = Instant::now();
    let server = Server::start_with(data, &[("LMAO_MODELS", trial.models)]).await;
    let begins = begun.elapsed();
    let client = server.admin().await;
    server.kill9();
    (client, begins)
}

/// Asks again and again until there is nothing left to wait for.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(missing) => assert!(begun.elapsed() < PATIENCE, "{what}: {missing}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every message that was taken is there once, in its order, with one answer; returns how many.
async fn check_talks(client: &Client, talks: &[Talk], seen: &Seen) -> usize {
    let (mut answered, mut there) = (0, BTreeMap::new());
    for talk in talks {
        let path = format!("/api/v1/sessions/{}/messages", talk.session);
        let rows = eventually("every message is answered", async || {
            let rows = client.all(&path, "messages", None).await;
            let is_from = |role: &str| rows.iter().filter(|row| row["role"] == role).count();
            let (asked, answered) = (is_from("user"), is_from("assistant"));
            if asked == answered { Ok(rows) } else { Err(format!("{path}: {answered} answers to {asked} messages")) }
        })
        .await;
        check_talk(talk, &rows);
        answered += rows.len() / 2;
        there.extend(rows.iter().map(|row| (text(&row["id"]), (talk.session.clone(), text(&row["content"])))));
    }
    for (id, message) in &seen.messages {
        assert_eq!(there.get(id), Some(message), "message {id} was seen");
    }
    answered
}

fn check_talk(talk: &Talk, rows: &[Value]) {
    let (asked, answers): (Vec<&Value>, Vec<&Value>) = rows.iter().partition(|row| row["role"] == "user");
    let ids: Vec<String> = asked.iter().map(|row| text(&row["id"])).collect();
    let of: Vec<String> = answers.iter().map(|row| text(&row["metadata"]["message_id"])).collect();
    assert_eq!(ids, of, "each message of {} has one answer, in order", talk.session);
    let failed: Vec<_> = answers.iter().filter(|row| row["content"] == "").collect();
    assert!(failed.is_empty(), "messages failed: {failed:#?}");

    let known: BTreeMap<&str, _> = talk.accepted.iter().map(|said| (said.text.as_str(), said)).collect();
    let mut texts = BTreeSet::new();
    let mut last = 0;
    for (asked, answer) in asked.iter().zip(&answers) {
        let text = asked["content"].as_str().expect("a text");
        assert!(texts.insert(text), "{text:?} was taken twice");
        let Some(said) = known.get(text) else {
            assert!(talk.uncertain.iter().any(|said| said == text), "nobody said {text:?}");
            continue;
        };
        assert_eq!(asked["id"], said.message_id.as_str(), "{text:?}");
        assert!(said.response.as_ref().is_none_or(|told| answer["content"] == told.as_str()), "{text:?}: {answer}");
        assert!(last <= said.burst, "{text:?} comes too late");
        last = said.burst;
    }
    let missing: Vec<_> = known.keys().filter(|text| !texts.contains(*text)).collect();
    assert!(missing.is_empty(), "session {} has lost {missing:?}", talk.session);
}

/// Every document that was taken is there once, and ready; returns how many.
async fn check_documents(client: &Client, shelves: &[Shelf], seen: &Seen) -> usize {
    let documents = eventually("every document ends", async || {
        let documents = client.all("/api/v1/documents", "documents", None).await;
        let is_under_way = |document: &&Value| !["ready", "failed"].contains(&text(&document["status"]).as_str());
        match documents.iter().find(is_under_way) {
            Some(document) => Err(document.to_string()),
            None => Ok(documents),
        }
    })
    .await;
    let mut there = BTreeMap::new();
    for document in &documents {
        assert_eq!(document["status"], "ready", "{document}");
        let before = there.insert(text(&document["filename"]), text(&document["document_id"]));
        assert!(before.is_none(), "{} is there twice", document["filename"]);
    }
    for (name, id) in shelves.iter().flat_map(|shelf| &shelf.accepted) {
        assert_eq!(there.get(name), Some(id), "{name} was accepted");
    }
    for (id, name) in &seen.documents {
        assert_eq!(there.get(name), Some(id), "{name} was seen");
    }
    let sent = |name: &String| shelves.iter().any(|s| s.accepted.contains_key(name) || s.uncertain.contains(name));
    assert!(there.keys().all(sent), "nobody sent some of {there:?}");
    documents.len()
}

/// In the log itself everything that began has ended once, also what nobody asked about.
async fn check_log(client: &Client) {
    let (mut begun, mut ended) = (BTreeSet::new(), BTreeMap::new());
    for category in ["session", "document"] {
        let path = format!("/admin/events?stream={category}&limit=100000");
        let records = client.get(&path).await.expect("an answer").body;
        let records = records.as_str().expect("lines").lines().filter(|line| !line.is_empty()).map(str::to_owned);
        for record in records.map(|line| serde_json::from_str::<Value>(&line).expect("a record")) {
            for event in record["events"].as_array().expect("nobody was erased") {
                let of = event["data"]["message_id"].as_str().or(record["stream"].as_str()).expect("a name").to_owned();
                match event["type"].as_str().expect("a name").rsplit('.').next() {
                    Some("MessageReceived" | "Uploaded") => assert!(begun.insert(of), "begun twice: {record}"),
                    Some("ReplyCompleted" | "ReplyFailed" | "Indexed" | "Failed") => *ended.entry(of).or_insert(0) += 1,
                    _ => {}
                }
            }
        }
    }
    assert!(!begun.is_empty(), "the log knows nothing of it all");
    let expected = begun.into_iter().map(|name| (name, 1)).collect::<BTreeMap<_, _>>();
    assert_eq!(ended, expected, "everything ends once");
}

/// What is left when no server runs is whole, and the projections, `live` ones too, are what the log makes.
fn check_files(data: &Path, models: &str, live: &Value) {
    let audit = lmao_json(data, &["audit", "verify"], models);
    assert_eq!(audit["ok"], true, "{audit:#}");
    let kept = lmao_json(data, &["projections", "digest"], models);
    let rebuilt = lmao_json(data, &["projections", "rebuild"], models);
    let again = lmao_json(data, &["projections", "digest"], models);
    for rows in [live, &kept, &rebuilt, &again] {
        for row in rows.as_array().expect("a list") {
            assert_eq!((&row["parked"], &row["position"]), (&Value::Array(vec![]), &row["tail"]), "{row:#}");
        }
    }
    let digests = |rows: &Value| -> BTreeMap<String, String> {
        rows.as_array().expect("a list").iter().map(|row| (text(&row["name"]), text(&row["digest"]))).collect()
    };
    assert_eq!(digests(live).len(), 2, "tables and search: {live}");
    assert_eq!(digests(live), digests(&kept), "what the server shows is not what it keeps");
    assert_eq!(digests(&kept), digests(&again), "the projections are not what a rebuild makes");
}
