//! Data directories as mishaps leave them: each is named with what to do about it, before anything is written, and what was
//! not hit is still there.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::{
    files::{copy, files_below},
    main_job::start_with_model,
    support::{Client, Server, lmao, lmao_json},
};

const SEARCH: &str = "/api/v1/documents/search";
const PAGE: usize = 4096;

/// `lmao` ends with this code, and says all of this; what it said.
#[track_caller]
fn assert_ends(data: &Path, arguments: &[&str], code: i32, says: &[&str]) -> String {
    let mut command = lmao(arguments);
    let output = command.arg("--data").arg(data).output().expect("lmao can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for text in says {
        assert!(said.contains(text), "{arguments:?} says nothing of {text:?}: {said}");
    }
    said
}

#[track_caller]
fn assert_does_not_start(data: &Path, says: &[&str]) {
    assert_ends(data, &["serve", "--listen", "127.0.0.1:0"], 1, says);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    assert_does_not_start(&data, &["in use by process", &server.url]);
    assert_eq!(server.admin().await.get("/health").await.expect("an answer").status, 200, "the first one goes on");
    assert!(server.sigterm().await.success());

    let format = fs::read(data.join("format")).expect("it has a format");
    fs::write(data.join("format"), "99 lmao 9.9.9\n").expect("files can be written");
    assert_does_not_start(&data, &["has format 99", "lmao 9.9.9", "upgrade"]);
    fs::write(data.join("format"), "none\n").expect("files can be written");
    assert_does_not_start(&data, &["format number", "backup"]);
    fs::write(data.join("format"), format).expect("files can be written");

    sql(&data.join("log.db"), "PRAGMA user_version = 99").await;
    assert_does_not_start(&data, &["log.db", "newer build", "upgrade"]);
    sql(&data.join("log.db"), "PRAGMA user_version = 1").await;
    lmao_json(&data, &["audit", "verify"], "off");

    let strange = folder.path().join("strange");
    fs::create_dir(&strange).expect("a folder");
    fs::write(strange.join("thesis.odt"), "mine").expect("files can be written");
    assert_does_not_start(&strange, &["no data directory", "--data"]);
    assert_eq!(files_below(&strange).len(), 1, "nothing is put beside the files of others");
    assert_does_not_start(&strange.join("thesis.odt"), &["not a folder"]);
    assert_ends(&folder.path().join("none"), &["audit", "verify"], 3, &["no data directory"]);

    read_only(folder.path(), &data);
}

/// Permissions bind everybody but root: root becomes nobody for it.
fn read_only(folder: &Path, data: &Path) {
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    allow(folder, 0o755);
    allow(data, 0o555);
    let mut command = lmao(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    match command.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("this user may not use it; change its owner or permissions"), "{said}");
        }
        Err(error) => println!("left out: read_only: nobody may not run this binary ({error})"),
    }
    allow(data, 0o700);
}

/// Runs a statement on a store that no server uses, and leaves all of it in the one file.
async fn sql(path: &Path, statement: &str) {
    let url = format!("sqlite:{}", path.display());
    let mut connection = SqliteConnection::connect(&url).await.expect("the file can be opened");
    for statement in [statement, "PRAGMA wal_checkpoint(TRUNCATE)"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect("it is done");
    }
    connection.close().await.expect("it can be closed");
}

/// Overwrites these pages of a file: from the first one that holds `text` or, without one, all but the first.
fn garble(path: &Path, text: Option<&str>) {
    let mut bytes = fs::read(path).expect("the file can be read");
    for (number, page) in bytes.chunks_mut(PAGE).enumerate() {
        let is_hit = text.map_or(number > 0, |text| page.windows(text.len()).any(|window| window == text.as_bytes()));
        if is_hit {
            page.fill(0xa5);
        }
    }
    fs::write(path, bytes).expect("the file can be written");
}

/// A directory with three documents on birds and one that failed, its databases each in one file, and the model used.
struct Template {
    folder: tempfile::TempDir,
    models: &'static str,
    heron: String,
    failed: String,
}

impl Template {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("template");
        let (server, models) = match start_with_model("damage with vectors", &data).await {
            Some(server) => (server, "auto"),
            None => (Server::start(&data).await, "off"),
        };
        let admin = server.admin().await;
        let mut ids = vec![];
        for bird in ["crane", "heron", "stork"] {
            let text = format!("The {bird} stands in the shallow water every morning.");
            let reply = admin.upload(&format!("{bird}.txt"), text.into_bytes(), None).await.expect("an answer");
            assert_eq!(reply.status, 200, "{}", reply.body);
            ids.push(reply.body["document_id"].as_str().expect("an id").to_owned());
        }
        let failed = admin.upload("blank.txt", b" \n ".to_vec(), None).await.expect("an answer");
        let failed = failed.body["error"]["details"]["document_id"].as_str().expect("an id").to_owned();
        assert!(server.sigterm().await.success());
        for store in ["log.db", "read.db", "snapshots.db"] {
            sql(&data.join(store), "SELECT 1").await;
        }
        Self { folder, models, heron: ids.swap_remove(1), failed }
    }

    /// A fresh copy.
    fn copy(&self, name: &str) -> PathBuf {
        let data = self.folder.path().join(name);
        copy(&self.folder.path().join("template"), &data);
        data
    }

    async fn start(&self, data: &Path) -> (Server, Client) {
        let server = Server::start_with(data, &[("LMAO_MODELS", self.models)]).await;
        let admin = server.admin().await;
        (server, admin)
    }

    /// The folder of a document's blobs.
    fn blobs(data: &Path, document: &str) -> PathBuf {
        let files = files_below(&data.join("blobs"));
        let of = |file: &&PathBuf| {
            file.components().any(|part| part.as_os_str().to_string_lossy().split('.').next() == Some(document))
        };
        files.iter().find(of).expect("it has blobs").parent().expect("they lie in a folder").to_owned()
    }
}

async fn found(client: &Client, word: &str, how: &str) -> Vec<Value> {
    let reply = client.post(SEARCH, &json!({ "query": word, "search_type": how }), None).await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let results = reply.body["results"].as_array().expect("a list");
    results.iter().map(|result| result["metadata"]["filename"].clone()).collect()
}

async fn part(client: &Client, name: &str) -> Value {
    let health = client.get("/health").await.expect("an answer");
    assert_eq!(health.status, 200, "degraded is no failure: {}", health.body);
    let parts = health.body["components"].as_array().expect("parts");
    parts.iter().find(|part| part["name"] == name).expect("it is listed").clone()
}

#[tokio::test]
async fn damage_is_named_with_what_to_do_and_the_rest_is_kept() {
    let template = Template::new().await;
    the_log(&template).await;
    the_tables(&template).await;
    the_index(&template).await;
    missing_blobs(&template).await;
}

async fn the_log(template: &Template) {
    let data = template.copy("log-pages");
    garble(&data.join("log.db"), None);
    assert_does_not_start(&data, &["log.db", "damaged", "backup"]);
    assert_ends(&data, &["audit", "verify"], 1, &["log.db", "damaged", "backup"]);

    // A record that was altered in place, by somebody who knows SQL.
    let data = template.copy("log-record");
    let alter = "UPDATE log SET record = (SELECT record FROM log WHERE position = 3) WHERE position = 2";
    sql(&data.join("log.db"), alter).await;
    assert_ends(&data, &["audit", "verify"], 1, &[]);

    // The tail, and with it every trace of a stream.
    let data = template.copy("log-tail");
    sql(&data.join("log.db"), "DELETE FROM log WHERE position > (SELECT max(position) - 3 FROM log)").await;
    assert_ends(&data, &["audit", "verify"], 1, &[]);
}

async fn the_tables(template: &Template) {
    let data = template.copy("read-pages");
    garble(&data.join("read.db"), None);
    assert_does_not_start(&data, &["read.db", "damaged", "delete read.db", "rebuilt from the log"]);
    for name in ["read.db", "read.db-wal", "read.db-shm"] {
        _ = fs::remove_file(data.join(name));
    }
    let (server, admin) = template.start(&data).await;
    let documents = admin.get("/api/v1/documents").await.expect("an answer");
    assert_eq!(documents.body["total"], 4, "doing so brings everything back: {}", documents.body);
    server.kill9();

    // A page that only some requests need: they say so, the others work.
    let data = template.copy("read-page");
    garble(&data.join("read.db"), Some("heron.txt"));
    let (server, admin) = template.start(&data).await;
    let documents = admin.get("/api/v1/documents").await.expect("an answer");
    assert_eq!((documents.status, documents.reason()), (503, "unavailable"), "{}", documents.body);
    let message = documents.body["error"]["message"].as_str().expect("a message");
    assert!(message.contains("delete read.db"), "{message}");
    assert_eq!(found(&admin, "heron", "keyword").await, ["heron.txt"], "the index is whole");
    server.kill9();
}

async fn the_index(template: &Template) {
    let rows = template.folder.path().join("template/search/rows");
    for file in files_below(&rows) {
        let data = template.copy("index");
        let file = data.join("search/rows").join(file.file_name().expect("a name"));
        let size = file.metadata().expect("it is there").len();
        fs::File::options().write(true).open(&file).expect("it opens").set_len(size / 2).expect("it shrinks");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert_does_not_start(&data, &[&name, "truncated", "`lmao projections rebuild search`"]);
        fs::remove_dir_all(&data).expect("it is ours");
    }

    let data = template.copy("index-rebuilt");
    for file in files_below(&data.join("search/rows")) {
        fs::write(file, "").expect("files can be written");
    }
    let before = &lmao_json(&template.copy("index-whole"), &["projections", "digest"], template.models)[1]["digest"];
    lmao_json(&data, &["projections", "rebuild", "search"], template.models);
    let after = &lmao_json(&data, &["projections", "digest"], template.models)[1]["digest"];
    assert_eq!(before, after, "a rebuild brings all of it back");

    // Without its model it is at least found by its words.
    lmao_json(&data, &["projections", "rebuild", "search"], "off");
    let server = Server::start(&data).await;
    assert_eq!(found(&server.admin().await, "heron", "keyword").await, ["heron.txt"]);
}

async fn missing_blobs(template: &Template) {
    let data = template.copy("blobs");
    fs::remove_dir_all(Template::blobs(&data, &template.heron)).expect("it is ours");
    fs::remove_dir_all(Template::blobs(&data, &template.failed)).expect("it is ours");
    let said = assert_ends(
        &data,
        &["projections", "rebuild", "search"],
        5,
        &["set aside", "missing from the blob store", "backup"],
    );
    assert!(said.contains(&template.heron), "it names the document: {said}");

    let (server, admin) = template.start(&data).await;
    assert_eq!(found(&admin, "stands in the shallow water", "keyword").await.len(), 2, "the others are found");
    assert_eq!(part(&admin, "search").await["state"], "degraded");

    let path = |document: &str| format!("/api/v1/documents/{document}");
    let admin = &admin;
    let send = |method, path: String| async move { admin.send(admin.request(method, &path)).await.expect("an answer") };
    let retried = send(Method::POST, path(&template.failed) + "/retry").await;
    assert_eq!((retried.status, retried.reason()), (422, "missing_blob"), "{}", retried.body);

    let deleted = send(Method::DELETE, path(&template.heron)).await;
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    let again = loop {
        let again = admin.upload("heron.txt", b"The heron stands in the shallow water every morning.".to_vec(), None);
        let again = again.await.expect("an answer");
        if again.reason() != "document_being_deleted" {
            break again;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(again.status, 200, "what was lost can be uploaded again: {}", again.body);
    assert_eq!(part(admin, "search").await["state"], "ok", "what was deleted is set aside no more");
    assert_eq!(found(admin, "heron", "keyword").await, ["heron.txt"]);
    assert!(server.sigterm().await.success());
    lmao_json(&data, &["audit", "verify"], "off");
}

/// An index that was put into the place of this log's, by a restore that went wrong, say.
#[tokio::test]
async fn the_index_of_another_log_is_not_mixed_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, others) = (folder.path().join("ours"), folder.path().join("others"));
    for (data, name) in [(&ours, "owls.md"), (&others, "wrens.md")] {
        let server = Server::start(data).await;
        let taken =
            server.admin().await.upload(name, b"Birds of the night.\n".to_vec(), None).await.expect("an answer");
        assert_eq!(taken.status, 200, "{}", taken.body);
        assert!(server.sigterm().await.success());
    }
    fs::remove_dir_all(ours.join("search")).expect("it is there");
    copy(&others.join("search"), &ours.join("search"));

    let server = Server::start(&ours).await;
    let admin = server.admin().await;
    // It is looked at once the server is ready already.
    let mut said = part(&admin, "search").await;
    for _ in 0..600 {
        if said["state"] == "degraded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        said = part(&admin, "search").await;
    }
    let message = said["message"].as_str().unwrap_or_default();
    assert!(message.contains("was computed from the log") && message.contains("projections rebuild search"), "{said}");
    assert!(server.sigterm().await.success());
    lmao_json(&ours, &["projections", "rebuild", "search"], "off");
    let server = Server::start(&ours).await;
    assert_eq!(found(&server.admin().await, "night", "keyword").await, ["owls.md"]);
    assert!(server.sigterm().await.success());
}
