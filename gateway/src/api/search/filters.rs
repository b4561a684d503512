//! Which passages a search may find, as clients say it: checked here, so that a value that makes no sense is refused with
//! the field it stands in.

use chrono::{DateTime, NaiveDate, NaiveTime};
use lmao_events::Timestamp;
use lmao_ports::SearchFilter;
use poem_openapi::Object;
use serde::Deserialize;
use uuid::Uuid;

use super::bad;
use crate::error::ApiError;

/// Values of one filter.
const MAX_VALUES: usize = 1000;

/// Only passages of these; each filter may be one value or several, of which any will do. All filters have to hold.
#[derive(Debug, Default, Object, Deserialize)]
#[oai(default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Filters {
    document_id: Option<Uuid>,
    document_ids: Vec<Uuid>,
    filename: Option<String>,
    filenames: Vec<String>,
    /// `pdf`, `html`, `markdown`, `text`, `code`, …
    file_type: Option<String>,
    file_types: Vec<String>,
    /// A programming language, or a BCP 47 tag: of the passage or, where that says nothing, of its document.
    language: Option<String>,
    languages: Vec<String>,
    /// `prose`, `heading`, `list`, `table`, `code`, `mixed`, `message`.
    chunk_type: Option<String>,
    chunk_types: Vec<String>,
    /// Of the uploader or of the file.
    tag: Option<String>,
    tags: Vec<String>,
    /// As the file says.
    author: Option<String>,
    authors: Vec<String>,
    /// A path of headings, `Guide > Install`, with all that is below it.
    section: Option<String>,
    sections: Vec<String>,
    /// Passages that begin on these pages.
    page: Option<Pages>,
    /// Documents that were handed in within this time.
    created: Option<Created>,
}

/// Pages, slides or sheets, from 1; both ends included.
#[derive(Debug, Clone, Copy, Object, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
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
        let (created_from, created_before) = self.created.map_or(Ok((None, None)), |created| created.span())?;
        Ok(SearchFilter {
            document_ids: values("document_ids", self.document_id, self.document_ids)?,
            filenames: texts("filenames", self.filename, self.filenames)?,
            formats: texts("file_types", self.file_type, self.file_types)?,
            languages: texts("languages", self.language, self.languages)?,
            chunk_types: texts("chunk_types", self.chunk_type, self.chunk_types)?,
            tags: texts("tags", self.tag, self.tags)?,
            authors: texts("authors", self.author, self.authors)?,
            sections: texts("sections", self.section, self.sections)?,
            pages: self.page.map(Pages::span).transpose()?,
            created_from,
            created_before,
            ..SearchFilter::all_of(owner)
        })
    }
}

fn values<T>(name: &str, one: Option<T>, mut more: Vec<T>) -> Result<Vec<T>, ApiError> {
    more.extend(one);
    if more.len() > MAX_VALUES {
        return Err(bad(&format!("filters.{name}"), format!("a filter has at most {MAX_VALUES} values")));
    }
    Ok(more)
}

fn texts(name: &str, one: Option<String>, more: Vec<String>) -> Result<Vec<String>, ApiError> {
    let texts = values(name, one, more)?;
    if texts.iter().any(|text| text.trim().is_empty()) {
        return Err(bad(
            &format!("filters.{name}"),
            "a value is empty; leave the filter out to let everything through",
        ));
    }
    Ok(texts)
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
    use serde_json::json;

    use super::*;

    fn read(filters: serde_json::Value) -> Result<SearchFilter, ApiError> {
        serde_json::from_value::<Filters>(filters).unwrap().of(Uuid::nil())
    }

    #[test]
    fn one_value_and_several_are_one_filter() {
        let read = read(json!({
            "tag": "b", "tags": ["a"], "author": "Ada", "section": "Guide > Install", "file_types": ["pdf", "html"],
            "page": { "from": 3 }, "created": { "from": "2026-11-22", "before": "2026-11-23T01:00:00+01:00" },
        }))
        .unwrap();
        let day = 86_400_000_000;
        let wanted = SearchFilter {
            tags: vec!["a".to_owned(), "b".to_owned()],
            authors: vec!["Ada".to_owned()],
            sections: vec!["Guide > Install".to_owned()],
            formats: vec!["pdf".to_owned(), "html".to_owned()],
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
            (json!({ "author": " " }), "filters.authors"),
            (json!({ "page": { "from": 0 } }), "filters.page"),
            (json!({ "page": { "from": 3, "to": 2 } }), "filters.page"),
            (json!({ "created": { "from": "yesterday" } }), "filters.created.from"),
            (json!({ "created": { "before": "2026-13-01" } }), "filters.created.before"),
            (json!({ "created": { "from": "2026-01-02", "before": "2026-01-02" } }), "filters.created"),
        ] {
            let refusal = read(filters).unwrap_err();
            assert_eq!((&*refusal.reason, &refusal.details["field"]), ("bad_search", &json!(field)), "{refusal}");
        }
    }
}
