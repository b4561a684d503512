//! The command line as people and scripts meet it: what it prints, and how it ends.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Client, Server, lmao, lmao_json};

/// How a command on this data directory ends, and what it says.
fn run(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    ended(lmao(arguments).arg("--data").arg(data).output().expect("lmao can be started"))
}

fn ended(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a command prints as JSON although it does not end well.
#[track_caller]
fn json_and_code(data: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let arguments = [arguments, &["--json"]].concat();
    let (code, said, complaint) = run(data, &arguments);
    let json = serde_json::from_str(&said);
    (code, json.unwrap_or_else(|error| panic!("{arguments:?} prints no JSON ({error}): {said}{complaint}")))
}

/// Two folders that have a file of the same name each, and files that nobody wants.
fn shelves(folder: &Path) {
    for (path, text) in [
        ("north/index.html", "<html><body><p>The reindeer wanders over the tundra in winter.</p></body></html>"),
        ("south/index.html", "<html><body><p>The flamingo stands in the salt lake in summer.</p></body></html>"),
        ("south/.hidden", "not for others"),
        ("south/empty.txt", ""),
    ] {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }
    fs::write(folder.join("north/tool"), b"\x7fELF\x00\x00").expect("files can be written");
}

#[tokio::test]
async fn files_of_one_name_are_told_apart_and_what_is_left_out_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, shelf) = (folder.path().join("data"), folder.path().join("shelf"));
    shelves(&shelf);
    let _server = Server::start(&data).await;
    let named = |name: &str| shelf.join(name).display().to_string();

    let taken = lmao_json(&data, &["ingest", &named("north"), &named("south")], "off");
    assert_eq!((&taken["ready"], &taken["remaining"]), (&json!(2), &json!(0)), "{taken}");
    let left_out = json!({
        "binary": [named("north/tool")], "empty": [named("south/empty.txt")], "hidden": [named("south/.hidden")],
    });
    assert_eq!(taken["left_out"], left_out, "{taken}");

    let found = lmao_json(&data, &["search", "flamingo"], "off");
    let first = &found["results"][0]["metadata"];
    assert_eq!((&first["filename"], &first["path"]), (&json!("index.html"), &json!(named("south/index.html"))));
    let asked = lmao_json(&data, &["ask", "Where does the reindeer wander?"], "off");
    assert_eq!(asked["metadata"]["citations"][0]["path"], named("north/index.html"), "{asked}");

    for arguments in [&["documents", "list"][..], &["search", "flamingo salt"], &["ask", "Where is the flamingo?"]] {
        let (code, said, complaint) = run(&data, arguments);
        assert_eq!(code, Some(0), "{complaint}");
        assert!(said.contains(&named("south/index.html")), "{arguments:?}: {said}");
    }
    let (_, said, _) = run(&data, &["ingest", "-v", &named("south")]);
    assert!(said.contains("left out as hidden: 1") && said.contains(&named("south/.hidden")), "{said}");
    assert!(said.contains("0 ready, 1 there before, 0 failed"), "{said}");
}

const FILES: u64 = 200;
/// Enough for the first files of an ingestion.
const ARRIVAL: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_ingestion_that_is_cut_off_says_what_remains_and_goes_on_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, files) = (folder.path().join("data"), folder.path().join("files"));
    fs::create_dir(&files).expect("a folder");
    for n in 0..FILES {
        // Long enough that most of the files are still to come when the first have arrived.
        let text =
            (0..100).map(|lamp| format!("Lamp {lamp} of lighthouse {n} is lit at dusk.\n\n")).collect::<String>();
        fs::write(files.join(format!("{n}.txt")), text).expect("files can be written");
    }
    let path = files.to_str().expect("UTF-8");
    let server = Server::start(&data).await;
    let admin = server.admin().await;

    let child = ingesting(&data, path, &admin).await;
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("its own child can be signalled");
    let (code, interrupted) = summary_of(child);
    assert_eq!((code, &interrupted["interrupted"]), (Some(130), &json!(true)), "{interrupted}");

    let child = ingesting(&data, path, &admin).await;
    server.kill9();
    let (code, deserted) = summary_of(child);
    assert_eq!((code, &deserted["interrupted"]), (Some(3), &json!(false)), "{deserted}");

    let done = |summary: &Value| ["ready", "duplicate"].map(|field| summary[field].as_u64().expect("a number"));
    for cut_off in [&interrupted, &deserted] {
        let remaining = cut_off["remaining"].as_u64().expect("a number");
        assert!(remaining > 0, "it was cut off early: {cut_off}");
        assert_eq!(done(cut_off).iter().sum::<u64>() + remaining, FILES, "{cut_off}");
    }
    let rest = lmao_json(&data, &["ingest", path], "off");
    assert!(done(&rest)[1] >= done(&interrupted)[0] + done(&deserted)[0], "nothing is taken in twice: {rest}");
    assert_eq!((done(&rest).iter().sum::<u64>(), &rest["remaining"]), (FILES, &json!(0)), "{rest}");
}

/// An ingestion of which some files have arrived since it began.
async fn ingesting(data: &Path, path: &str, admin: &Client) -> Child {
    let arrived = async || admin.get("/api/v1/documents?limit=1").await.expect("an answer").body["total"].as_u64();
    let before = arrived().await.expect("a number");
    let mut command = lmao(&["ingest", path, "--json", "--data"]);
    command.arg(data).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("lmao can be started");
    let begun = Instant::now();
    while arrived().await.expect("a number") < before + 10 {
        let ended = child.try_wait().expect("children can be waited for");
        assert!(ended.is_none() && begun.elapsed() < ARRIVAL, "too few files arrive; the ingestion: {ended:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child
}

fn summary_of(child: Child) -> (Option<i32>, Value) {
    let (code, said, _) = ended(child.wait_with_output().expect("children can be waited for"));
    (code, serde_json::from_str(&said).unwrap_or_else(|error| panic!("no summary ({error}): {said:?}")))
}

#[tokio::test]
async fn the_log_is_read_by_category_and_in_part_from_files_and_from_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    for bird in ["heron", "stork"] {
        let text = format!("The {bird} stands in the shallow water.");
        let reply = admin.upload(&format!("{bird}.txt"), text.into_bytes(), None).await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let lines = |command: &mut Command| {
        let (code, said, complaint) = ended(command.output().expect("lmao can be started"));
        assert_eq!(code, Some(0), "{complaint}");
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    for (arguments, streams, count) in [
        (&["--stream", "document"][..], "document/", None),
        (&["--stream", "document", "--limit", "3"], "document/", Some(3)),
        (&["--stream", "user", "--limit", "1", "--follow"], "user/", Some(1)),
        (&["--limit", "2", "--after", "1"], "", Some(2)),
    ] {
        let arguments = [&["events", "--json"], arguments].concat();
        let here = lines(lmao(&arguments).arg("--data").arg(&data));
        let asked = ["--server", &server.url];
        let there = lines(lmao(&arguments).args(asked).env("LMAO_TOKEN", admin.token()));
        assert_eq!(here, there, "{arguments:?}");
        let are_wanted = |record: &Value| record["stream"].as_str().is_some_and(|stream| stream.starts_with(streams));
        assert!(!here.is_empty() && here.iter().all(are_wanted), "{arguments:?}: {here:?}");
        assert!(count.is_none_or(|count| here.len() == count), "{arguments:?}: {here:?}");
    }
}

#[test]
fn scripts_can_branch_on_how_a_command_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("nothing");
    for (arguments, code, says) in [
        (&[][..], 2, "lmao serve"),
        (&["search", ""], 2, "it is empty"),
        (&["ask", " "], 2, "it is empty"),
        (&["ask", "Why?", "--session", "7"], 2, "an id looks like"),
        (&["ingest", "no-such-file"], 2, "no-such-file cannot be read"),
        (&["search", "x"], 3, "lmao serve"),
        (&["events"], 3, "error: there is no data directory at"),
        (&["audit", "verify"], 3, "error: there is no data directory at"),
        (&["projections", "status"], 3, "error: there is no data directory at"),
        (&["models", "reembed"], 3, "error: there is no data directory at"),
        (&["login"], 3, "no server runs on"),
    ] {
        let mut command = lmao(arguments);
        let (ended, _, said) = ended(command.env("LMAO_DATA", &data).output().expect("lmao can be started"));
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    // Port 9 discards what it gets, where anybody listens at all.
    let named = ["search", "x", "--server", "127.0.0.1:9"];
    let (code, _, said) = ended(lmao(&named).output().expect("lmao can be started"));
    assert_eq!((code, said.contains("LMAO_TOKEN")), (Some(4), true), "{said}");
    let (code, _, said) = ended(lmao(&named).env("LMAO_TOKEN", "x").output().expect("lmao can be started"));
    assert_eq!((code, said.contains("no server answers")), (Some(3), true), "{said}");
    assert!(!data.exists(), "nothing was made");
    // A folder with other things in it is no data directory either.
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("thesis.odt"), "mine").expect("files can be written");
    for arguments in [&["search", "x"][..], &["events"], &["audit", "verify"], &["projections", "status"]] {
        let (code, _, said) = run(&data, arguments);
        assert_eq!((code, said.contains("is no data directory")), (Some(3), true), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn what_will_not_work_later_is_not_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let _server = Server::start(&data).await;
    let (code, _, said) = run(&data, &["search", "salt", "lake", "--type", "semantic"]);
    assert_eq!((code, said.contains("the semantic leg is off")), (Some(1), true), "{said}");
    let (code, said, _) = run(&data, &["documents", "retry", "--failed"]);
    assert_eq!((code, said.as_str()), (Some(0), "no document has failed\n"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let file = folder.path().join("owl.txt");
    fs::write(&file, "The owl sleeps in the belfry.").expect("files can be written");
    let file = file.to_str().expect("UTF-8");
    for arguments in [
        &["completions", "bash"][..],
        &["--help"],
        &["ingest", file],
        &["documents", "list"],
        &["events", "--json"],
        &["config"],
    ] {
        let mut child = lmao(arguments)
            .env("LMAO_DATA", &data)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lmao can be started");
        drop((child.stdout.take(), child.stderr.take()));
        let code = child.wait().expect("children can be waited for").code();
        assert_eq!(code, Some(0), "{arguments:?}");
    }
    assert_eq!(lmao_json(&data, &["documents", "list"], "off").as_array().map(Vec::len), Some(1));
    let bad = folder.path().join("bad.pdf");
    fs::write(&bad, "%PDF-1.7 and no more").expect("files can be written");
    let mut failing = lmao(&["ingest"]);
    let mut child = failing
        .arg(&bad)
        .arg("--data")
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    drop(child.stdout.take());
    let code = child.wait().expect("children can be waited for").code();
    assert_eq!(code, Some(1), "what nobody reads has failed all the same");
}

/// The address of a server that gives every request this JSON.
fn stranger(json: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 4096];
            // Both parts of the request are read, lest closing resets the connection.
            let mut read = 0;
            while !request[..read].ends_with(b"}") {
                match stream.read(&mut request[read..]) {
                    Ok(n) if n > 0 => read += n,
                    _ => break,
                }
            }
            let length = json.len();
            // Who asked may be gone.
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{json}");
        }
    });
    address
}

#[test]
fn a_server_that_is_another_is_told_so() {
    for json in ["[]", r#"{"results": [1]}"#, r#"{"results": 1}"#, r#"{"results": [{"metadata": 1}]}"#, "7"] {
        let server = stranger(json);
        for flags in [&[][..], &["--json"]] {
            let mut command = lmao(&["search", "x", "--server", &server]);
            let output = command.args(flags).env("LMAO_TOKEN", "x").output().expect("lmao can be started");
            let (code, _, said) = ended(output);
            assert_eq!((code, said.contains("is not that of an LMA-o server")), (Some(1), true), "{json}: {said}");
        }
    }
}

#[tokio::test]
async fn a_login_prints_a_token_that_lets_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let password = fs::read_to_string(data.join("admin-password")).expect("the first start kept one");
    let login = |password: &str, flags: &[&str]| {
        let mut command = lmao(&[&["login", "--server", &server.url], flags].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("lmao can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(password.as_bytes()).expect("it reads");
        drop(stdin);
        ended(child.wait_with_output().expect("children can be waited for"))
    };
    let (code, token, said) = login(&password, &[]);
    assert_eq!(code, Some(0), "{said}");
    let mut list = lmao(&["documents", "list", "--server", &server.url]);
    let (code, _, said) = ended(list.env("LMAO_TOKEN", token.trim_end()).output().expect("lmao can be started"));
    assert_eq!(code, Some(0), "{said}");
    let (_, said, _) = login(&password, &["--username", "admin", "--json"]);
    assert!(serde_json::from_str::<Value>(&said).is_ok_and(|json| json["access_token"].is_string()), "{said}");
    let (code, said, complaint) = login("wrong\n", &[]);
    assert_eq!((code, said.as_str(), complaint.contains("another password")), (Some(4), "", true), "{complaint}");
}

#[tokio::test]
async fn a_password_is_read_when_that_is_said_and_made_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let add = |name: &str, flags: &[&str]| -> Value {
        let email = format!("{name}@example.org");
        let mut command = lmao(&[&["user", "add", name, "--email", &email, "--json"], flags].concat());
        let mut child = command
            .arg("--data")
            .arg(&data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("lmao can be started");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(b"correct horse\n").expect("it reads");
        drop(stdin);
        let (code, said, _) = ended(child.wait_with_output().expect("children can be waited for"));
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str(&said).expect("JSON")
    };
    let ann = add("ann", &["--password-stdin"]);
    assert!(ann.get("password").is_none(), "who gave it knows it: {ann}");
    Client::login(&server.url, "ann", "correct horse").await;
    let bob = add("bob", &[]);
    Client::login(&server.url, "bob", bob["password"].as_str().expect("it is made")).await;
}

#[tokio::test]
async fn what_was_set_aside_is_listed_and_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let text = b"The heron stands in the shallow water.".to_vec();
    let uploaded = admin.upload("heron.txt", text, None).await.expect("an answer");
    let stream = format!("document/{}", uploaded.body["document_id"].as_str().expect("an id"));
    let retry = ["parked", "retry", &stream];
    assert_eq!(lmao_json(&data, &["parked"], "off"), json!({ "actors": [], "projections": [] }));
    let (code, _, said) = run(&data, &retry);
    assert_eq!((code, said.contains("is not set aside")), (Some(4), true), "{said}");
    assert!(server.sigterm().await.success());

    // Its passages are lost, and the index is made anew without them.
    let (blobs, lost) = (data.join("blobs"), folder.path().join("lost"));
    fs::rename(&blobs, &lost).expect("it is ours");
    fs::create_dir(&blobs).expect("a folder");
    let (code, said, _) = run(&data, &["projections", "rebuild", "search"]);
    assert_eq!((code, said.contains(&stream)), (Some(5), true), "{said}");

    let server = Server::start(&data).await;
    let admin = server.admin().await;
    let parked = lmao_json(&data, &["parked"], "off");
    assert_eq!(parked["actors"], json!([]), "it still takes commands: {parked}");
    let row = &parked["projections"][0];
    assert_eq!((&row["projection"], &row["stream"]), (&json!("search"), &json!(stream)), "{parked}");
    assert!(row["reason"].as_str().is_some_and(|reason| reason.contains("missing from the blob store")), "{parked}");
    let (_, said, _) = run(&data, &["parked"]);
    assert!(said.contains(&stream) && said.contains("missing from the blob store"), "{said}");

    let (code, again) = json_and_code(&data, &retry);
    assert_eq!((code, &again["projections"]), (Some(5), &json!([])), "{again}");
    assert_eq!(again["still_parked"][0]["stream"], json!(stream), "{again}");

    fs::remove_dir_all(&blobs).expect("it is ours");
    fs::rename(&lost, &blobs).expect("it is ours");
    let account = json!({ "username": "ann", "email": "ann@example.org", "password": "correct horse" });
    assert!(admin.post("/admin/users", &account, None).await.expect("an answer").is_success());
    let ann = Client::login(&server.url, "ann", "correct horse").await;
    let route = "/admin/parked/retry";
    let wanted = json!({ "stream": stream });
    let refused = ann.post(route, &wanted, None).await.expect("an answer");
    assert_eq!((refused.status, refused.reason()), (403, "forbidden"));
    let nothing = admin.post(route, &json!({ "stream": "document/7" }), None).await.expect("an answer");
    assert_eq!((nothing.status, nothing.reason()), (422, "bad_stream"), "{}", nothing.body);

    let done = lmao_json(&data, &retry, "off");
    assert_eq!((&done["projections"], &done["still_parked"]), (&json!(["search"]), &json!([])), "{done}");
    let found = lmao_json(&data, &["search", "heron"], "off");
    assert_eq!(found["results"][0]["metadata"]["filename"], "heron.txt", "{found}");
    let twice = admin.post(route, &wanted, None).await.expect("an answer");
    assert_eq!((twice.status, twice.reason()), (404, "not_parked"), "{}", twice.body);
    assert_eq!(lmao_json(&data, &["parked"], "off"), json!({ "actors": [], "projections": [] }));
}
