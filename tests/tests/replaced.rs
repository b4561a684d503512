//! Files that change, move and go, as `lmao ingest` is run on their folder again and again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{Server, lmao, lmao_json};

/// A data directory with a server on it, and a folder of files.
struct Shelf {
    folder: tempfile::TempDir,
    data: PathBuf,
    server: Server,
}

impl Shelf {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(folder.path().join("kb")).expect("a folder");
        let server = Server::start(&data).await;
        Self { folder, data, server }
    }

    fn kb(&self, name: &str) -> PathBuf {
        self.folder.path().join("kb").join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.kb(name).parent().expect("it has one")).expect("folders can be made");
        fs::write(self.kb(name), content).expect("files can be written");
    }

    /// `lmao ingest` of the folder with these flags: how it ends, and its summary.
    #[track_caller]
    fn ingest(&self, flags: &[&str]) -> (Option<i32>, Value) {
        self.ingest_at(self.folder.path(), &[&["kb"], flags].concat())
    }

    #[track_caller]
    fn ingest_at(&self, place: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = lmao(&[&["ingest", "--json"], arguments].concat());
        let output = command.arg("--data").arg(&self.data).current_dir(place).output().expect("lmao can be started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), serde_json::from_str(&said).unwrap_or(Value::String(complaint)))
    }

    /// The paths of all documents, those that failed too.
    fn paths(&self) -> Vec<String> {
        let listed = lmao_json(&self.data, &["documents", "list"], "off");
        let path = |document: &Value| document["metadata"]["path"].as_str().map(str::to_owned);
        let mut paths: Vec<_> = listed.as_array().expect("a list").iter().filter_map(path).collect();
        paths.sort();
        paths
    }

    /// What an answer quotes.
    fn quotes(&self, question: &str) -> Vec<String> {
        let asked = lmao_json(&self.data, &["ask", question], "off");
        let citations = asked["metadata"]["citations"].as_array().expect("a list");
        citations.iter().filter_map(|citation| citation["quote"].as_str()).map(str::to_owned).collect()
    }
}

fn counts(summary: &Value) -> [Value; 4] {
    ["ready", "duplicate", "replaced", "pruned"].map(|field| match &summary[field] {
        Value::Array(all) => json!(all.len()),
        count => count.clone(),
    })
}

/// A file that says how many days there are.
fn policy(days: u32) -> String {
    format!("# Refunds\nRefunds are possible within {days} days.\n")
}

#[tokio::test]
async fn an_edited_file_replaces_its_older_version() {
    let shelf = Shelf::new().await;
    let question = "Within how many days are refunds possible?";
    shelf.write("policy.md", policy(30));
    assert_eq!(counts(&shelf.ingest(&[]).1), [1, 0, 0, 0].map(Value::from));
    shelf.write("policy.md", policy(14));
    let (code, summary) = shelf.ingest(&[]);
    assert_eq!((code, counts(&summary)), (Some(0), [1, 0, 1, 0].map(Value::from)), "{summary}");
    let quotes = shelf.quotes(question).join("\n");
    assert!(quotes.contains("14 days") && !quotes.contains("30 days"), "{quotes}");
    assert_eq!(counts(&shelf.ingest(&[]).1), [0, 1, 0, 0].map(Value::from), "again it changes nothing");

    shelf.write("policy.md", policy(7));
    assert_eq!(counts(&shelf.ingest(&["--keep-old"]).1), [1, 0, 0, 0].map(Value::from));
    assert_eq!(shelf.paths(), ["kb/policy.md", "kb/policy.md"]);
    // As after a run that was killed before it could delete anything.
    assert_eq!(counts(&shelf.ingest(&[]).1), [0, 1, 1, 0].map(Value::from), "what is left over goes");
    // Back to what it was.
    shelf.write("policy.md", policy(14));
    assert_eq!(counts(&shelf.ingest(&[]).1), [1, 0, 1, 0].map(Value::from));
    let quotes = shelf.quotes(question).join("\n");
    assert!(quotes.contains("14 days") && !quotes.contains("7 days"), "{quotes}");
}

#[tokio::test]
async fn an_older_version_stays_while_the_new_one_cannot_be_found() {
    let shelf = Shelf::new().await;
    shelf.write("policy.md", policy(30));
    shelf.write("other.md", "The shop opens at nine.");
    shelf.ingest(&[]);
    shelf.write("policy.md", "%PDF-1.7 and no more");
    let (code, summary) = shelf.ingest(&[]);
    assert_eq!((code, counts(&summary)), (Some(5), [0, 1, 0, 0].map(Value::from)), "{summary}");
    assert_eq!(summary["failed"][0]["older_stays"], true, "{summary}");
    assert!(shelf.quotes("Within how many days are refunds possible?").join("\n").contains("30 days"));
    // Then all that is left of both goes.
    shelf.write("policy.md", policy(14));
    assert_eq!(counts(&shelf.ingest(&[]).1), [1, 1, 2, 0].map(Value::from));
    assert_eq!(shelf.paths(), ["kb/other.md", "kb/policy.md"]);
}

#[tokio::test]
async fn a_path_names_one_file_of_one_machine() {
    let shelf = Shelf::new().await;
    for project in ["north", "south"] {
        shelf.write(&format!("{project}/README.md"), format!("The {project} project sails in May."));
        let (code, summary) = shelf.ingest_at(&shelf.kb(project), &["."]);
        assert_eq!((code, counts(&summary)), (Some(0), [1, 0, 0, 0].map(Value::from)), "{summary}");
    }
    assert_eq!(shelf.paths(), ["README.md", "README.md"], "another folder is named alike");
    shelf.write("north/README.md", "The north project sails in June.");
    assert_eq!(counts(&shelf.ingest(&["--machine", "elsewhere"]).1)[2], 0, "another machine has the same path");
    assert_eq!(counts(&shelf.ingest(&[]).1), [1, 1, 1, 0].map(Value::from), "by whatever words it is named");
}

#[tokio::test]
async fn files_that_are_alike_are_two_documents() {
    let shelf = Shelf::new().await;
    let question = "When does the ferry leave?";
    for name in ["one/a.md", "two/b.md"] {
        shelf.write(name, "Both say that the ferry leaves at six.");
    }
    assert_eq!(counts(&shelf.ingest(&[]).1), [2, 0, 0, 0].map(Value::from));
    assert_eq!(shelf.quotes(question).len(), 1, "what two say is quoted once");
    shelf.write("one/a.md", "This one says that it leaves at seven.");
    assert_eq!(counts(&shelf.ingest_at(&shelf.kb("one"), &["."]).1), [1, 0, 1, 0].map(Value::from));
    assert!(shelf.quotes(question).join("\n").contains("six"), "the other file still says so");

    // One that moves is taken in where it is now, and may go where it was.
    fs::create_dir(shelf.kb("three")).expect("folders can be made");
    fs::rename(shelf.kb("two/b.md"), shelf.kb("three/b.md")).expect("it is there");
    shelf.write("two/c.md", "The ferry has a bar.");
    assert_eq!(counts(&shelf.ingest_at(&shelf.kb("three"), &["."]).1), [1, 0, 0, 0].map(Value::from));
    assert_eq!(counts(&shelf.ingest_at(&shelf.kb("two"), &[".", "--prune"]).1), [1, 0, 0, 1].map(Value::from));
    assert!(shelf.quotes(question).join("\n").contains("six"), "it was only moved");
}

#[tokio::test]
async fn what_is_gone_is_pruned_when_asked_for() {
    let shelf = Shelf::new().await;
    for bird in ["heron", "stork", "deep/owl"] {
        shelf.write(&format!("{bird}.md"), format!("The {bird} stands in shallow water."));
    }
    let outside = shelf.folder.path().join("kbs.md");
    fs::write(&outside, "Not in the folder.").expect("files can be written");
    shelf.ingest(&[outside.to_str().expect("UTF-8")]);
    fs::remove_file(&outside).expect("it is there");
    fs::remove_dir_all(shelf.kb("deep")).expect("it is there");
    fs::rename(shelf.kb("heron.md"), shelf.kb("egret.md")).expect("it is there");
    assert_eq!(counts(&shelf.ingest(&[]).1), [1, 1, 0, 0].map(Value::from), "nothing goes that nobody asked for");

    let (code, told) = shelf.ingest(&["--prune", "--dry-run"]);
    let gone = told["would_prune"].as_array().expect("a list");
    assert_eq!((code, gone.len(), &gone[0]["path"]), (Some(0), 2, &json!("kb/deep/owl.md")), "{told}");
    let (code, summary) = shelf.ingest(&["--prune"]);
    assert_eq!((code, counts(&summary)), (Some(0), [0, 2, 0, 2].map(Value::from)), "{summary}");
    assert_eq!(summary["pruned"], told["would_prune"], "it was foretold");
    assert_eq!(shelf.paths().len(), 3);

    // A disk that is not mounted below the folder.
    shelf.write("disk/tern.md", "The tern stands in shallow water.");
    assert_eq!(counts(&shelf.ingest(&[]).1)[0], 1);
    fs::remove_file(shelf.kb("disk/tern.md")).expect("it is there");
    assert_eq!(counts(&shelf.ingest(&["--prune"]).1), [0, 2, 0, 0].map(Value::from));
    assert_eq!(counts(&shelf.ingest(&["--prune", "--force"]).1), [0, 2, 0, 1].map(Value::from));

    // By a pattern, too.
    shelf.write("wren.md", "The wren stands in shallow water.");
    assert_eq!(counts(&shelf.ingest(&[]).1)[0], 1);
    fs::remove_file(shelf.kb("wren.md")).expect("it is there");
    let (code, summary) = shelf.ingest_at(shelf.folder.path(), &["kb/*.md", "--prune"]);
    assert_eq!((code, counts(&summary)), (Some(0), [0, 2, 0, 1].map(Value::from)), "{summary}");

    // An empty mount point, then none.
    for name in ["stork.md", "egret.md"] {
        fs::remove_file(shelf.kb(name)).expect("it is there");
    }
    let (code, said) = shelf.ingest(&["--prune"]);
    assert!(code == Some(2) && said.as_str().is_some_and(|said| said.contains("--force")), "{said}");
    fs::remove_dir_all(shelf.kb("")).expect("it is there");
    let (code, said) = shelf.ingest(&["--prune"]);
    assert!(code == Some(2) && said.as_str().is_some_and(|said| said.contains("--force")), "{said}");
    assert_eq!(shelf.paths().len(), 3);
    let (code, summary) = shelf.ingest(&["--prune", "--force"]);
    assert_eq!((code, counts(&summary)), (Some(0), [0, 0, 0, 2].map(Value::from)), "{summary}");
    assert_eq!(shelf.paths(), [outside.to_str().expect("UTF-8")]);
    let named = outside.to_str().expect("UTF-8");
    let (code, summary) = shelf.ingest_at(shelf.folder.path(), &[named, "--prune", "--force"]);
    assert_eq!((code, counts(&summary)), (Some(0), [0, 0, 0, 1].map(Value::from)), "{summary}");
    drop(shelf.server);
}
