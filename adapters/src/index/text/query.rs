//! How what a user asks for becomes a query: ranked by BM25 (k1 = 1.2, b = 0.75) over content and, more lightly, over
//! headings.

use lmao_ports::{KeywordQuery, SearchFilter};
use tantivy::{
    Searcher, Term,
    query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhraseQuery, Query, TermQuery, TermSetQuery},
    schema::{Field, IndexRecordOption},
};

use super::{super::store::Allowed, Fields};
use crate::passages::{SECTION_WEIGHT, asked, terms::Tongue};

/// A condition that leaves more than one passage in so many is not worth a place in the query: without it, tantivy may skip
/// what cannot win.
const WORTHWHILE: u64 = 16;
/// Longer values are no terms in tantivy.
const LONGEST: usize = 8_192;

/// The query; `None` if nothing can match.
pub(super) fn build(
    query: &KeywordQuery,
    tongues: impl Iterator<Item = Tongue>,
    fields: Fields,
) -> Option<Box<dyn Query>> {
    let asked = asked::parse(query, tongues);
    let mut alternatives: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    for (field, weight) in [(fields.content, 1.0), (fields.headings, SECTION_WEIGHT)] {
        let words = asked.words.iter().map(|(word, own)| weigh(term(field, word), weight * own));
        let phrases = asked.phrases.iter().map(|terms| weigh(phrase(field, terms), weight));
        alternatives.extend(words.chain(phrases).map(|query| (Occur::Should, query)));
    }
    if alternatives.is_empty() { None } else { Some(Box::new(BooleanQuery::new(alternatives))) }
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

/// The query with the conditions that leave little, if there are any. What is allowed is decided elsewhere: this only
/// spares looking at the rest.
pub(super) fn narrow(
    wanted: Box<dyn Query>,
    filter: &SearchFilter,
    allowed: &Allowed<'_>,
    searcher: &Searcher,
    fields: Fields,
) -> tantivy::Result<Box<dyn Query>> {
    if allowed.is_everything() {
        return Ok(wanted);
    }
    let all = searcher.num_docs();
    let is_strict = |passages: u64| passages.saturating_mul(WORTHWHILE) <= all;
    let owner = filter.owner.simple().to_string();
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    for (field, values) in [
        (fields.owner, std::slice::from_ref(&owner)),
        (fields.filename, &filter.filenames),
        (fields.format, &filter.formats),
        (fields.language, &filter.languages),
        (fields.chunk_type, &filter.chunk_types),
        (fields.tag, &filter.tags),
        (fields.author, &filter.authors),
    ] {
        let terms: Vec<Term> = values.iter().map(|value| Term::from_field_text(field, value)).collect();
        let mut passages = 0;
        for term in &terms {
            passages += searcher.doc_freq(term)?;
        }
        if !terms.is_empty() && is_strict(passages) && values.iter().all(|value| value.len() <= LONGEST) {
            clauses.push((Occur::Must, any_of(terms)));
        }
    }
    if allowed.named_passages().is_some_and(|passages| is_strict(passages as u64))
        && let Some(entries) = allowed.named_entries()
    {
        let terms = entries.into_iter().map(|entry| Term::from_field_u64(fields.entry, entry));
        clauses.push((Occur::Must, any_of(terms.collect())));
    }
    if clauses.is_empty() {
        return Ok(wanted);
    }
    clauses.push((Occur::Must, wanted));
    Ok(Box::new(BooleanQuery::new(clauses)))
}

fn any_of(mut terms: Vec<Term>) -> Box<dyn Query> {
    let query: Box<dyn Query> = match (terms.pop(), terms.is_empty()) {
        (Some(term), true) => Box::new(TermQuery::new(term, IndexRecordOption::Basic)),
        (last, _) => Box::new(TermSetQuery::new(terms.into_iter().chain(last))),
    };
    Box::new(ConstScoreQuery::new(query, 0.0))
}
