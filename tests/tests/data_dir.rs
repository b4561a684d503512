//! The data directory as those meet it who work beside its server, or in its place.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Client, Server, lmao, lmao_json};

/// What these arguments print on this data directory; they end well.
#[track_caller]
fn said(data: &Path, arguments: &[&str]) -> String {
    let output = lmao(arguments).arg("--data").arg(data).output().expect("lmao can be started");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} end with {}: {complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn records(data: &Path) -> usize {
    said(data, &["events", "--json"]).lines().count()
}

#[tokio::test]
async fn who_can_read_the_data_directory_is_let_in_without_a_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, archive) = (folder.path().join("data"), folder.path().join("archive"));
    let server = Server::start(&data).await;
    server.admin().await.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), None).await.expect("an answer");
    fs::remove_file(data.join("admin-password")).expect("it is kept there");
    // Somebody tries passwords until the name has to wait.
    let stranger = Client::new(&server.url, "");
    let guess = json!({ "username": "admin", "password": "a guess" });
    let mut status = 0;
    for _ in 0..11 {
        status = stranger.post("/auth/login", &guess, None).await.expect("an answer").status;
    }
    assert_eq!(status, 429);

    let before = records(&data);
    for arguments in [&["status"][..], &["documents", "list"], &["search", "owl"], &["parked"]] {
        said(&data, arguments);
    }
    assert_eq!(records(&data), before, "nobody who only looks is written down");
    let found = lmao_json(&data, &["documents", "list"], "off");
    assert_eq!(found[0]["filename"], "owl.txt", "it is the administrator's account: {found}");
    said(&data, &["log", "export", "--with-keys", archive.to_str().expect("UTF-8")]);
    assert!(server.sigterm().await.success());

    // Without a server, and moved to where no password ever was.
    let fresh = folder.path().join("fresh");
    said(&fresh, &["log", "import", archive.to_str().expect("UTF-8")]);
    for data in [&data, &fresh] {
        let found = lmao_json(data, &["search", "belfry"], "off");
        assert_eq!(found["results"].as_array().map(Vec::len), Some(1), "{found}");
        assert!(!data.join("admin-password").exists());
    }
    let server = Server::start(&fresh).await;
    let listed: Value = lmao_json(&fresh, &["documents", "list"], "off");
    assert_eq!(listed[0]["filename"], "owl.txt", "{listed}");
    drop(server);
}

/// How commands end that are started at once on this data directory.
fn at_once(data: &Path, commands: &[&[&str]]) -> Vec<(Option<i32>, String)> {
    let start = |arguments: &&[&str]| {
        let mut command = lmao(arguments);
        command
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started")
    };
    let children: Vec<_> = commands.iter().map(start).collect();
    let end = |child: Child| {
        let output = child.wait_with_output().expect("children can be waited for");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    children.into_iter().map(end).collect()
}

#[test]
fn commands_without_a_server_wait_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, file) = (folder.path().join("data"), folder.path().join("owl.txt"));
    fs::write(&file, "The owl sleeps in the belfry.").expect("files can be written");
    let ingest = ["ingest", file.to_str().expect("UTF-8")];
    let first = at_once(&data, &[&ingest, &ingest, &ingest]);
    assert!(first.iter().all(|(code, _)| *code == Some(0)), "{first:?}");
    let then = [&["search", "owl"][..], &["documents", "list"], &["projections", "status"], &["parked"], &ingest];
    let ended = at_once(&data, &then);
    assert!(ended.iter().all(|(code, _)| *code == Some(0)), "{ended:?}");
    let listed = lmao_json(&data, &["documents", "list"], "off");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}

#[tokio::test]
async fn a_command_waits_for_a_server_that_ends_and_a_server_for_a_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    server.signal();
    for _ in 0..3 {
        let ended = at_once(&data, &[&["documents", "list"], &["parked"]]);
        assert!(ended.iter().all(|(code, _)| *code == Some(0)), "{ended:?}");
    }
    drop(server);
    let mut command = lmao(&["documents", "list", "--data"]);
    let mut child = command.arg(&data).stdout(Stdio::null()).spawn().expect("it can be started");
    let _server = Server::start(&data).await;
    assert_eq!(child.wait().expect("children can be waited for").code(), Some(0));
}

#[test]
fn what_no_server_hands_out_is_not_asked_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("archive");
    fs::write(&archive, "nothing").expect("files can be written");
    let archive = archive.to_str().expect("UTF-8");
    let new = folder.path().join("new").display().to_string();
    for (arguments, also_by_habit) in [
        (&["log", "export", &new][..], true),
        (&["log", "import", archive], true),
        (&["audit", "verify"], true),
        (&["projections", "rebuild"], true),
        (&["models", "reembed"], true),
        (&["doctor"], false),
        (&["config"], false),
        (&["migrate"], false),
        (&["serve"], false),
        (&["completions", "bash"], false),
    ] {
        let server = "http://127.0.0.1:9";
        let run = |command: &mut Command| {
            let output = command.current_dir(folder.path()).output().expect("lmao can be started");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = run(lmao(arguments).args(["--server", server]));
        assert_eq!((code, said.contains(server)), (Some(2), true), "{arguments:?}: {said}");
        if also_by_habit {
            let (code, said) = run(lmao(arguments).env("LMAO_SERVER", server));
            assert_eq!((code, said.contains("--data")), (Some(2), true), "{arguments:?}: {said}");
        }
    }
    let left: Vec<_> =
        fs::read_dir(folder.path()).expect("it is there").flatten().map(|file| file.file_name()).collect();
    assert_eq!(left, ["archive"], "nothing was made");
    let config = lmao(&["config"]).env("LMAO_SERVER", "http://127.0.0.1:9").output().expect("lmao can be started");
    assert!(config.status.success(), "a habit of the shell is in nobody's way");
}

/// Whoever may look into a file or folder in here, other than its owner.
#[cfg(unix)]
fn open_to_others(path: &Path) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode();
    let mut open: Vec<String> = vec![];
    if mode(path) & 0o077 != 0 {
        open.push(format!("{} {:o}", path.display(), mode(path)));
    }
    if path.is_dir() {
        let inside = fs::read_dir(path).expect("it is ours").flatten();
        open.extend(inside.flat_map(|entry| open_to_others(&entry.path())));
    }
    open
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_can_look_into_a_data_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let server = Server::start(&data).await;
    server.admin().await.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), None).await.expect("an answer");
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    server.says("others could look into the data directory").await;
    assert!(server.sigterm().await.success());
    said(&data, &["search", "owl"]);
    assert_eq!(open_to_others(&data), Vec::<String>::new());
}

#[tokio::test]
async fn a_password_that_was_given_is_not_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::start_with(&data, &[("LMAO_ADMIN_PASSWORD", "correct horse battery")]).await;
    server.says("has the password that was given").await;
    let printed = fs::read_to_string(data.with_extension("out")).expect("it prints");
    assert!(!printed.contains("correct horse"), "{printed}");
    Client::login(&server.url, "admin", "correct horse battery").await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_how_long_to_wait_and_a_question_waits_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    // One more every two seconds, after thirty.
    let server = Server::start_with(&data, &[("LMAO_RATES__REQUESTS", "30")]).await;
    let spend = async || {
        let admin = server.admin().await;
        while admin.get("/api/v1/documents").await.expect("an answer").status != 429 {}
    };
    spend().await;
    for question in [&["ask", "Where does the owl sleep?"][..], &["search", "owl"]] {
        spend().await;
        said(&data, question);
    }
    // A name that has to wait longer than anybody at a terminal would.
    let guess = json!({ "username": "admin", "password": "a guess" });
    let stranger = Client::new(&server.url, "");
    for _ in 0..11 {
        stranger.post("/auth/login", &guess, None).await.expect("an answer");
    }
    let output = lmao(&["login", "--json", "--server", &server.url])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = output.expect("lmao can be started");
    child.stdin.take().expect("it is piped").write_all(b"a guess\n").expect("it reads");
    let output = child.wait_with_output().expect("children can be waited for");
    let told: Value = serde_json::from_slice(&output.stderr).expect("errors are JSON, too");
    let error = &told["error"];
    assert_eq!(
        (output.status.code(), &error["exit_code"], &error["status"]),
        (Some(1), &json!(1), &json!(429)),
        "{told}"
    );
    assert_eq!((&error["reason"], &error["retry_after"]), (&json!("too_many_logins"), &json!(60)), "{told}");
    assert_eq!(error["hints"], json!(["wait 60 s, then try again"]), "{told}");
}

#[test]
fn programs_get_errors_as_json_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("nothing");
    for (arguments, code) in [(&["search", "x"][..], 3), (&["events"], 3), (&["search"], 2), (&["ask", ""], 2)] {
        let output = lmao(arguments).env("LMAO_DATA", &data).arg("--json").output().expect("lmao can be started");
        let told = serde_json::from_slice::<Value>(&output.stderr).expect("it is JSON");
        assert_eq!((output.status.code(), &told["error"]["exit_code"]), (Some(code), &json!(code)), "{told}");
        assert!(told["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{told}");
    }
}
