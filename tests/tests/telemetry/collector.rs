//! A real OpenTelemetry collector, and what it has got.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::name;

/// An OpenTelemetry collector that writes what it gets to a file; killed when dropped.
pub(super) struct Collector {
    process: Child,
    /// Where it listens.
    pub(super) port: u16,
    file: PathBuf,
}

impl Collector {
    /// `None`, said aloud, where none could be built.
    pub(super) fn start(test: &str, folder: &Path, port: u16) -> Option<Self> {
        let binary = env::var_os("LMAO_TEST_OTELCOL");
        let binary = binary.expect("LMAO_TEST_OTELCOL is not set: run the tests with cargo xtask test");
        if binary.is_empty() {
            println!("left out: {test}: there is no Go to build the collector with");
            return None;
        }
        let (config, file) = (folder.join("collector.yaml"), folder.join("collected.jsonl"));
        let text = json!({
            "receivers": { "otlp": { "protocols": { "grpc": { "endpoint": format!("127.0.0.1:{port}") } } } },
            "exporters": { "file": { "path": file, "append": true, "flush_interval": "50ms" } },
            "service": {
                "telemetry": { "metrics": { "level": "none" }, "logs": { "level": "error" } },
                "pipelines": {
                    "traces": { "receivers": ["otlp"], "exporters": ["file"] },
                    "metrics": { "receivers": ["otlp"], "exporters": ["file"] },
                    "logs": { "receivers": ["otlp"], "exporters": ["file"] },
                },
            },
        });
        // JSON is YAML.
        fs::write(&config, text.to_string()).expect("its configuration can be written");
        let said = fs::File::create(folder.join("collector.out")).expect("its output has a file");
        let process = Command::new(binary)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("the collector can be started");
        Some(Self { process, port, file })
    }

    /// What it has got so far, one batch each; the last may be written just now.
    fn batches(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Everything under these names, one in the other, in all batches.
    pub(super) fn all(&self, path: &[&str]) -> Vec<Value> {
        let mut found = self.batches();
        for name in path {
            found = found.iter().flat_map(|value| value[name].as_array().cloned().unwrap_or_default()).collect();
        }
        found
    }

    pub(super) fn spans(&self, trace: &str) -> Vec<Value> {
        let mut spans = self.all(&["resourceSpans", "scopeSpans", "spans"]);
        spans.retain(|span| span["traceId"] == trace);
        spans
    }

    /// Each process that this trace went through, with the spans that it made.
    pub(super) fn processes(&self, trace: &str) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for batch in self.all(&["resourceSpans"]) {
            let instance = attribute(&batch["resource"], "service.instance.id");
            let scopes = batch["scopeSpans"].as_array().into_iter().flatten();
            let spans = scopes.flat_map(|scope| scope["spans"].as_array().into_iter().flatten());
            let ours = spans.filter(|span| span["traceId"] == trace);
            found.entry(instance).or_default().extend(ours.map(|span| name(span).to_owned()));
        }
        found.retain(|_, spans| !spans.is_empty());
        found
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

pub(super) fn attribute(resource: &Value, key: &str) -> String {
    let attributes = resource["attributes"].as_array().expect("resources have attributes");
    let found = attributes.iter().find(|one| one["key"] == key).expect("it is there");
    found["value"]["stringValue"].as_str().expect("it is text").to_owned()
}
