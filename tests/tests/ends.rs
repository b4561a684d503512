//! How a process ends while the embedding model is loading or at work: orderly, with its exit code, and silent.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    main_job::start_with_model,
    support::{Server, lmao},
};

/// Runs a command on a data directory that nobody uses, with the model on; it succeeds and has nothing to complain of.
#[track_caller]
fn alone(data: &Path, arguments: &[&str]) -> String {
    let output = lmao(arguments).env("LMAO_MODELS", "auto").arg("--data").arg(data).output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "lmao {arguments:?} ends with {}:\n{said}{complaint}", output.status);
    assert_eq!(complaint, "", "lmao {arguments:?}");
    said.into_owned()
}

/// The write-ahead logs in a data directory.
fn wals(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data).unwrap().map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with("-wal")).collect()
}

#[tokio::test]
async fn commands_on_their_own_end_well_however_short_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let Some(server) = start_with_model("commands_on_their_own_end_well_however_short_they_are", &data).await else {
        return;
    };
    assert!(server.sigterm().await.success());
    assert_eq!(wals(&data), [""; 0], "who ends well leaves each store in one file");
    let file = folder.path().join("heron.md");
    fs::write(&file, "# The heron\n\nThe heron stands in shallow water and waits for fish.\n").unwrap();
    let ingested = lmao(&["ingest"]).arg(&file).env("LMAO_MODELS", "auto").arg("--data").arg(&data).output().unwrap();
    assert!(ingested.status.success(), "{}", String::from_utf8_lossy(&ingested.stderr));
    for _ in 0..3 {
        assert!(alone(&data, &["documents", "list"]).contains("heron.md"));
        alone(&data, &["projections", "status"]);
        alone(&data, &["events"]);
        // In other words than the file's: found by meaning.
        assert!(alone(&data, &["search", "a bird hunting at the lakeside"]).contains("shallow water"));
    }
    assert!(alone(&data, &["ask", "What does the heron wait for?"]).contains("heron.md"));
    assert_eq!(wals(&data), [""; 0]);
}

/// An upload whose second half does not come.
async fn half_a_request(url: &str, token: &str) -> TcpStream {
    let address = url.strip_prefix("http://").unwrap();
    let head = format!(
        "POST /api/v1/documents/upload HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // It has begun to read the body.
    stream.read_exact(&mut [0; 12]).await.unwrap();
    stream
}

/// The second signal breaks off what the first one waits for.
#[tokio::test]
async fn a_second_signal_ends_a_server_at_work_at_once() {
    let test = "a_second_signal_ends_a_server_at_work_at_once";
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let Some(server) = start_with_model(test, &data).await else { return };
    let admin = server.admin().await;
    let text = (0..4000).map(|n| format!("Entry {n}: the keeper of lamp {} writes down its hours.\n\n", n * 7));
    let upload = tokio::spawn({
        let admin = admin.clone();
        let text: String = text.collect();
        async move { admin.upload("lamps.txt", text.into_bytes(), None).await }
    });
    let embedding = async {
        loop {
            let listed = admin.all("/api/v1/documents", "documents", None).await;
            if listed.iter().any(|document| document["status"] == "embedding") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), embedding).await.expect("the upload gets to embedding");
    // It waits for requests that are under way, and this one goes on for longer than the test.
    let waited_for = half_a_request(&server.url, admin.token()).await;
    server.signal();
    server.says("ending: no more requests are taken").await;
    let ended = server.sigterm().await;
    assert_eq!(ended.code(), Some(130), "{ended}, signal {:?}", ended.signal());
    drop(waited_for);
    upload.abort();
    let server = Server::start(&data).await;
    assert!(server.sigterm().await.success());
    alone(&data, &["audit", "verify"]);
}
