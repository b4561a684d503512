//! The crash test: the process is killed at random moments while clients talk and upload. Whatever was accepted ends
//! exactly once, whatever was seen stays, and the projections are those that the log makes.

use std::{
    collections::BTreeMap,
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

use crate::{
    promises::{Failures, PATIENCE, check_chains, check_documents, check_log, check_talks},
    support::{Client, Server, lmao, lmao_json},
    users::{Attempts, World, look, talk, text, upload},
};

const TALKERS: u64 = 4;
const UPLOADERS: u64 = 3;
/// How long a server lives once it is ready, in milliseconds.
const LIFE: std::ops::Range<u64> = 200..2000;
/// One kill of so many comes before the server is ready.
const EARLY: u32 = 5;
/// No attempt takes longer; one that does is not counted, since the server is always about to be killed.
const DEADLINE: Duration = Duration::from_secs(90);

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
    let (place, address) = watch::channel(vec![]);
    let (client, begins) = first_start(&data, &trial, &mut random).await;
    let attempts = Attempts::new(DEADLINE, |_, _| true);
    let world = World::new(client.clone(), address, attempts.clone());
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
            place.send_replace(vec![server.url.clone()]);
            sleep(Duration::from_millis(random.random_range(LIFE))).await;
        }
        server.kill9();
        place.send_replace(vec![]);
    }
    let server = Server::start_with(&data, &[("LMAO_MODELS", trial.models)]).await;
    place.send_replace(vec![server.url.clone()]);
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
    let messages = check_talks(&client, &talks, &seen, Failures::None).await.ended;
    let documents = check_documents(&client, &shelves, &seen, Failures::None).await.ended;
    check_log(&client).await;
    check_chains(&client).await;
    let live = client.get("/admin/projections?digest=true").await.expect("an answer").body;
    assert!(server.sigterm().await.success(), "a server that is asked to end ends well");
    check_files(&data, trial.models, &live["projections"]);
    println!(
        "{} kills, {} requests broken off by them; {messages} messages answered and {documents} documents ready, each once",
        trial.kills,
        attempts.tally().broken
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
