//! Finding files on the disk, passages in the index, and the way between: what `lmao ingest`, `search`, `documents trace` and
//! `eval` promise, and the routes behind them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Reply, Server, lmao, lmao_json};

const GUIDE: &str = "# Guide\n\n## Install\n\nUnpack the archive and run the installer as root. It asks for a folder.\n\n\
    ## Use\n\nOpen the lid before the lamp is lit, and close it when the wick glows blue.\n\n\
    ## Care\n\nTrim the wick every week with the small brass scissors.\n";

/// What `lmao` says with these arguments, and how it ended.
fn run(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = lmao(arguments);
    command.arg("--data").arg(data);
    let output = command.output().expect("lmao can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }
}

async fn get(client: &Client, path: &str) -> Reply {
    client.get(path).await.expect("an answer")
}

#[tokio::test]
async fn a_found_passage_opens_at_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let uploaded = admin.upload("guide.md", GUIDE.into(), None).await.expect("an answer");
    let id = uploaded.body["document_id"].as_str().expect("an id").to_owned();
    let document = format!("/api/v1/documents/{id}");

    let found = admin.post("/api/v1/documents/search", &json!({ "query": "brass scissors" }), None).await;
    let hit = found.expect("an answer").body["results"][0].clone();
    let chunk = hit["chunk_id"].as_str().expect("an id");
    let opened = get(&admin, &format!("{document}/chunks/{chunk}")).await;
    assert_eq!((opened.status, &opened.body["level"]), (200, &json!("passage")));
    for field in ["content", "chunk_id"] {
        assert_eq!(opened.body[field], hit[field], "{field}");
    }
    for field in ["start", "end", "section", "ordinal", "parent_chunk_id", "page_number"] {
        assert_eq!(opened.body[field], hit["metadata"][field], "{field}");
    }

    let all = get(&admin, &format!("{document}/chunks")).await.body;
    let total = all["total"].as_u64().expect("a number");
    assert_eq!(all["chunks"].as_array().map(|chunks| chunks.len() as u64), Some(total), "{all}");
    let last = get(&admin, &format!("{document}/chunks?offset={}&limit=1", total - 1)).await.body;
    assert_eq!(last["chunks"][0], all["chunks"][usize::try_from(total - 1).expect("small")]);
    assert_eq!(get(&admin, &format!("{document}/chunks?offset=9999")).await.body["chunks"], json!([]));
    if let Some(parent) = all["chunks"][0]["parent_chunk_id"].as_str() {
        let section = get(&admin, &format!("{document}/chunks/{parent}")).await.body;
        assert_eq!(section["level"], "section");
        let first = all["chunks"][0]["content"].as_str().expect("a text");
        assert!(section["content"].as_str().is_some_and(|text| text.starts_with(first)), "{section}");
    }

    let stranger = "{\"username\":\"ada\",\"email\":\"ada@example.org\",\"password\":\"a long enough password\"}";
    let stranger: Value = serde_json::from_str(stranger).expect("JSON");
    assert_eq!(admin.post("/admin/users", &stranger, None).await.expect("an answer").status, 201);
    let ada = Client::login(&server.url, "ada", "a long enough password").await;
    for path in ["chunks", "trace", &format!("chunks/{chunk}")] {
        let refused = get(&ada, &format!("{document}/{path}")).await;
        assert_eq!((refused.status, refused.reason()), (404, "document_not_found"), "{path}");
    }
    for (path, refusal) in [
        ("chunks?limit=0", (400, "bad_parameter")),
        ("chunks/7", (404, "chunk_not_found")),
        (&format!("chunks/{id}"), (404, "chunk_not_found")),
    ] {
        let refused = get(&admin, &format!("{document}/{path}")).await;
        assert_eq!((refused.status, refused.reason()), refusal, "{path}");
    }
}

#[tokio::test]
async fn a_document_tells_why_it_is_searchable_and_why_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let uploaded = admin.upload("guide.md", GUIDE.into(), None).await.expect("an answer");
    let id = uploaded.body["document_id"].as_str().expect("an id").to_owned();
    let trace = lmao_json(&data, &["documents", "trace", &id], "off");
    let steps: Vec<&str> =
        trace["steps"].as_array().expect("steps").iter().filter_map(|s| s["step"].as_str()).collect();
    assert_eq!(steps, ["uploaded", "extracted", "chunked", "embedded", "published", "indexed"]);
    assert_eq!((&trace["searchable"], &trace["index"]["holds"]), (&json!("by_words"), &json!(true)), "{trace}");
    assert_eq!(trace["steps"][0]["counts"]["bytes"], json!(GUIDE.len()));
    assert!(trace["steps"][1]["counts"]["words"].as_u64() > Some(30), "{trace}");
    let (code, said, complaint) = run(&data, &["documents", "trace", &id]);
    assert_eq!(code, Some(0), "{complaint}");
    for part in ["guide.md", "by words only", "chunked", "skipped", "index: it has it"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    let broken = admin.upload("broken.pdf", b"%PDF-1.7\nnothing else".to_vec(), None).await.expect("an answer");
    assert_eq!(broken.status, 422, "{}", broken.body);
    let id = broken.body["error"]["details"]["document_id"].as_str().expect("an id").to_owned();
    let trace = get(&admin, &format!("/api/v1/documents/{id}/trace")).await.body;
    let failed = &trace["steps"][1];
    assert_eq!((&trace["searchable"], &failed["state"]), (&json!("no"), &json!("failed")), "{trace}");
    let message = failed["errors"][0]["message"].as_str().expect("a message");
    assert!(trace["why"].as_str().is_some_and(|why| why.contains(message)), "{trace}");

    let gone = admin.send(admin.request(Method::DELETE, &format!("/api/v1/documents/{id}"))).await;
    assert_eq!(gone.expect("an answer").status, 204);
    let trace = get(&admin, &format!("/api/v1/documents/{id}/trace")).await.body;
    assert!(trace["why"].as_str().is_some_and(|why| why.contains("deleted")), "{trace}");
}

#[tokio::test]
async fn what_is_sent_can_be_chosen_and_foretold() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, shelf) = (folder.path().join("data"), folder.path().join("shelf"));
    write(
        &shelf,
        &[
            ("a.md", "The otter swims upstream."),
            ("notes/b.md", "The beaver builds a dam."),
            ("notes/c.txt", "The heron stands still."),
            ("drafts/d.md", "The vole digs."),
            ("large.md", &"The pike waits in the weeds. ".repeat(200)),
            (".lmaoignore", "drafts/\n"),
        ],
    );
    let path = shelf.to_str().expect("UTF-8");
    let chosen = ["ingest", path, "--include", "*.md", "--max-size", "1KB", "--tag", "river", "--tag", "zoo"];
    let foretold = lmao_json(&data, &[&chosen[..], &["--dry-run"]].concat(), "off");
    assert!(!data.exists(), "a dry run makes nothing");
    let names: Vec<PathBuf> = foretold["would_send"]
        .as_array()
        .expect("files")
        .iter()
        .map(|file| file["path"].as_str().expect("a path").into())
        .collect();
    assert_eq!(names, [shelf.join("a.md"), shelf.join("notes/b.md")]);
    let left_out = |reason: &str| foretold["left_out"][reason].as_array().map_or(0, Vec::len);
    assert_eq!(["hidden", "ignored", "unmatched", "too_large"].map(left_out), [1, 1, 1, 1], "{foretold}");

    let _server = Server::start(&data).await;
    let taken = lmao_json(&data, &chosen, "off");
    assert_eq!((&taken["ready"], &taken["left_out"]), (&json!(2), &foretold["left_out"]), "{taken}");
    let found = |filter: &[&str]| {
        let arguments: Vec<&str> =
            ["search", "the"].into_iter().chain(filter.iter().flat_map(|filter| ["--filter", filter])).collect();
        let (code, said, complaint) = run(&data, &arguments);
        assert_eq!(code, Some(0), "{complaint}");
        said
    };
    let listed = lmao_json(&data, &["documents", "list"], "off");
    assert_eq!(listed[0]["tags"], json!(["river", "zoo"]), "{listed}");
    let (_, said, _) = run(&data, &["search", "beaver dam", "--filter", "file=b.md"]);
    assert!(said.contains("notes/b.md"), "{said}");
    assert!(found(&["file=nothing.md"]).contains("nothing found"));

    for (arguments, says) in [
        (&["ingest", path, "--include", "{"][..], "a pattern makes no sense"),
        (&["ingest", &format!("{path}/*.pdf")], "matches"),
        (&["search", "x", "--filter", "from=yesterday"], "RFC 3339"),
    ] {
        let (code, _, complaint) = run(&data, arguments);
        assert!(matches!(code, Some(2 | 4)) && complaint.contains(says), "{arguments:?}: {code:?} {complaint}");
    }
}

/// The events of this type in the log.
fn events(data: &Path, kind: &str) -> Vec<Value> {
    let (code, said, complaint) = run(data, &["events", "--stream", "document", "--json"]);
    assert_eq!(code, Some(0), "{complaint}");
    let records = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record"));
    let events = records.flat_map(|record| record["events"].as_array().cloned().unwrap_or_default());
    events.filter(|event| event["type"].as_str().is_some_and(|name| name.ends_with(kind))).collect()
}

#[tokio::test]
async fn an_unchanged_folder_embeds_nothing_and_a_changed_file_only_what_changed() {
    let Some(shared) = std::env::var_os("LMAO_TEST_SHARED").map(PathBuf::from) else {
        println!("left out: an unchanged folder embeds nothing: LMAO_TEST_SHARED is not set");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (data, shelf) = (folder.path().join("data"), folder.path().join("shelf"));
    let bird = |bird: &str| format!("## {bird}\n\nThe {bird} stands in the shallow water every morning. ").repeat(1);
    let long = |birds: &[&str]| birds.iter().map(|name| format!("{}\n\n", bird(name).repeat(40))).collect::<String>();
    write(&shelf, &[("a.md", &long(&["crane", "heron", "stork"])), ("b.md", &long(&["egret"]))]);
    let model = format!("dir:{}", shared.join("models/all-mpnet-base-v2-w8").display());
    let ingest = || lmao_json(&data, &["ingest", shelf.to_str().expect("UTF-8")], &model);
    assert_eq!(ingest()["ready"], 2);
    let embedded = events(&data, "Embedded").len();
    assert!(embedded >= 2);
    let again = ingest();
    assert_eq!((&again["ready"], &again["duplicate"]), (&json!(0), &json!(2)), "{again}");
    assert_eq!(events(&data, "Embedded").len(), embedded, "nothing was embedded");

    write(&shelf, &[("a.md", &long(&["crane", "heron", "ibis"]))]);
    let changed = ingest();
    assert_eq!((&changed["ready"], &changed["duplicate"]), (&json!(1), &json!(1)), "{changed}");
    let last = events(&data, "Embedded").pop().expect("one more");
    let chunks = events(&data, "Chunked").pop().expect("one more")["data"]["chunks"].as_u64();
    let cached = last["data"]["cached"].as_u64();
    assert!(cached > Some(0) && cached < chunks, "{cached:?} of {chunks:?}");
}

fn collection(folder: &Path) {
    let birds = ["crane", "heron", "stork", "egret", "ibis"];
    let line = |id: usize, text: String| json!({ "id": id.to_string(), "text": text }).to_string() + "\n";
    let corpus: String = birds
        .iter()
        .enumerate()
        .map(|(n, bird)| line(n, format!("The {bird} number {n} nests in the reeds.")))
        .collect();
    let queries: String =
        birds.iter().enumerate().map(|(n, bird)| line(n, format!("where does the {bird} nest"))).collect();
    let qrels: Value =
        (0..4).map(|n| (n.to_string(), json!({ n.to_string(): 1 }))).collect::<serde_json::Map<_, _>>().into();
    write(folder, &[("corpus.jsonl", &corpus), ("queries.jsonl", &queries), ("qrels.json", &qrels.to_string())]);
}

#[tokio::test]
async fn a_server_is_measured_by_the_documents_that_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, birds) = (folder.path().join("data"), folder.path().join("birds"));
    collection(&birds);
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let ask = |more: &[&str]| {
        let mut command = lmao(&["eval", birds.to_str().expect("UTF-8"), "--server", &server.url, "--json"]);
        let output = command.args(more).env("LMAO_TOKEN", admin.token()).output().expect("lmao can be started");
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    assert_eq!(ask(&[]).0, Some(1), "it has none of them");
    for (n, bird) in ["crane", "heron", "stork", "egret"].iter().enumerate() {
        let text = format!("The {bird} number {n} nests in the reeds.");
        assert_eq!(admin.upload(&format!("{n}.txt"), text.into_bytes(), None).await.expect("an answer").status, 200);
    }
    let (code, measured) = ask(&["--search-type", "keyword"]);
    assert_eq!((code, &measured["rows"][0]["all"]["mrr"]), (Some(0), &json!(1.0)), "{measured}");
    assert_eq!(ask(&["--stages"]).0, Some(2), "a server has no switches");
}

#[test]
fn a_collection_is_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let birds = folder.path().join("birds");
    collection(&birds);
    let path = birds.to_str().expect("UTF-8");
    let measured = lmao_json(&data, &["eval", path, "--search-type", "keyword"], "off");
    assert_eq!(
        (&measured["documents"], &measured["queries"], &measured["unjudged"]),
        (&json!(5), &json!(4), &json!(1))
    );
    let row = &measured["rows"][0];
    for of in ["all", "even", "odd"] {
        assert_eq!((&row[of]["ndcg_at_10"], &row[of]["mrr"]), (&json!(1.0), &json!(1.0)), "{measured}");
    }
    assert!(row["p50_ms"].as_f64() > Some(0.0), "{row}");
    let staged = lmao_json(&data, &["eval", path, "--stages", "--limit", "2"], "off");
    let names: Vec<&str> = staged["rows"].as_array().expect("rows").iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!((names[0], &staged["queries"]), ("keyword", &json!(2)), "{staged}");
    assert!(names.contains(&"fused") && !names.contains(&"general"), "{names:?}");
    let (code, said, complaint) = run(&data, &["eval", path]);
    assert!(code == Some(0) && said.contains("NDCG@10") && said.contains("hybrid"), "{said}{complaint}");
    assert!(!data.exists(), "no data directory is made or used");

    fs::remove_file(birds.join("qrels.json")).expect("it is there");
    let (code, _, complaint) = run(&data, &["eval", path]);
    assert!(code == Some(2) && complaint.contains("qrels.json cannot be read"), "{complaint}");
}
