//! What the system tells of itself, as a real collector takes it in and as a scraper reads it.

mod collector;

use std::{
    collections::BTreeSet,
    env, fs,
    net::TcpListener as StdListener,
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    distributed::System,
    support::{Client, Server},
};

use self::collector::{Collector, attribute};

/// Nothing that is exported takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

fn free_port() -> u16 {
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The next one who connects.
async fn accepted(listener: &TcpListener) -> TcpStream {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("somebody connects").expect("it is taken");
    stream
}

/// Waits until this gives something.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(begun.elapsed() < PATIENCE, "{what}: {instead}"),
        }
        sleep(PAUSE).await;
    }
}

/// A server that tells this collector everything, without waiting long for more.
async fn server(data: &Path, port: u16, more: &[(&str, &str)]) -> Server {
    let endpoint = format!("http://127.0.0.1:{port}");
    let mut environment = vec![
        ("LMAO_TELEMETRY__OTLP", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
    ];
    environment.extend_from_slice(more);
    Server::start_with(data, &environment).await
}

fn name(span: &Value) -> &str {
    span["name"].as_str().expect("spans have names")
}

/// What a message must lead to, whoever carries it out.
const STEPS: [&str; 12] = [
    "POST /api/v1/chat/message",
    "session SendMessage",
    "session effect",
    "workflow Start",
    "workflow effect Run",
    "search",
    "search keyword",
    "answer",
    "workflow RecordRun",
    "workflow effect Deliver",
    "session CompleteReply",
    "project read_model",
];

/// The spans of a trace that `client` began with a message, once none is missing.
async fn whole(collector: &Collector, trace: &str, client: &str) -> Vec<Value> {
    eventually("the trace", || {
        let spans = collector.spans(trace);
        let missing: Vec<_> = STEPS.iter().filter(|step| !spans.iter().any(|span| name(span) == **step)).collect();
        let ids: BTreeSet<&str> = spans.iter().filter_map(|span| span["spanId"].as_str()).collect();
        let orphans: Vec<_> = spans
            .iter()
            .filter(|span| span["parentSpanId"] != client)
            .filter(|span| span["parentSpanId"].as_str().is_none_or(|parent| !ids.contains(parent)))
            .map(name)
            .collect();
        let whole = missing.is_empty() && orphans.is_empty();
        let commits = spans.iter().filter(|span| name(span) == "append").count();
        let whole = whole && commits == 5;
        let seen: Vec<_> = spans.iter().map(name).collect();
        let state = format!("missing {missing:?}, without parents {orphans:?}, {commits} commits, among {seen:?}");
        if whole { Ok(spans.clone()) } else { Err(state) }
    })
    .await
}

#[tokio::test]
async fn one_message_is_one_connected_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, port) = (folder.path().join("data"), free_port());
    let Some(collector) = Collector::start("telemetry::one_message_is_one_connected_trace", folder.path(), port) else {
        return;
    };
    let logging = [("LMAO_LOG_FORMAT", "json"), ("LMAO_LOG_FILTER", "info,lmao_retrieval=debug")];
    let server = server(&data, port, &logging).await;
    let admin = server.admin().await;
    admin.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), None).await.expect("an answer");

    let (trace, client) = (Uuid::new_v4().simple().to_string(), "b7ad6b7169203331");
    let request = admin.request(Method::POST, "/api/v1/chat/message");
    let request = request.header("traceparent", format!("00-{trace}-{client}-01"));
    let asked = admin.send(request.json(&json!({ "message": "Where does the owl sleep?" }))).await.expect("an answer");
    assert_eq!(asked.status, 200, "{}", asked.body);

    let spans = whole(&collector, &trace, client).await;

    // One beginning, and under it all the rest.
    let begins: Vec<_> = spans.iter().filter(|span| span["parentSpanId"] == client).map(name).collect();
    assert_eq!(begins, ["POST /api/v1/chat/message"]);
    let failed: Vec<_> = spans.iter().filter(|span| span["status"]["code"] == 2).collect();
    assert!(failed.is_empty(), "{failed:?}");

    // The same ids on log messages, here and there.
    server.says(&format!(r#""trace_id":"{trace}""#)).await;
    eventually("a log message of the trace", || {
        let logs = collector.all(&["resourceLogs", "scopeLogs", "logRecords"]);
        let ours = logs.iter().filter(|log| log["traceId"] == trace).count();
        if ours > 0 { Ok(()) } else { Err(format!("none of {}", logs.len())) }
    })
    .await;
    let wanted =
        ["http.server.request.duration", "lmao.log.append.duration", "lmao.actors.live", "lmao.projection.lag"];
    eventually("metrics", || {
        let metrics = collector.all(&["resourceMetrics", "scopeMetrics", "metrics"]);
        let names: BTreeSet<String> =
            metrics.iter().filter_map(|metric| metric["name"].as_str()).map(str::to_owned).collect();
        if wanted.iter().all(|name| names.contains(*name)) { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
    let resources = collector.all(&["resourceSpans"]);
    for (key, value) in [("service.name", "lmao"), ("lmao.roles", "gateway,worker,projector")] {
        assert_eq!(attribute(&resources[0]["resource"], key), value);
    }
    assert!(!attribute(&resources[0]["resource"], "service.version").is_empty());
    assert!(server.sigterm().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_three_processes_is_one_connected_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let test = "telemetry::a_message_over_three_processes_is_one_connected_trace";
    let Some(collector) = Collector::start(test, folder.path(), port) else { return };
    let mut system = System::new();
    system.set("LMAO_TELEMETRY__OTLP", &format!("http://127.0.0.1:{port}"));
    system.set("OTEL_BSP_SCHEDULE_DELAY", "100");
    let nodes = [("gateway", "gateway"), ("worker", "worker"), ("projector", "projector")];
    let [gateway, worker, projector] = nodes.map(|(name, roles)| system.node(name, roles));
    let (gateway, worker, projector) = tokio::join!(gateway, worker, projector);
    let admin = system.admin(&gateway).await;
    admin.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), None).await.expect("an answer");

    let (trace, client) = (Uuid::new_v4().simple().to_string(), "b7ad6b7169203331");
    let request = admin.request(Method::POST, "/api/v1/chat/message");
    let request = request.header("traceparent", format!("00-{trace}-{client}-01"));
    let asked = admin.send(request.json(&json!({ "message": "Where does the owl sleep?" }))).await.expect("an answer");
    assert_eq!(asked.status, 200, "{}", asked.body);
    whole(&collector, &trace, client).await;
    let processes = collector.processes(&trace);
    let of = |step: &str| {
        let one = processes.iter().find(|(_, spans)| spans.iter().any(|span| span == step));
        one.unwrap_or_else(|| panic!("nobody does {step}: {processes:?}")).0
    };
    let three = [of("POST /api/v1/chat/message"), of("append"), of("project read_model")];
    assert_eq!(BTreeSet::from(three).len(), 3, "{processes:?}");
    for node in [gateway, worker, projector] {
        assert!(node.sigterm().await.success());
    }
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, port) = (folder.path().join("data"), free_port());
    let Some(collector) = Collector::start("telemetry::what_is_not_sampled_is_not_sent", folder.path(), port) else {
        return;
    };
    let server = server(&data, port, &[("LMAO_TELEMETRY__SAMPLE", "0")]).await;
    let admin = server.admin().await;
    let asked = admin.chat(None, "Where does the owl sleep?", None).await.expect("an answer");
    assert!(asked.is_success(), "{}", asked.body);
    // All that was made is sent before the end; metrics prove that the way is open.
    assert!(server.sigterm().await.success());
    eventually("metrics", || {
        let metrics = collector.all(&["resourceMetrics"]);
        if metrics.is_empty() { Err("none".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(collector.all(&["resourceSpans"]), Vec::<Value>::new());
}

async fn works(admin: &Client) {
    let asked = admin.chat(None, "Where does the owl sleep?", None).await.expect("an answer");
    assert!(asked.is_success(), "{}", asked.body);
}

#[tokio::test]
async fn a_collector_may_be_away_and_die_and_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, port) = (folder.path().join("data"), free_port());
    let server = server(&data, port, &[]).await;
    let admin = server.admin().await;
    works(&admin).await;
    server.says("signal=\"traces\" error=").await;

    let Some(collector) =
        Collector::start("telemetry::a_collector_may_be_away_and_die_and_come_back", folder.path(), port)
    else {
        return;
    };
    let begun = Instant::now();
    while collector.all(&["resourceSpans"]).is_empty() {
        works(&admin).await;
        assert!(begun.elapsed() < PATIENCE, "the collector at {} gets nothing", collector.port);
        sleep(PAUSE).await;
    }
    server.says("the collector takes it again signal=\"traces\"").await;
    drop(collector);
    works(&admin).await;
    assert!(server.sigterm().await.success(), "it ends although nobody takes what is left");
}

/// It takes connections and says nothing, to plain text and to TLS.
#[tokio::test]
async fn a_collector_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    for scheme in ["http", "https"] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let endpoint = format!("{scheme}://{address}");
        let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
        let server = Server::start_with(&data, &environment).await;
        let admin = server.admin().await;
        works(&admin).await;
        // It is being told something.
        let connected = accepted(&silent).await;
        works(&admin).await;
        assert!(server.sigterm().await.success());
        drop(connected);
    }
}

/// An endpoint of a language model that says the same to everybody.
async fn language_model() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let body = json!({
            "model": "parrot",
            "choices": [{ "message": { "content": "In the belfry [1]." }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12 },
        });
        let body = body.to_string();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 1 << 16];
            // One read is enough for a small request on this machine; an answer that comes early is read all the same.
            _ = stream.read(&mut request).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn the_next_process_goes_on_with_the_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, port) = (folder.path().join("data"), free_port());
    let Some(collector) = Collector::start("telemetry::the_next_process_goes_on_with_the_trace", folder.path(), port)
    else {
        return;
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let model = format!("http://{}/v1", silent.local_addr().expect("an address"));
    let llm = |url| [("LMAO_LLM__BASE_URL", url), ("LMAO_LLM__MODEL", "parrot")];
    let first = server(&data, port, &llm(&model)).await;
    let admin = first.admin().await;
    let owl = admin.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), None).await.expect("an answer");
    assert!(owl.is_success(), "{}", owl.body);

    let trace = Uuid::new_v4().simple().to_string();
    let request = admin.request(Method::POST, "/api/v1/chat/message");
    let request = request.header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
    let request = request.json(&json!({ "message": "Where does the owl sleep?" }));
    let asking = tokio::spawn(async move { admin.send(request).await });
    // The model is asked, says nothing, and the process dies while it waits.
    let asked = accepted(&silent).await;
    eventually("the beginning of the trace", || {
        let processes = collector.processes(&trace);
        let begun = processes.values().any(|spans| spans.iter().any(|span| span == "workflow Start"));
        if begun { Ok(()) } else { Err(format!("{processes:?}")) }
    })
    .await;
    first.kill9();
    drop(asked);
    assert!(asking.await.expect("it is waited for").is_err(), "nobody answered");

    let model = language_model().await;
    let second = server(&data, port, &llm(&model)).await;
    eventually("the end of the trace", || {
        let processes = collector.processes(&trace);
        let made = |wanted: &str| processes.values().position(|spans| spans.iter().any(|span| span == wanted));
        let ended = ["chat parrot", "session CompleteReply"].map(made);
        let other = ended[0].is_some() && ended[0] == ended[1] && ended[0] != made("session SendMessage");
        if other && processes.len() == 2 { Ok(()) } else { Err(format!("{processes:?}")) }
    })
    .await;
    assert!(second.sigterm().await.success());
}

/// The metrics that a PromQL expression reads; label names aside.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let mut rest = expression;
    while let Some(start) = rest.find(['{', '"']) {
        bare.push_str(&rest[..start]);
        let end = if rest[start..].starts_with('{') { '}' } else { '"' };
        rest = rest[start + 1..].split_once(end).map_or("", |(_, rest)| rest);
    }
    bare.push_str(rest);
    while let Some(start) = bare.find(" by (") {
        let end = start + bare[start..].find(')').expect("it is closed");
        bare.replace_range(start..=end, " ");
    }
    let words = bare.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| ["lmao_", "http_", "gen_ai_"].iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

fn deployed(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    fs::read_to_string(root.join("deploy/dashboards").join(name)).expect("it is there")
}

#[tokio::test]
async fn dashboards_and_alerts_read_only_what_is_measured() {
    let dashboard: Value = serde_json::from_str(&deployed("lmao.json")).expect("the dashboard is JSON");
    let alerts: Value = serde_yaml::from_str(&deployed("alerts.yaml")).expect("the alerts are YAML");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("every panel shows something").clone());
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules").clone();
    let expressions = targets.chain(rules).map(|one| one["expr"].as_str().expect("an expression").to_owned());
    let mut wanted: BTreeSet<String> = expressions.flat_map(|expression| metrics_of(&expression)).collect();
    // Of a system on servers only; the tests that take them away read it.
    assert!(wanted.remove("lmao_dependency_up"));
    let scaled = deployed("../kubernetes/worker.yaml");
    let by = scaled.lines().filter_map(|line| line.trim().strip_prefix("metric: { name: ")?.strip_suffix(" }"));
    wanted.extend(by.map(str::to_owned));
    assert!(wanted.len() > 20, "the expressions are not understood: {wanted:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let (data, port, scraped) = (folder.path().join("data"), free_port(), free_port());
    let Some(_collector) =
        Collector::start("telemetry::dashboards_and_alerts_read_only_what_is_measured", folder.path(), port)
    else {
        return;
    };
    let (model, address) = (language_model().await, format!("127.0.0.1:{scraped}"));
    let more = [
        ("LMAO_LLM__BASE_URL", model.as_str()),
        ("LMAO_LLM__MODEL", "parrot"),
        ("LMAO_TELEMETRY__METRICS_LISTEN", address.as_str()),
    ];
    let server = server(&data, port, &more).await;
    let admin = server.admin().await;
    let owl = admin.upload("owl.txt", b"The owl sleeps in the belfry.".to_vec(), Some("u")).await.expect("an answer");
    assert!(owl.is_success(), "{}", owl.body);
    works(&admin).await;
    let sum = json!({ "parameters": { "expression": "6*7" } });
    let called = admin.post("/api/v1/tools/calculator/execute", &sum, Some("t")).await.expect("an answer");
    assert!(called.is_success(), "{}", called.body);

    let open = Client::new(&format!("http://{address}"), "");
    let begun = Instant::now();
    loop {
        let text = open.get("/metrics").await.expect("an answer").body;
        let text = text.as_str().expect("metrics are no JSON");
        let measured: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        let missing: Vec<_> = wanted.iter().filter(|name| !measured.contains(name.as_str())).collect();
        if missing.is_empty() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "not measured: {missing:?}, among {measured:?}");
        sleep(PAUSE).await;
    }
    let known = admin.get("/metrics").await.expect("an answer");
    assert!(known.body.as_str().is_some_and(|text| text.contains("lmao_log_position")), "{known:?}");
    let stranger = Client::new(&server.url, "").get("/metrics").await.expect("an answer");
    assert_eq!(stranger.status, 401, "{}", stranger.body);
    assert_eq!(open.get("/").await.expect("an answer").status, 404);
    assert!(server.sigterm().await.success());
}
