//! A real Prometheus that watches the nodes while they die, by the dashboard and the alert rules that come with the product:
//! every query has to be one that it understands, and to show something of what went on.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::servers::free_ports;
use crate::{promises::eventually, support::http};

/// Panels that may be empty: no language model is configured, and requests need not fail.
const MAY_BE_EMPTY: [&str; 2] = ["Language model", "Failed requests"];
/// Seconds between two points of a query.
const STEP: u64 = 5;

/// Prometheus; it ends when dropped.
pub(super) struct Watcher {
    process: Child,
    url: String,
    since: u64,
}

impl Watcher {
    /// Watches these addresses, if the variable says where the program is.
    pub(super) async fn start(folder: &Path, nodes: &[String]) -> Option<Self> {
        let program = env::var_os("LMAO_TEST_PROMETHEUS");
        let program = program.expect("LMAO_TEST_PROMETHEUS is not set: run the tests with cargo xtask test");
        if program.is_empty() {
            println!("there is no Prometheus here: nobody looks at the dashboard");
            return None;
        }
        let file = folder.join("prometheus.yml");
        let settings = json!({
            "global": { "scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "5s" },
            "rule_files": [deploy("alerts.yaml")],
            "scrape_configs": [{ "job_name": "lmao", "static_configs": [{ "targets": nodes }] }],
        });
        // JSON is YAML.
        fs::write(&file, settings.to_string()).expect("it can be written");
        let [port] = free_ports();
        let said = fs::File::create(folder.join("prometheus.out")).expect("its output has a file");
        let mut command = Command::new(program);
        command.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(folder.join("prometheus"));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).current_dir(folder);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
        let url = format!("http://127.0.0.1:{port}");
        let watcher = Self { process: process.expect("it can be started"), url, since: now() };
        eventually("Prometheus is ready", async || watcher.get("/-/ready", &[]).await.map(drop)).await;
        Some(watcher)
    }

    /// How many lines each panel shows of the time since its start, and which alerts stirred; panics where one cannot be
    /// asked, or shows nothing.
    pub(super) async fn check(&self) -> Value {
        let mut shown: BTreeMap<String, usize> = BTreeMap::new();
        for (title, query) in queries() {
            let lines = self.series(&query).await;
            assert!(lines > 0 || MAY_BE_EMPTY.contains(&title.as_str()), "the panel {title} is empty: {query}");
            *shown.entry(title).or_default() += lines;
        }
        let rules = self.ask("/api/v1/rules", &[]).await;
        let groups = rules["groups"].as_array().expect("groups of rules").iter();
        for rule in groups.flat_map(|group| group["rules"].as_array().expect("rules")) {
            assert_eq!(rule["health"], "ok", "{rule:#}");
        }
        let mut stirred = self.range("ALERTS").await;
        let name = |series: Value| series["metric"]["alertname"].as_str().map(str::to_owned);
        let mut alerts: Vec<String> = stirred.drain(..).filter_map(name).collect();
        alerts.sort_unstable();
        alerts.dedup();
        json!({ "panels": shown, "alerts": alerts })
    }

    /// The lines of a query that have a number in them.
    async fn series(&self, query: &str) -> usize {
        let is_number = |point: &Value| point[1].as_str().is_some_and(|value| value != "NaN");
        let has_number = |series: &Value| series["values"].as_array().is_some_and(|all| all.iter().any(is_number));
        self.range(query).await.iter().filter(|series| has_number(series)).count()
    }

    async fn range(&self, query: &str) -> Vec<Value> {
        let [start, end, step] = [self.since, now(), STEP].map(|seconds| seconds.to_string());
        let asked = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
        let answer = self.ask("/api/v1/query_range", &asked).await;
        answer["result"].as_array().expect("a list of series").clone()
    }

    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let text = self.get(path, query).await.unwrap_or_else(|error| panic!("{path} {query:?}: {error}"));
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["data"].clone()
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<String, String> {
        let mut url = reqwest::Url::parse(&self.url).expect("a URL").join(path).expect("a path");
        url.query_pairs_mut().extend_pairs(query);
        let sent = http().get(url).timeout(Duration::from_secs(10)).send().await.map_err(|error| error.to_string())?;
        let status = sent.status();
        let text = sent.text().await.map_err(|error| error.to_string())?;
        if status.is_success() { Ok(text) } else { Err(text) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "Prometheus is asked for a time of the real clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn deploy(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards");
    fs::canonicalize(folder.join(name)).expect("it is there")
}

/// The title of each panel with a query of it, as the dashboard asks for all jobs.
fn queries() -> Vec<(String, String)> {
    let text = fs::read_to_string(deploy("lmao.json")).expect("the dashboard can be read");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let of_panel = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().into_iter().flatten();
        let expressions = targets.filter_map(|target| target["expr"].as_str());
        let asked = expressions.map(|text| text.replace("$job", ".*").replace("$__rate_interval", "20s"));
        asked.map(|query| (title.clone(), query)).collect()
    };
    dashboard["panels"].as_array().expect("panels").iter().flat_map(of_panel).collect()
}
