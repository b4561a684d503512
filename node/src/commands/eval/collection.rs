//! A test collection on the disk: documents, queries, and what people judged to answer them. In the form of BEIR (Thakur et
//! al., NeurIPS 2021), with the judgements as one JSON object.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use serde::{Deserialize, de::DeserializeOwned};

use super::metrics::Grades;
use crate::exit::{Code, Stop};

/// Documents of a collection, and queries.
const MAX_ITEMS: usize = 500_000;

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Document {
    #[serde(alias = "_id")]
    pub id: String,
    #[serde(default)]
    pub title: String,
    pub text: String,
}

impl Document {
    /// What is taken in.
    pub(super) fn content(&self) -> String {
        if self.title.trim().is_empty() { self.text.clone() } else { format!("{}\n\n{}", self.title.trim(), self.text) }
    }
}

/// A query with its judgements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query {
    pub id: String,
    pub text: String,
    pub grades: Grades,
}

impl Query {
    /// Its number, or its place among the queries: even ones are to choose parameters by, odd ones to check them.
    pub(super) fn is_even(&self, place: usize) -> bool {
        let number = self.id.chars().next_back().and_then(|last| last.to_digit(10));
        number.map_or(place.is_multiple_of(2), |last| last.is_multiple_of(2))
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Collection {
    pub name: String,
    pub documents: Vec<Document>,
    /// Those for which something is relevant, in their order.
    pub queries: Vec<Query>,
    /// Queries for which nothing is.
    pub unjudged: usize,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(alias = "_id")]
    id: String,
    text: String,
}

impl Collection {
    /// Reads the folder; at most `limit` queries.
    ///
    /// # Errors
    /// [`Code::Usage`] when it is no collection: which file and line, and what is wrong there.
    pub(super) fn read(dir: &Path, limit: usize) -> Result<Self, Stop> {
        let documents: Vec<Document> = lines(&dir.join("corpus.jsonl"))?;
        let asked: Vec<Asked> = lines(&dir.join("queries.jsonl"))?;
        let path = dir.join("qrels.json");
        let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
        let mut judged: HashMap<String, Grades> = serde_json::from_reader(BufReader::new(file)).map_err(|error| {
            Stop::new(Code::Usage, format!("{} is no object of query ids, document ids and grades", path.display()))
                .because(error)
        })?;
        let mut ids = HashSet::with_capacity(documents.len());
        if let Some(twice) = documents.iter().find(|document| !ids.insert(document.id.as_str())) {
            return Err(Stop::new(Code::Usage, format!("corpus.jsonl has the document {} twice", twice.id)));
        }
        let all = asked.len();
        let queries = asked.into_iter().filter_map(|Asked { id, text }| {
            let grades = judged.remove(&id).filter(|grades| grades.values().any(|grade| *grade > 0.0))?;
            Some(Query { id, text, grades })
        });
        let mut queries: Vec<Query> = queries.collect();
        let unjudged = all - queries.len();
        queries.truncate(limit);
        if documents.is_empty() || queries.is_empty() {
            let text = format!(
                "{} has {} documents and {} queries with judgements",
                dir.display(),
                documents.len(),
                queries.len()
            );
            return Err(Stop::new(Code::Usage, text).hint("both are needed to measure anything"));
        }
        let strangers = queries.iter().flat_map(|query| query.grades.keys()).filter(|id| !ids.contains(id.as_str()));
        if let Some(stranger) = strangers.min() {
            let text = format!("qrels.json judges the document {stranger}, which corpus.jsonl does not have");
            return Err(Stop::new(Code::Usage, text));
        }
        let name =
            dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned());
        Ok(Self { name, documents, queries, unjudged })
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Stop {
    Stop::new(Code::Usage, format!("{} cannot be read", path.display()))
        .because(error)
        .hint("a collection is a folder with corpus.jsonl, queries.jsonl and qrels.json")
}

/// One value on each line.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Stop> {
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    let mut items = vec![];
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(|error| unreadable(path, error))?;
        if line.trim().is_empty() {
            continue;
        }
        let item = serde_json::from_str(&line).map_err(|error| {
            Stop::new(Code::Usage, format!("{} line {number} is no object with id and text", path.display()))
                .because(error)
        })?;
        items.push(item);
        if items.len() > MAX_ITEMS {
            return Err(Stop::new(Code::Usage, format!("{} has more than {MAX_ITEMS} lines", path.display())));
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(corpus: &str, queries: &str, qrels: &str) -> Result<Collection, Stop> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels.json", qrels)] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Collection::read(folder.path(), 2)
    }

    const CORPUS: &str = "{\"id\":\"a\",\"text\":\"A\"}\n\n{\"_id\":\"b\",\"title\":\"T\",\"text\":\"B\"}\n";
    const QUERIES: &str = "{\"id\":\"1\",\"text\":\"x\"}\n{\"id\":\"2\",\"text\":\"y\"}\n{\"id\":\"3\",\"text\":\"z\"}\n{\"id\":\"4\",\"text\":\"w\"}";

    #[test]
    fn a_collection_is_read_and_queries_without_judgements_are_counted() {
        let read = read(CORPUS, QUERIES, r#"{"1":{"a":1},"2":{"b":0},"3":{"b":2.5},"4":{"a":1}}"#).unwrap();
        let contents: Vec<String> = read.documents.iter().map(Document::content).collect();
        assert_eq!(contents, ["A", "T\n\nB"]);
        let ids: Vec<&str> = read.queries.iter().map(|query| query.id.as_str()).collect();
        assert_eq!((ids, read.unjudged), (vec!["1", "3"], 1), "as many as wanted");
        assert!(!read.queries[0].is_even(0) && Query { id: "q".to_owned(), ..read.queries[0].clone() }.is_even(0));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let judged = r#"{"1":{"a":1}}"#;
        for (corpus, queries, qrels, says) in [
            ("{\"id\":\"a\"}", QUERIES, judged, "corpus.jsonl line 1"),
            (CORPUS, "nonsense", judged, "queries.jsonl line 1"),
            (CORPUS, QUERIES, "[]", "qrels.json is no object"),
            (CORPUS, QUERIES, "{}", "0 queries with judgements"),
            (CORPUS, QUERIES, r#"{"1":{"zebra":1}}"#, "zebra"),
            ("{\"id\":\"a\",\"text\":\"\"}\n{\"id\":\"a\",\"text\":\"\"}", QUERIES, judged, "twice"),
        ] {
            let stop = read(corpus, queries, qrels).unwrap_err();
            assert!(stop.code == Code::Usage && stop.to_string().contains(says), "{stop}");
        }
        let absent = Collection::read(Path::new("/nonexistent"), 1).unwrap_err();
        assert!(absent.to_string().contains("corpus.jsonl cannot be read"), "{absent}");
    }
}
