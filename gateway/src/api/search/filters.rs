//! Which passages a search may find, as clients say it: checked here, so that a value that makes no sense is refused with
//! the field it stands in.

use chrono::{DateTime, NaiveDate, NaiveTime};
use lmao_events::Timestamp;
use lmao_ports::SearchFilter;
use poem_openapi::Object;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    bad,
    given::{Given, OneOrMore},
};
use crate::error::ApiError;

/// Notices of one search about its filters.
const MAX_NOTICES: usize = 10;
/// What a file can be.
const FILE_TYPES: [&str; 19] = [
    "pdf", "docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "html", "markdown", "rtf", "eml", "csv", "json",
    "jsonl", "text", "code", "zip", "tar",
];
/// What a passage can be.
const CHUNK_TYPES: [&str; 7] = ["prose", "heading", "list", "table", "code", "mixed", "message"];

/// Only passages of these; each filter may be one value or several, of which any will do. All filters have to hold.
#[derive(Debug, Default, Object, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object of filters")]
pub(super) struct Filters {
    document_id: Given<OneOrMore<Uuid>>,
    document_ids: Given<OneOrMore<Uuid>>,
    filename: Given<OneOrMore<String>>,
    filenames: Given<OneOrMore<String>>,
    /// `pdf`, `html`, `markdown`, `text`, `code`, …, in any case.
    file_type: Given<OneOrMore<String>>,
    file_types: Given<OneOrMore<String>>,
    /// A programming language, or a BCP 47 tag: of the passage or, where that says nothing, of its document.
    language: Given<OneOrMore<String>>,
    languages: Given<OneOrMore<String>>,
    /// `prose`, `heading`, `list`, `table`, `code`, `mixed`, `message`, in any case.
    chunk_type: Given<OneOrMore<String>>,
    chunk_types: Given<OneOrMore<String>>,
    /// Of the uploader or of the file.
    tag: Given<OneOrMore<String>>,
    tags: Given<OneOrMore<String>>,
    /// As the file says.
    author: Given<OneOrMore<String>>,
    authors: Given<OneOrMore<String>>,
    /// A path of headings, `Guide > Install`, with all that is below it.
    section: Given<OneOrMore<String>>,
    sections: Given<OneOrMore<String>>,
    /// Passages that begin on these pages.
    page: Given<Pages>,
    /// Documents that were handed in within this time.
    created: Given<Created>,
}

/// Pages, slides or sheets, from 1; both ends included.
#[derive(Debug, Clone, Copy, Object, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with from and to")]
struct Pages {
    /// 1 unless given.
    #[oai(nullable)]
    from: Option<u32>,
    /// The last unless given.
    #[oai(nullable)]
    to: Option<u32>,
}

/// A span of time. RFC 3339: `2026-11-22T18:40:12Z`, or a day, which begins at midnight UTC.
#[derive(Debug, Clone, Object, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with from and before")]
struct Created {
    /// From this moment on.
    #[oai(nullable)]
    from: Option<String>,
    /// Up to this moment, excluded.
    #[oai(nullable)]
    before: Option<String>,
}

impl Filters {
    /// The same for the index, among the documents of `owner`.
    pub(super) fn of(self, owner: Uuid) -> Result<SearchFilter, ApiError> {
        let created = self.created.object("created", r#"{"from": "2026-11-01", "before": "2026-12-01"}"#)?;
        let (created_from, created_before) = created.map_or(Ok((None, None)), Created::span)?;
        let lower_case = |texts: Vec<String>| texts.into_iter().map(|text| text.to_lowercase()).collect();
        Ok(SearchFilter {
            document_ids: ids([("document_ids", self.document_ids), ("document_id", self.document_id)])?,
            filenames: texts([("filenames", self.filenames), ("filename", self.filename)])?,
            formats: lower_case(texts([("file_types", self.file_types), ("file_type", self.file_type)])?),
            languages: texts([("languages", self.languages), ("language", self.language)])?,
            chunk_types: lower_case(texts([("chunk_types", self.chunk_types), ("chunk_type", self.chunk_type)])?),
            tags: texts([("tags", self.tags), ("tag", self.tag)])?,
            authors: texts([("authors", self.authors), ("author", self.author)])?,
            sections: texts([("sections", self.sections), ("section", self.section)])?,
            pages: self.page.object("page", r#"{"from": 3, "to": 7}"#)?.map(Pages::span).transpose()?,
            created_from,
            created_before,
            ..SearchFilter::all_of(owner)
        })
    }
}

/// What the reader should know of these filters: values that nothing can have.
pub(super) fn notices(filter: &SearchFilter) -> Vec<String> {
    let checked =
        [("file type", &filter.formats, &FILE_TYPES[..]), ("chunk type", &filter.chunk_types, &CHUNK_TYPES[..])];
    let unknown = checked.into_iter().flat_map(|(what, given, known)| {
        let unknown = given.iter().filter(|value| !known.contains(&value.as_str()));
        unknown.map(move |value| format!("there is no {what} {value:?}; those there are: {}", known.join(", ")))
    });
    unknown.take(MAX_NOTICES).collect()
}

/// A filter by its two names.
type Named<T> = [(&'static str, Given<OneOrMore<T>>); 2];

fn texts(filters: Named<String>) -> Result<Vec<String>, ApiError> {
    let mut all = vec![];
    for (name, given) in filters {
        all.extend(given.texts(&format!("filters.{name}"))?);
    }
    Ok(all)
}

fn ids(filters: Named<Uuid>) -> Result<Vec<Uuid>, ApiError> {
    let mut all = vec![];
    for (name, given) in filters {
        let field = format!("filters.{name}");
        let refused = |text: &str| {
            bad(&field, format!("{text:?} is not the id of a document; GET /api/v1/documents lists yours"))
        };
        for text in given.texts(&field)? {
            all.push(text.parse().map_err(|_| refused(&text))?);
        }
    }
    Ok(all)
}

impl Pages {
    fn span(self) -> Result<(u32, u32), ApiError> {
        let (from, to) = (self.from.unwrap_or(1), self.to.unwrap_or(u32::MAX));
        if from == 0 || to < from {
            return Err(bad("filters.page", "pages are counted from 1, and `to` is not before `from`"));
        }
        Ok((from, to))
    }
}

impl Created {
    fn span(self) -> Result<(Option<Timestamp>, Option<Timestamp>), ApiError> {
        let from = self.from.map(|text| moment("filters.created.from", &text)).transpose()?;
        let before = self.before.map(|text| moment("filters.created.before", &text)).transpose()?;
        if matches!((from, before), (Some(from), Some(before)) if before <= from) {
            return Err(bad("filters.created", "`before` is not later than `from`: nothing can be between them"));
        }
        Ok((from, before))
    }
}

fn moment(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    let text = text.trim();
    let exact = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let day = || text.parse::<NaiveDate>().map(|day| day.and_time(NaiveTime::MIN).and_utc());
    let time = exact
        .or_else(|_| day())
        .map_err(|_| bad(field, "a time is written as in RFC 3339: 2026-11-22T18:40:12Z, or a day: 2026-11-22"))?;
    Ok(Timestamp(time.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::given::MAX_VALUES, *};

    fn read(filters: Value) -> Result<SearchFilter, ApiError> {
        serde_json::from_value::<Filters>(filters).unwrap().of(Uuid::nil())
    }

    #[test]
    fn one_value_and_several_are_one_filter() {
        let read = read(json!({
            "tag": "b", "tags": ["a"], "author": "Ada", "section": "Guide > Install", "file_type": ["PDF", "html"],
            "filenames": "a.txt", "language": null, "document_id": [Uuid::from_u128(7)],
            "page": { "from": 3 }, "created": { "from": "2026-11-22", "before": "2026-11-23T01:00:00+01:00" },
        }))
        .unwrap();
        let day = 86_400_000_000;
        let wanted = SearchFilter {
            tags: vec!["a".to_owned(), "b".to_owned()],
            authors: vec!["Ada".to_owned()],
            sections: vec!["Guide > Install".to_owned()],
            formats: vec!["pdf".to_owned(), "html".to_owned()],
            filenames: vec!["a.txt".to_owned()],
            document_ids: vec![Uuid::from_u128(7)],
            pages: Some((3, u32::MAX)),
            created_from: Some(Timestamp(20_779 * day)),
            created_before: Some(Timestamp(20_780 * day)),
            ..SearchFilter::all_of(Uuid::nil())
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let many: Vec<String> = (0..=MAX_VALUES).map(|n| n.to_string()).collect();
        for (filters, field) in [
            (json!({ "tags": many }), "filters.tags"),
            (json!({ "author": " " }), "filters.author"),
            (json!({ "file_type": 7 }), "filters.file_type"),
            (json!({ "languages": ["rust", 7] }), "filters.languages"),
            (json!({ "tag": { "a": 1 } }), "filters.tag"),
            (json!({ "document_id": "nope" }), "filters.document_id"),
            (json!({ "document_ids": [Uuid::nil(), "nope"] }), "filters.document_ids"),
            (json!({ "page": 3 }), "filters.page"),
            (json!({ "page": [3, 7] }), "filters.page"),
            (json!({ "page": { "from": "three" } }), "filters.page"),
            (json!({ "page": { "form": 3 } }), "filters.page"),
            (json!({ "created": "2026-11-22" }), "filters.created"),
            (json!({ "page": { "from": 0 } }), "filters.page"),
            (json!({ "page": { "from": 3, "to": 2 } }), "filters.page"),
            (json!({ "created": { "from": "yesterday" } }), "filters.created.from"),
            (json!({ "created": { "before": "2026-13-01" } }), "filters.created.before"),
            (json!({ "created": { "from": "2026-01-02", "before": "2026-01-02" } }), "filters.created"),
        ] {
            let refusal = read(filters).unwrap_err();
            assert_eq!((&*refusal.reason, &refusal.details["field"]), ("bad_search", &json!(field)), "{refusal}");
            assert!(!refusal.message.contains("struct"), "{refusal}");
        }
    }
}
