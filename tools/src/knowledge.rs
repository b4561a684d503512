//! The tool `knowledge`: searching the caller's documents.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use lmao_events::Failure;
use lmao_ports::{Hit, IndexError, Retriever, SearchError, SearchFilter, SearchRequest, SearchType, ToolSpec};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Call, Tool, bad_parameters};

/// Results unless asked otherwise.
const DEFAULT_RESULTS: usize = 5;
/// Results at most: what a reader, or a model's context, can use.
const MAX_RESULTS: usize = 20;
/// Characters of a query.
const MAX_QUERY: usize = 4096;
/// Values of a filter, and characters of each.
const MAX_VALUES: usize = 20;
const MAX_VALUE: usize = 255;

/// Searches the caller's documents, with all that a citation needs.
#[derive(Debug)]
pub struct Knowledge {
    retriever: Arc<dyn Retriever>,
}

impl Knowledge {
    /// Over this retrieval pipeline.
    #[must_use]
    pub fn new(retriever: Arc<dyn Retriever>) -> Self {
        Self { retriever }
    }
}

#[derive(Debug, Deserialize)]
struct Parameters {
    query: String,
    max_results: Option<f64>,
    #[serde(default)]
    search_type: SearchType,
    #[serde(default)]
    filters: Filters,
}

/// Which documents; all of them where nothing is said. The names are those of the search API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Filters {
    filenames: Vec<String>,
    file_types: Vec<String>,
    tags: Vec<String>,
}

impl Filters {
    /// Among the documents of this person.
    fn of(self, owner: Uuid) -> SearchFilter {
        let Self { filenames, file_types: formats, tags } = self;
        SearchFilter { filenames, formats, tags, ..SearchFilter::all_of(owner) }
    }
}

/// A list of texts.
fn values(description: &str) -> Value {
    let value = json!({ "type": "string", "minLength": 1, "maxLength": MAX_VALUE });
    json!({ "type": "array", "items": value, "maxItems": MAX_VALUES, "description": description })
}

#[async_trait]
impl Tool for Knowledge {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "knowledge".to_owned(),
            description: "Searches your documents and returns the passages found, with their sources.".to_owned(),
            capabilities: vec!["search".to_owned(), "documents".to_owned()],
            parameters: json!({
                "type": "object",
                "properties": {
                    "query": {
                        "type": "string", "minLength": 1, "maxLength": MAX_QUERY,
                        "description": "what to search for: a question, or words"
                    },
                    "max_results": {
                        "type": "integer", "minimum": 1, "maximum": MAX_RESULTS, "default": DEFAULT_RESULTS,
                        "description": "passages wanted at most"
                    },
                    "search_type": {
                        "enum": ["hybrid", "semantic", "keyword", "code"], "default": "hybrid",
                        "description": "by meaning, by words, or both; or both in passages of code only"
                    },
                    "filters": {
                        "type": "object",
                        "description": "search only documents that have one of the values of each filter given",
                        "properties": {
                            "filenames": values("names of documents, as results show them"),
                            "file_types": values("kinds of documents: pdf, markdown, code, …"),
                            "tags": values("tags of documents")
                        },
                        "additionalProperties": false
                    }
                },
                "required": ["query"],
                "additionalProperties": false
            }),
            repeatable: true,
            timeout: Duration::from_secs(30),
        }
    }

    async fn run(&self, call: Call) -> Result<Value, Failure> {
        let owner = call.owner;
        let Parameters { query, max_results, search_type, filters } = call.parameters()?;
        let filter = filters.of(owner);
        let max_results = max_results.map_or(DEFAULT_RESULTS, whole);
        let request = SearchRequest::new(query, filter, max_results, search_type);
        let found = self.retriever.search(request).await.map_err(|error| failure(&error))?;
        let results: Vec<Value> = (1..).zip(&found.hits).map(|(n, hit)| result(n, hit)).collect();
        Ok(json!({ "results": results, "total": found.total, "notices": found.notices }))
    }
}

/// JSON Schema takes `5.0` for an integer, and has checked the range.
#[expect(clippy::cast_possible_truncation, reason = "clamped")]
fn whole(number: f64) -> usize {
    number.clamp(1.0, MAX_RESULTS as f64) as usize
}

fn result(n: u32, hit: &Hit) -> Value {
    json!({
        "n": n,
        "document_id": hit.document_id,
        "chunk_id": hit.chunk_id,
        "filename": hit.filename,
        "page_number": hit.page_number,
        "section": hit.section,
        "chunk_type": hit.chunk_type,
        "language": hit.language,
        "relevant": hit.relevant,
        "content": hit.content,
        "start": hit.start,
        "end": hit.end,
        "score": hit.score,
    })
}

fn failure(error: &SearchError) -> Failure {
    let text = explained(error);
    match error {
        SearchError::Invalid(_) => bad_parameters(text),
        SearchError::SemanticOff(_) => Failure::lasting("semantic_off", format!("{text}; search by keyword instead")),
        SearchError::Index(IndexError::Unavailable(_)) => Failure::passing("index_unavailable", text),
        SearchError::Index(IndexError::OtherModel { .. }) => Failure::lasting("other_model", text),
        SearchError::Index(_) => Failure::lasting("index_failed", text),
        SearchError::Embed(_) => Failure::lasting("embedding_failed", text),
    }
}

/// An error with what is behind it.
fn explained(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use expect_test::expect;
    use lmao_events::tool_call::Outcome;
    use lmao_ports::{SearchResults, Unavailable};

    use super::*;
    use crate::{Registry, ToolRun};

    /// Finds one passage for everybody and remembers what was asked.
    #[derive(Debug, Default)]
    struct OnePassage {
        asked: Mutex<Vec<SearchRequest>>,
    }

    #[async_trait]
    impl Retriever for OnePassage {
        async fn search(&self, request: SearchRequest) -> Result<SearchResults, SearchError> {
            let down = request.query == "down";
            self.asked.lock().unwrap().push(request);
            if down {
                let source = std::io::Error::other("disk gone");
                return Err(IndexError::from(Unavailable::new("search", "cannot be read", source)).into());
            }
            let hit = Hit {
                chunk_id: Uuid::from_u128(2),
                ordinal: 0,
                content: "Forty-two.".to_owned(),
                score: 0.5,
                similarity: None,
                document_id: Uuid::from_u128(1),
                filename: "answer.pdf".to_owned(),
                title: None,
                page_number: Some(42),
                page_turns: vec![],
                section: None,
                chunk_type: "prose".to_owned(),
                start: 10,
                end: 20,
                relevant: false,
                language: Some("en".to_owned()),
                parent: None,
                explained: None,
            };
            Ok(SearchResults {
                hits: vec![hit],
                total: 7,
                notices: vec!["a leg is off".to_owned()],
                took: Duration::ZERO,
                ..SearchResults::default()
            })
        }
    }

    async fn run(retriever: &Arc<OnePassage>, parameters: Value) -> Outcome {
        let run = ToolRun {
            owner: Uuid::from_u128(9),
            tool: "knowledge".to_owned(),
            parameters,
            idempotency_key: Uuid::nil(),
        };
        Registry::builtin(Arc::clone(retriever) as Arc<dyn Retriever>).run(run).await
    }

    #[tokio::test]
    async fn it_searches_the_callers_documents_and_names_sources() {
        let retriever = Arc::new(OnePassage::default());
        let Outcome::Success(result) = run(&retriever, json!({ "query": "answer", "max_results": 3.0 })).await else {
            panic!("no result")
        };
        expect![[r#"
            {
              "notices": [
                "a leg is off"
              ],
              "results": [
                {
                  "chunk_id": "00000000-0000-0000-0000-000000000002",
                  "chunk_type": "prose",
                  "content": "Forty-two.",
                  "document_id": "00000000-0000-0000-0000-000000000001",
                  "end": 20,
                  "filename": "answer.pdf",
                  "language": "en",
                  "n": 1,
                  "page_number": 42,
                  "relevant": false,
                  "score": 0.5,
                  "section": null,
                  "start": 10
                }
              ],
              "total": 7
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&result).unwrap());
        let asked = retriever.asked.lock().unwrap();
        assert_eq!((asked[0].filter.owner, asked[0].max_results), (Uuid::from_u128(9), 3));
    }

    #[tokio::test]
    async fn filters_and_the_kind_of_search_are_passed_on() {
        let retriever = Arc::new(OnePassage::default());
        let filters = json!({ "filenames": ["a.pdf", "b.md"], "file_types": ["pdf"], "tags": ["blue"] });
        let parameters = json!({ "query": "x", "search_type": "code", "filters": filters });
        assert!(matches!(run(&retriever, parameters).await, Outcome::Success(_)));
        let asked = retriever.asked.lock().unwrap();
        let expected = SearchFilter {
            filenames: vec!["a.pdf".to_owned(), "b.md".to_owned()],
            formats: vec!["pdf".to_owned()],
            tags: vec!["blue".to_owned()],
            ..SearchFilter::all_of(Uuid::from_u128(9))
        };
        assert_eq!((&asked[0].filter, asked[0].search_type), (&expected, SearchType::Code));
    }

    #[tokio::test]
    async fn bad_parameters_never_reach_the_index() {
        let retriever = Arc::new(OnePassage::default());
        for (parameters, says) in [
            (json!({}), "query"),
            (json!({ "query": "" }), "query"),
            (json!({ "query": 3 }), "query"),
            (json!({ "query": "x", "max_results": 21 }), "max_results"),
            (json!({ "query": "x", "max_results": 0 }), "max_results"),
            (json!({ "query": "x", "search_type": "fuzzy" }), "search_type"),
            (json!({ "query": "x", "owner": "someone" }), "owner"),
            (json!({ "query": "x", "filters": { "owner": ["someone"] } }), "owner"),
            (json!({ "query": "x", "filters": { "tags": "blue" } }), "tags"),
            (json!({ "query": "x", "filters": { "filenames": [""] } }), "filenames"),
            (json!({ "query": "x", "filters": { "file_types": vec!["pdf"; 21] } }), "file_types"),
            (json!(["x"]), "object"),
        ] {
            let Outcome::Error(failure) = run(&retriever, parameters.clone()).await else { panic!("{parameters}") };
            assert_eq!(failure.reason, "bad_parameters");
            assert!(failure.message.contains(says), "{}", failure.message);
        }
        assert!(retriever.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_index_that_is_away_may_come_back() {
        let Outcome::Error(failure) = run(&Arc::default(), json!({ "query": "down" })).await else { panic!() };
        assert_eq!((failure.reason.as_str(), failure.retryable), ("index_unavailable", true));
        assert!(failure.message.contains("disk gone"));
    }
}
