//! Tools of the configuration, against a server that counts what it is asked: each call gets there once, unless the tool
//! may be repeated, whatever becomes of the answer and of the process.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use crate::support::{Client, Reply, Server, lmao};

/// Nothing takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a tool takes that was told to wait: long enough that its runner may die meanwhile.
const A_WHILE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(20);

/// What a call said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    key: String,
    body: Value,
}

/// The tools' server. What it answers is told by the argument `do`; it ends with this.
pub(crate) struct Counting {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Counting {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://me:hush@{}/tools", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(vec![]));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&seen)));
            }
        });
        Self { url, asked, task }
    }

    /// The calls that asked for this, in order.
    pub(crate) fn asked(&self, what: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.body["arguments"]["do"] == what).cloned().collect()
    }

    /// A configuration with `once`, a tool that may not be repeated, and `again`, one that may.
    pub(crate) fn configuration(&self, folder: &Path, timeout: u32) -> String {
        let tool = |name: &str, idempotent: bool| {
            format!(
                "[[tools]]\nname = \"{name}\"\nurl = \"{}\"\nidempotent = {idempotent}\ntimeout = {timeout}\n\
                 description = \"Does as told.\"\n\
                 schema = {{ type = \"object\", required = [\"do\"], properties = {{ do = {{ type = \"string\" }} }} }}\n",
                self.url
            )
        };
        let file = folder.join("lmao.toml");
        fs::write(&file, tool("once", false) + &tool("again", true)).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request, and answers it or does not.
async fn answer(mut socket: TcpStream, seen: Arc<Mutex<Vec<Asked>>>) {
    let Some((headers, body)) = request(&mut socket).await else { return };
    let what = body["arguments"]["do"].as_str().unwrap_or_default().to_owned();
    let asked = Asked { key: headers.get("idempotency-key").cloned().unwrap_or_default(), body };
    let is_first = {
        let mut seen = seen.lock().unwrap();
        let is_first = !seen.iter().any(|before| before.key == asked.key);
        seen.push(asked.clone());
        is_first
    };
    if what.starts_with("wait") {
        sleep(A_WHILE).await;
    }
    let (status, body) = match what.as_str() {
        "fail" => ("500 Broken", json!({ "error": "out of order" }).to_string()),
        "fail first" if is_first => ("503 Later", String::new()),
        "huge" => ("200 OK", json!("x".repeat(2 << 20)).to_string()),
        "break" => return,
        "slow" => return sleep(PATIENCE).await,
        "hang at first" if is_first => return sleep(PATIENCE).await,
        _ => ("200 OK", json!({ "did": what }).to_string()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // Who does not want to read a huge answer hangs up.
    _ = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
}

async fn request(socket: &mut TcpStream) -> Option<(HashMap<String, String>, Value)> {
    let mut bytes = vec![];
    loop {
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let headers: HashMap<_, _> = lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        if headers["content-length"].parse() == Ok(body.len()) {
            return Some((headers, serde_json::from_str(body).expect("the body is JSON")));
        }
    }
}

async fn call(client: &Client, tool: &str, what: &str) -> reqwest::Result<Reply> {
    let body = json!({ "parameters": { "do": what } });
    client.post(&format!("/api/v1/tools/{tool}/execute"), &body, Some(&format!("{tool} {what}"))).await
}

/// How a call ended: status, reason or result.
async fn ended(client: &Client, tool: &str, what: &str) -> (String, Value) {
    let reply = call(client, tool, what).await.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let status = reply.body["status"].as_str().unwrap().to_owned();
    let result = reply.body["result"].clone();
    (status, if result["reason"].is_null() { result } else { result["reason"].clone() })
}

#[tokio::test]
async fn a_tool_of_the_configuration_is_called_as_often_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let counting = Counting::start().await;
    let file = counting.configuration(folder.path(), 2);
    let server = Server::start_with(&folder.path().join("data"), &[("LMAO_CONFIG", &file)]).await;
    let admin = server.admin().await;

    let listed = admin.get("/api/v1/tools").await.expect("an answer").body;
    let names: Vec<&str> =
        listed["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["again", "calculator", "knowledge", "once"]);
    assert_eq!(listed["tools"][0]["parameters"]["required"], json!(["do"]));

    let reply = call(&admin, "once", "work").await.expect("an answer").body;
    assert_eq!((&reply["status"], &reply["result"]), (&json!("success"), &json!({ "did": "work" })));
    let retried = call(&admin, "once", "work").await.expect("an answer").body;
    assert_eq!(reply, retried, "a retry gets the first outcome");
    let [asked] = &counting.asked("work")[..] else { panic!("it is called once") };
    let call_id = reply["tool_call_id"].as_str().unwrap();
    let user_id = asked.body["user_id"].as_str().unwrap().parse::<uuid::Uuid>().expect("a user");
    let said = json!({ "tool": "once", "arguments": { "do": "work" }, "call_id": call_id, "user_id": user_id });
    assert_eq!(*asked, Asked { key: call_id.to_owned(), body: said });

    let wrong = admin.post("/api/v1/tools/once/execute", &json!({ "parameters": { "do": 7 } }), None).await.unwrap();
    assert_eq!((wrong.status, wrong.reason()), (422, "bad_parameters"));
    assert!(counting.asked.lock().unwrap().iter().all(|asked| asked.body["arguments"]["do"] != 7));

    // (tool, what it does) -> (status, result or reason, times that it is called)
    let cases = [
        ("once", "fail", "error", json!("tool_failed"), 1),
        ("once", "fail first", "error", json!("tool_failed"), 1),
        ("once", "break", "error", json!("tool_broke_off"), 1),
        ("once", "huge", "error", json!("result_too_large"), 1),
        ("again", "huge", "error", json!("result_too_large"), 1),
        ("again", "fail first", "success", json!({ "did": "fail first" }), 2),
        ("again", "fail", "error", json!("tool_failed"), 3),
    ];
    let user = &admin;
    let calls = cases.map(|(tool, what, status, result, times)| async move {
        (tool, what, ended(user, tool, what).await, (status.to_owned(), result), times)
    });
    for (tool, what, ended, expected, times) in futures::future::join_all(calls).await {
        assert_eq!(ended, expected, "{tool} {what}");
        let mut asked = counting.asked(what);
        asked.retain(|asked| asked.body["tool"] == tool);
        assert_eq!(asked.len(), times, "{tool} {what}");
        assert!(asked.iter().all(|again| again.key == asked[0].key), "a call has one key: {asked:?}");
    }
    let (status, _) = ended(&admin, "once", "slow").await;
    assert_eq!((status.as_str(), counting.asked("slow").len()), ("timeout", 1));

    let shown = lmao(&["config", "--config", &file]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("tools.once.url") && !shown.contains("hush"), "{shown}");
    assert!(server.sigterm().await.success());
    let said = fs::read_to_string(folder.path().join("data.out")).unwrap();
    assert!(!said.contains("hush"), "{said}");
}

#[tokio::test]
async fn a_call_that_was_cut_off_is_uncertain_and_is_repeated_only_where_that_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let counting = Counting::start().await;
    let file = counting.configuration(folder.path(), 3);
    let (data, environment) = (folder.path().join("data"), [("LMAO_CONFIG", file.as_str())]);
    let server = Server::start_with(&data, &environment).await;
    let admin = server.admin().await;
    let calls = ["once", "again"].map(|tool| {
        let admin = admin.clone();
        tokio::spawn(async move { call(&admin, tool, "hang at first").await })
    });
    let begun = Instant::now();
    while counting.asked("hang at first").len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "not both are called");
        sleep(PAUSE).await;
    }
    server.kill9();
    for call in calls {
        assert!(call.await.unwrap().is_err(), "the process was killed before it answered");
    }

    let server = Server::start_with(&data, &environment).await;
    let admin = admin.at(&server.url);
    let (uncertain, repeated) =
        tokio::join!(ended(&admin, "once", "hang at first"), ended(&admin, "again", "hang at first"));
    assert_eq!(uncertain, ("uncertain".to_owned(), json!("outcome_unknown")));
    assert_eq!(repeated, ("success".to_owned(), json!({ "did": "hang at first" })));
    let asked = counting.asked("hang at first");
    let of = |tool: &str| asked.iter().filter(|asked| asked.body["tool"] == tool).collect::<Vec<_>>();
    assert_eq!(of("once").len(), 1, "it is not repeated: {asked:?}");
    let [first, second] = of("again")[..] else { panic!("it is repeated once: {asked:?}") };
    assert_eq!(first, second, "a repetition is the same call");
    // Nor does a later life of the process run it.
    assert!(server.sigterm().await.success());
    let server = Server::start_with(&data, &environment).await;
    let again = ended(&admin.at(&server.url), "once", "hang at first").await;
    assert_eq!((again.0.as_str(), counting.asked("hang at first").len()), ("uncertain", 3));
}
