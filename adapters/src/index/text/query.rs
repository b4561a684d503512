//! How what a user asks for becomes clauses: ranked by BM25 (k1 = 1.2, b = 0.75) over content and, more lightly, over
//! headings.

use lmao_ports::KeywordQuery;
use tantivy::{
    Searcher, Term,
    postings::TermInfo,
    query::{Bm25StatisticsProvider, Bm25Weight, EnableScoring, PhraseQuery, Query, Weight},
    schema::Field,
};

use super::Fields;
use crate::passages::{SECTION_WEIGHT, asked, terms::Tongue};

/// Something asked for. A passage that has any is found, with the sum of what it has.
pub(super) enum Clause {
    Term {
        field: Field,
        bm25: Bm25Weight,
        /// By segment, where there is any.
        infos: Vec<Option<TermInfo>>,
    },
    Phrase {
        weight: Box<dyn Weight>,
        boost: f32,
    },
}

impl Clause {
    /// More than it can be worth to any passage.
    pub(super) fn most(&self) -> f32 {
        match self {
            // No length, no end of occurrences: the limit of BM25. Its own bound assumes lengths that are not rounded.
            Self::Term { bm25, .. } => bm25.score(0, u32::MAX),
            Self::Phrase { .. } => f32::INFINITY,
        }
    }
}

/// What a query asks for, what may be worth most first; nothing that no passage has.
pub(super) fn clauses(
    query: &KeywordQuery,
    tongues: impl Iterator<Item = Tongue>,
    searcher: &Searcher,
    fields: Fields,
) -> tantivy::Result<Vec<Clause>> {
    let asked = asked::parse(query, tongues);
    let passages = searcher.total_num_docs()?;
    let mut clauses = Vec::new();
    for (field, weight) in [(fields.content, 1.0), (fields.headings, SECTION_WEIGHT)] {
        let average = searcher.total_num_tokens(field)? as f32 / passages as f32;
        for (word, own) in &asked.words {
            let infos = infos(&Term::from_field_text(field, word), searcher)?;
            let found: u64 = infos.iter().flatten().map(|info| u64::from(info.doc_freq)).sum();
            if found > 0 {
                let bm25 = Bm25Weight::for_one_term_without_explain(found, passages, average);
                clauses.push(Clause::Term { field, bm25: bm25.boost_by(weight * own), infos });
            }
        }
        for phrase in &asked.phrases {
            let terms = phrase.iter().map(|(at, word)| (*at, Term::from_field_text(field, word))).collect();
            let query = PhraseQuery::new_with_offset(terms);
            let weighed = query.weight(EnableScoring::enabled_from_searcher(searcher))?;
            clauses.push(Clause::Phrase { weight: weighed, boost: weight });
        }
    }
    clauses.sort_by(|a, b| b.most().total_cmp(&a.most()));
    Ok(clauses)
}

fn infos(term: &Term, searcher: &Searcher) -> tantivy::Result<Vec<Option<TermInfo>>> {
    let segments = searcher.segment_readers().iter();
    segments.map(|segment| Ok(segment.inverted_index(term.field())?.get_term_info(term)?)).collect()
}
