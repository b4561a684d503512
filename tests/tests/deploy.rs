//! What starts the system elsewhere: the image, the compose file and the manifests are parsed, and what they say to `lmao` is said to
//! the real one.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize as _;
use serde_yaml::Value;

use crate::support::lmao;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parsed = serde_yaml::Deserializer::from_str(&text).map(|document| {
        let mut value = Value::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        value.apply_merge().expect("anchors are merged");
        value
    });
    parsed.collect()
}

fn manifests() -> Vec<Value> {
    let folder = root().join("deploy/kubernetes");
    let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    files.flat_map(|path| documents(&path)).collect()
}

fn of_kind<'a>(manifests: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    manifests.iter().filter(move |manifest| manifest["kind"] == kind)
}

fn strings(list: &Value) -> Vec<String> {
    list.as_sequence().into_iter().flatten().map(|item| item.as_str().expect("text").to_owned()).collect()
}

/// The variables of a mapping, those that the user sets given a value.
fn variables(mapping: &Value) -> Vec<(String, String)> {
    let pairs = mapping.as_mapping().into_iter().flatten();
    let given = pairs.map(|(name, value)| {
        let (name, value) = (name.as_str().expect("a name"), value.as_str().expect("text"));
        let value = match value.split_once("${") {
            Some((before, rest)) => {
                let (variable, after) = rest.split_once('}').expect("it is closed");
                let default = variable.split_once(":-").map_or("", |(_, default)| default);
                let key = "7".repeat(64);
                format!("{before}{}{after}", if name == "LMAO_MASTER_KEY" { &key } else { default })
            }
            None => value.to_owned(),
        };
        (name.to_owned(), value)
    });
    given.collect()
}

/// That `lmao` takes these arguments, and these settings.
#[track_caller]
fn takes(arguments: &[String], settings: &[(String, String)]) {
    let mut help = arguments.to_vec();
    help.push("--help".to_owned());
    let words: Vec<&str> = help.iter().map(String::as_str).collect();
    let output = lmao(&words).output().expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let roles = arguments.iter().skip_while(|word| *word != "--roles").nth(1).map_or("all", String::as_str);
    let output = lmao(&["config", "--set", &format!("roles={roles}")])
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{settings:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_compose_file_says_what_lmao_understands() {
    let compose = documents(&root().join("compose.yaml")).remove(0);
    let services = compose["services"].as_mapping().expect("services");
    let mut roles = BTreeSet::new();
    for (name, service) in services {
        let (name, image) = (name.as_str().expect("a name"), service["image"].as_str().expect("an image"));
        if image.starts_with("lmao:") {
            let arguments = strings(&service["command"]);
            takes(&arguments, &variables(&service["environment"]));
            roles.extend(arguments.iter().skip_while(|word| *word != "--roles").nth(1).cloned());
        } else {
            let tag = image.rsplit_once(':').expect("it is pinned").1;
            assert!(tag.starts_with(|first: char| first.is_ascii_digit()), "{name}: {image} is not pinned");
        }
        for other in service["depends_on"].as_mapping().into_iter().flatten().map(|(other, _)| other) {
            let other = services.get(other).unwrap_or_else(|| panic!("{name} depends on {other:?}"));
            let waits = other["healthcheck"]["test"].is_sequence() || other["command"][0] == "migrate";
            assert!(waits, "{name} waits for what says nothing of its health");
        }
        for volume in strings(&service["volumes"]) {
            let from = volume.split(':').next().expect("a source");
            let known = if from.starts_with('.') {
                root().join(from).exists()
            } else {
                compose["volumes"].as_mapping().expect("volumes").contains_key(from)
            };
            assert!(known, "{name}: {volume}");
        }
    }
    assert_eq!(roles, BTreeSet::from(["gateway", "worker", "projector"].map(str::to_owned)));
}

#[test]
fn the_image_runs_as_nobody_in_particular() {
    let text = fs::read_to_string(root().join("Dockerfile")).expect("the Dockerfile");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.iter().filter(|line| line.starts_with("FROM ")).count() == 2,
        "it is built in one stage, runs in another"
    );
    assert!(lines.contains(&"USER 10001:10001"));
    let quoted = |word: &str| word.trim_matches(|c| "\"[], ".contains(c)).to_owned();
    let check = lines.iter().find(|line| line.trim().starts_with("CMD [\"lmao\", \"health\"")).expect("a health check");
    let words: Vec<String> = check.trim().trim_start_matches("CMD ").split(',').map(quoted).skip(1).collect();
    takes(&words, &[]);
    let settings = text.split("ENV ").nth(1).expect("settings").lines().take_while(|line| line.contains("LMAO_"));
    let settings = settings.map(|line| {
        let (name, value) = line.trim().trim_end_matches('\\').trim().split_once('=').expect("NAME=VALUE");
        (name.to_owned(), value.to_owned())
    });
    takes(&["serve".to_owned()], &settings.collect::<Vec<_>>());
}

#[test]
fn the_manifests_hang_together() {
    let manifests = manifests();
    let config = of_kind(&manifests, "ConfigMap").next().expect("the settings");
    let mut settings = variables(&config["data"]);
    settings.push(("LMAO_MASTER_KEY".to_owned(), "7".repeat(64)));
    let mut names = BTreeSet::new();
    for workload in of_kind(&manifests, "Deployment").chain(of_kind(&manifests, "Job")) {
        let name = workload["metadata"]["name"].as_str().expect("a name");
        let pod = &workload["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        takes(&strings(&container["args"]), &settings);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{name}");
        if workload["kind"] == "Deployment" {
            names.insert(name.to_owned());
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let path = container[probe]["httpGet"]["path"].as_str().expect("a path");
                assert!(["/health/live", "/health/ready"].contains(&path), "{name}: {path}");
            }
            assert_eq!(workload["spec"]["selector"], label(name), "{name}");
            let labels = &workload["spec"]["template"]["metadata"]["labels"];
            assert_eq!(*labels, label(name)["matchLabels"], "{name}");
            // Where Prometheus looks is where the nodes tell of themselves.
            let port = &workload["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"];
            let listens = settings.iter().find(|(name, _)| name == "LMAO_TELEMETRY__METRICS_LISTEN");
            let listens = listens.and_then(|(_, address)| address.rsplit(':').next());
            assert_eq!(port.as_str(), listens, "{name}");
        }
    }
    assert_eq!(names, BTreeSet::from(["gateway", "worker", "projector"].map(str::to_owned)));
    for budget in of_kind(&manifests, "PodDisruptionBudget") {
        let name = budget["metadata"]["name"].as_str().expect("a name");
        assert!(names.contains(name) && budget["spec"]["selector"] == label(name), "{name}");
    }
    assert_eq!(of_kind(&manifests, "PodDisruptionBudget").count(), names.len());
    for scaler in of_kind(&manifests, "HorizontalPodAutoscaler") {
        let target = scaler["spec"]["scaleTargetRef"]["name"].as_str().expect("a target");
        assert!(names.contains(target), "{target}");
    }
    let kustomization = of_kind(&manifests, "Kustomization").next().expect("a kustomization");
    let listed: BTreeSet<String> = strings(&kustomization["resources"]).into_iter().collect();
    let files = fs::read_dir(root().join("deploy/kubernetes")).expect("the folder");
    let there: BTreeSet<String> = files
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    assert_eq!(listed, there);
}

fn label(component: &str) -> Value {
    serde_yaml::from_str(&format!("matchLabels: {{ app.kubernetes.io/component: {component} }}")).expect("YAML")
}
