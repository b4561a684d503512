//! The rules of the house, as far as a machine can check them.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use expect_test::expect_file;

/// Lines of a source file.
const MAX_LINES: usize = 500;

/// Crates that only these rooms may name.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["poem", "poem-openapi", "jsonwebtoken"], &["lmao-gateway"]),
    (&["ractor"], &["lmao-actors"]),
    (
        &[
            "sqlx",
            "rusqlite",
            "async-nats",
            "fred",
            "elasticsearch",
            "tantivy",
            "memmap2",
            "object_store",
            "moka",
            "fastembed",
            "ort",
            "eventsource-stream",
        ],
        &["lmao-adapters"],
    ),
    (&["reqwest"], &["lmao-adapters", "lmao"]),
    (&["zip"], &["lmao-adapters", "lmao-retrieval", "lmao", "xtask"]),
    (&["clap"], &["lmao", "xtask"]),
    (&["figment", "tracing-subscriber"], &["lmao"]),
    (&["anyhow"], &["lmao", "xtask"]),
    (
        &[
            "opentelemetry_sdk",
            "opentelemetry-otlp",
            "opentelemetry-prometheus",
            "opentelemetry-appender-tracing",
            "prometheus",
        ],
        &["lmao"],
    ),
];

/// What the pure crate may stand on: formats, hashes and ids; no clock, no chance, no runtime.
const PURE: &[&str] =
    &["blake3", "chacha20poly1305", "rmp-serde", "schemars", "serde", "serde_bytes", "serde_json", "thiserror", "uuid"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn workspace() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps().other_options(vec!["--offline".to_owned()]);
    command.exec().expect("cargo metadata")
}

/// The crates that this one stands on, tests and build scripts aside.
fn dependencies(package: &Package) -> Vec<&str> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    let mut names: Vec<&str> = normal.map(|dependency| dependency.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Files of the repository with this extension: all but what is built or hidden.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folders can be read") {
            let path = entry.expect("listed").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !name.starts_with('.') && !["target", "lmao-data"].contains(&name) {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} files: the walk is broken");
    found
}

/// What breaks a rule, one line each.
#[track_caller]
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Lines of every source file that `breaks` holds of; comments aside.
fn lines_where(breaks: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = vec![];
    for path in files("rs") {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        for (number, line) in (1..).zip(text.lines()) {
            if !line.trim_start().starts_with("//") && breaks(line) {
                found.push(format!("{}:{number}: {}", shown(&path), line.trim()));
            }
        }
    }
    found
}

#[test]
fn the_arrows_between_crates_are_those_agreed_on() {
    let metadata = workspace();
    let members: Vec<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut lines: Vec<String> = metadata
        .packages
        .iter()
        .map(|package| {
            let mut line = format!("{} ->", package.name);
            for name in dependencies(package).iter().filter(|name| members.contains(name)) {
                write!(line, " {name}").expect("strings take text");
            }
            line
        })
        .collect();
    lines.sort();
    expect_file!["../golden/arrows.txt"].assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn what_belongs_to_one_room_is_named_in_no_other() {
    let mut broken = vec![];
    for package in &workspace().packages {
        for name in dependencies(package) {
            let rule = ONLY_IN.iter().find(|(names, _)| names.contains(&name));
            if let Some((_, rooms)) = rule
                && !rooms.contains(&package.name.as_str())
            {
                broken.push(format!("{} names {name}, which belongs to {}", package.name, rooms.join(" and ")));
            }
        }
    }
    assert_none("a dependency stands in a room that may not know it", &broken);
}

#[test]
fn the_facts_are_pure() {
    let metadata = workspace();
    let events = metadata.packages.iter().find(|package| package.name == "lmao-events").expect("it is a member");
    let broken: Vec<String> =
        dependencies(events).into_iter().filter(|name| !PURE.contains(name)).map(str::to_owned).collect();
    assert_none("lmao-events may not stand on", &broken);
}

#[test]
fn every_crate_says_its_licence_and_takes_the_lints() {
    let mut broken = vec![];
    for package in &workspace().packages {
        let manifest = fs::read_to_string(&package.manifest_path).expect("manifests can be read");
        if package.license.as_deref() != Some("Apache-2.0") || !manifest.contains("[lints]\nworkspace = true") {
            broken.push(package.name.to_string());
        }
    }
    assert_none("without the licence or the workspace's lints", &broken);
}

#[test]
fn no_source_file_is_longer_than_can_be_read() {
    let lines = |path: &PathBuf| fs::read_to_string(path).expect("sources are UTF-8").lines().count();
    let broken: Vec<String> = files("rs")
        .iter()
        .map(|path| (path, lines(path)))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", shown(path)))
        .collect();
    assert_none("longer than 500 lines", &broken);
}

#[test]
fn every_module_says_what_it_is_for() {
    let heads = ["lib.rs", "main.rs", "mod.rs"];
    let broken: Vec<String> = files("rs")
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| heads.iter().any(|head| name == *head)))
        .filter(|path| !fs::read_to_string(path).expect("sources are UTF-8").starts_with("//! "))
        .map(|path| shown(path))
        .collect();
    assert_none("does not begin with `//! `", &broken);
}

#[test]
fn nothing_is_a_stub() {
    let stubs = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
    assert_none("a stub", &lines_where(|line| stubs.iter().any(|stub| line.contains(stub))));
}

#[test]
fn every_exception_to_a_lint_has_its_reason() {
    let mut broken = vec![];
    for path in files("rs") {
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        for start in [concat!("[", "allow("), concat!("[", "expect(")] {
            for (at, _) in text.match_indices(start).filter(|(at, _)| text[..*at].ends_with(['#', '!'])) {
                let attribute = text[at..].split(")]").next().unwrap_or_default();
                if !attribute.contains("reason = ") {
                    let number = text[..at].lines().count();
                    broken.push(format!("{}:{number}: {attribute}", shown(&path)));
                }
            }
        }
    }
    assert_none("an exception without `reason = …`", &broken);
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut broken = vec![];
    for path in files("md") {
        let text = fs::read_to_string(&path).expect("documents are UTF-8");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            let outside = link.is_empty() || link.contains("://") || link.starts_with("mailto:");
            if !outside && !path.with_file_name(link).exists() {
                broken.push(format!("{}: {link}", shown(&path)));
            }
        }
    }
    assert_none("a link to nothing", &broken);
}
