//! How what a user asks for becomes a query: ranked by BM25 (k1 = 1.2, b = 0.75) over content and, more lightly, over
//! section headings. Filters decide which passages count and add nothing to a score.

use lmao_ports::SearchFilter;
use tantivy::{
    Term,
    query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhraseQuery, Query, TermQuery, TermSetQuery},
    schema::{Field, IndexRecordOption},
};

use super::{super::store::Catalog, Fields};
use crate::passages::{SECTION_WEIGHT, asked};

/// The query; `None` if nothing can match.
pub(super) fn build(text: &str, filter: &SearchFilter, catalog: &Catalog, fields: Fields) -> Option<Box<dyn Query>> {
    let asked = asked::parse(text);
    let mut alternatives: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    for (field, weight) in [(fields.content, 1.0), (fields.section, SECTION_WEIGHT)] {
        let words = asked.words.iter().map(|word| term(field, word));
        let phrases = asked.phrases.iter().map(|terms| phrase(field, terms));
        let weighted = words.chain(phrases).map(|query| weigh(query, weight));
        alternatives.extend(weighted.map(|query| (Occur::Should, query)));
    }
    if alternatives.is_empty() {
        return None;
    }
    let wanted: Box<dyn Query> = Box::new(BooleanQuery::new(alternatives));
    let mut filters = filters(filter, catalog, fields)?;
    if filters.is_empty() {
        return Some(wanted);
    }
    filters.push((Occur::Must, wanted));
    Some(Box::new(BooleanQuery::new(filters)))
}

fn term(field: Field, word: &str) -> Box<dyn Query> {
    Box::new(TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs))
}

fn phrase(field: Field, terms: &[(usize, String)]) -> Box<dyn Query> {
    let terms = terms.iter().map(|(at, word)| (*at, Term::from_field_text(field, word))).collect();
    Box::new(PhraseQuery::new_with_offset(terms))
}

fn weigh(query: Box<dyn Query>, weight: f32) -> Box<dyn Query> {
    if weight == 1.0 { query } else { Box::new(BoostQuery::new(query, weight)) }
}

/// One clause for each condition; `None` if no passage can meet them.
fn filters(filter: &SearchFilter, catalog: &Catalog, fields: Fields) -> Option<Vec<(Occur, Box<dyn Query>)>> {
    let mut sets: Vec<Vec<Term>> = Vec::new();
    // With one owner the condition is always met, and without it tantivy may skip blocks that cannot win.
    if !catalog.is_sole_owner(&filter.owner) {
        sets.push(vec![Term::from_field_text(fields.owner, &filter.owner.simple().to_string())]);
    }
    if !filter.document_ids.is_empty() {
        let entries = catalog.entries_of(filter);
        sets.push(entries.into_iter().map(|entry| Term::from_field_u64(fields.entry, entry)).collect());
    }
    for (field, values) in [
        (fields.filename, &filter.filenames),
        (fields.format, &filter.formats),
        (fields.language, &filter.languages),
        (fields.chunk_type, &filter.chunk_types),
    ] {
        if !values.is_empty() {
            sets.push(values.iter().map(|value| Term::from_field_text(field, value)).collect());
        }
    }
    sets.into_iter().map(|terms| (!terms.is_empty()).then(|| (Occur::Must, any_of(terms)))).collect()
}

fn any_of(mut terms: Vec<Term>) -> Box<dyn Query> {
    let query: Box<dyn Query> = match (terms.pop(), terms.is_empty()) {
        (Some(term), true) => Box::new(TermQuery::new(term, IndexRecordOption::Basic)),
        (last, _) => Box::new(TermSetQuery::new(terms.into_iter().chain(last))),
    };
    Box::new(ConstScoreQuery::new(query, 0.0))
}
