//! Selecting: which sentences of the passages answer best, few and not twice the same.

use std::{collections::BTreeSet, ops::Range};

use lmao_ports::Hit;

use super::{
    readable::{Form, is_whole},
    relevance::{Nearness, is_to_the_point, likeness},
    sentence::{Kind, pieces, with_lists},
    sides::Sides,
};
use crate::search::{
    query::{MAX_QUERY_BYTES, is_literal},
    relevance::WORDS_ALONE,
    terms::{Rarity, coverage, terms},
};

/// Passages that are read; those behind them seldom have the answer.
const MAX_PASSAGES: usize = 20;
/// Candidates whose meaning is compared with the question, best by words first: this bounds what an answer costs.
const MAX_COMPARED: usize = 24;
/// Quotes in an answer.
const MAX_QUOTES: usize = 5;
/// Bytes of all quotes together; a single longer one is still quoted.
const MAX_QUOTED: usize = 900;
/// Quotes of code among them.
const MAX_SNIPPETS: usize = 2;
/// What a sentence is worth for its neighbour's words: the answer often stands beside the words of the question.
const BESIDE: f32 = 0.5;
/// What share of the best one's score a quote must have.
const WORTH: f32 = 0.55;
/// What a quote is worth that is no whole sentence, or was said under a heading or an announcement that is not quoted.
const LOOSE: f32 = 0.8;
/// What a quote is worth that reads as no text: less than [`WORTH`], so that it has to say more than the best one.
const ROUGH: f32 = 0.5;
/// What a snippet of code is worth.
const SNIPPET: f32 = 0.6;
/// From which likeness on two quotes say the same.
const SAME: f32 = 0.7;
/// The margin over the noise at which a sentence is as near to a question as sentences come.
const NEAR: f32 = 0.5;

/// A piece of a passage that may be quoted.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// Index of its passage.
    pub(super) hit: usize,
    /// What it is.
    pub(super) kind: Kind,
    /// Where it stands in the passage's content.
    pub(super) range: Range<usize>,
    form: Form,
    terms: BTreeSet<String>,
    /// The rarity-weighted share of the question's words that it has.
    own: f32,
    /// The same, the words of the one beside it counted in part.
    words: f32,
    score: f32,
}

/// The question and the passages' pieces, weighed by their words.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    hits: &'a [Hit],
    wanted: BTreeSet<String>,
    /// What is compared: the answer speaks of both, if any passage does.
    sides: Option<Sides>,
    candidates: Vec<Candidate>,
}

impl<'a> Selection<'a> {
    /// Weighs every piece: the share of the question's words that it or its neighbour has, the rarer the more, its passage's
    /// score, and what its passage's headings and file name say.
    pub(super) fn new(query: &str, hits: &'a [Hit], sides: Option<Sides>) -> Self {
        let hits = &hits[..hits.len().min(MAX_PASSAGES)];
        // As much of it as was searched for.
        let query = &query[..query.floor_char_boundary(MAX_QUERY_BYTES)];
        // That something is compared is said by the question alone.
        let wanted = sides.as_ref().map_or_else(|| terms(query), Sides::words);
        let literal = is_literal(query);
        let of_hit = |(n, hit)| candidates(n, hit, literal);
        let mut candidates: Vec<Candidate> = hits.iter().enumerate().flat_map(of_hit).collect();
        weigh_words(&wanted, &mut candidates);
        lend_to_neighbours(&mut candidates);
        let context: Vec<f32> = hits.iter().map(|hit| coverage(&wanted, &terms(&headings(hit)))).collect();
        for candidate in &mut candidates {
            let hit = candidate.hit;
            if candidate.kind == Kind::Row || candidate.form == Form::Note {
                candidate.own = candidate.own.max(BESIDE * context[hit]);
                candidate.words = candidate.words.max(candidate.own);
            }
            candidate.score = 0.5 * candidate.words + 0.3 * hits[hit].score + 0.2 * context[hit];
            candidate.score *= candidate.legibility(&hits[hit].content);
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        Self { hits, wanted, sides, candidates }
    }

    /// The texts whose meaning is worth comparing with the question, best first.
    pub(super) fn to_compare(&self) -> Vec<String> {
        let compared = self.candidates.iter().take(MAX_COMPARED);
        let text = |candidate: &Candidate| {
            let hit = &self.hits[candidate.hit];
            let quote = candidate.quote(&hit.content);
            // What a row, an item or a note is about, its heading says; a sentence has to say so itself.
            let heading = hit
                .section
                .as_deref()
                .filter(|_| candidate.is_listed())
                .and_then(|section| section.rsplit(" > ").next());
            heading.map_or_else(|| quote.to_owned(), |heading| format!("{heading}\n{quote}"))
        };
        compared.map(text).collect()
    }

    /// The pieces to quote, in the order of documents by their best one, and within a document as they stand in it; none
    /// when none is to the point. `nearness` is that of [`Selection::to_compare`].
    pub(super) fn pick(mut self, nearness: Option<&Nearness>) -> Vec<Candidate> {
        let relevant: Vec<bool> = self.hits.iter().map(|hit| self.speaks(hit, nearness)).collect();
        if nearness.is_some() {
            self.candidates.truncate(MAX_COMPARED);
        }
        let candidates = std::mem::take(&mut self.candidates).into_iter().enumerate();
        self.candidates = candidates
            .filter_map(|(n, mut candidate)| {
                let margin = nearness.map(|nearness| nearness.margin(n));
                // A good passage does not vouch for what stands around its text.
                let vouched = candidate.form != Form::Frame && relevant[candidate.hit];
                let to_the_point = is_to_the_point(margin, candidate.own, vouched);
                if let Some(margin) = margin {
                    let near =
                        (margin / NEAR).clamp(0.0, 1.0) * candidate.legibility(&self.hits[candidate.hit].content);
                    candidate.score = f32::midpoint(candidate.score, near);
                }
                to_the_point.then_some(candidate)
            })
            .collect();
        // What stands around text may be all that there is.
        if self.candidates.iter().any(|candidate| candidate.form != Form::Frame) {
            self.candidates.retain(|candidate| candidate.form != Form::Frame);
        }
        self.candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.in_order(self.best())
    }

    /// Whether a passage speaks of the question, as far as the search sees it so. To it one part of a question is enough; where
    /// nothing is known of meaning, a part's few words are found anywhere, and the whole has to be judged.
    fn speaks(&self, hit: &Hit, nearness: Option<&Nearness>) -> bool {
        let found = || terms(&format!("{} {}", headings(hit), hit.content));
        hit.relevant && (nearness.is_some() || coverage(&self.wanted, &found()) >= WORDS_ALONE)
    }

    /// The best candidates that are not the same, not too many and not too long.
    fn best(&self) -> Vec<&Candidate> {
        let mut chosen = self.one_of_each_side();
        let mut quoted = chosen.iter().map(|candidate| candidate.range.len()).sum::<usize>();
        for candidate in &self.candidates {
            let worth = self.candidates.first().is_none_or(|best| candidate.score >= WORTH * best.score);
            if !worth || chosen.len() == MAX_QUOTES {
                break;
            }
            let snippets = chosen.iter().filter(|other| other.kind == Kind::Code).count();
            let fits = chosen.is_empty() || quoted + candidate.range.len() <= MAX_QUOTED;
            let same = |other: &Candidate| {
                (other.hit, &other.range) == (candidate.hit, &candidate.range)
                    || likeness(&other.terms, &candidate.terms) >= SAME
            };
            let repeats = chosen.iter().any(|other| same(other));
            if fits && !repeats && (candidate.kind != Kind::Code || snippets < MAX_SNIPPETS) {
                quoted += candidate.range.len();
                chosen.push(candidate);
            }
        }
        chosen
    }

    /// The best candidate for each side of a comparison.
    fn one_of_each_side(&self) -> Vec<&Candidate> {
        let Some(sides) = &self.sides else { return vec![] };
        let spoken =
            |candidate: &Candidate| sides.spoken_of(&(&candidate.terms | &terms(&headings(&self.hits[candidate.hit]))));
        let mut chosen: Vec<&Candidate> = vec![];
        for side in 0..2 {
            if !chosen.iter().any(|candidate| spoken(candidate)[side]) {
                chosen.extend(self.candidates.iter().find(|candidate| spoken(candidate)[side]));
            }
        }
        chosen
    }

    fn in_order(&self, chosen: Vec<&Candidate>) -> Vec<Candidate> {
        let document = |candidate: &Candidate| self.hits[candidate.hit].document_id;
        let mut documents = vec![];
        for candidate in &chosen {
            if !documents.contains(&document(candidate)) {
                documents.push(document(candidate));
            }
        }
        let mut chosen: Vec<Candidate> = chosen.into_iter().cloned().collect();
        chosen.sort_by_key(|candidate| {
            let place = self.hits[candidate.hit].start + candidate.range.start as u64;
            (documents.iter().position(|known| *known == document(candidate)), place)
        });
        self.joined(chosen)
    }

    /// Sentences that follow one another in a passage become one quote.
    fn joined(&self, ordered: Vec<Candidate>) -> Vec<Candidate> {
        let mut joined: Vec<Candidate> = vec![];
        for candidate in ordered {
            match joined.last_mut() {
                Some(last)
                    if last.hit == candidate.hit
                        && (last.kind, candidate.kind) == (Kind::Sentence, Kind::Sentence)
                        && self.hits[last.hit].content.get(last.range.end..candidate.range.start).is_some_and(
                            |between| between.chars().all(|c| c == ' ') || between == "\n" || between == "\r\n",
                        ) =>
                {
                    last.range.end = candidate.range.end;
                }
                _ => joined.push(candidate),
            }
        }
        joined
    }
}

/// The pieces of a passage. A snippet under a heading shows what the text there says: that goes before it, unless the
/// question names code.
fn candidates(n: usize, hit: &Hit, literal: bool) -> impl Iterator<Item = Candidate> {
    let section = hit.section.as_deref().unwrap_or_default();
    let shows = move |kind| kind == Kind::Code && hit.section.is_some() && !literal;
    with_lists(pieces(&hit.content, &hit.chunk_type, section), &hit.content).into_iter().map(move |piece| Candidate {
        hit: n,
        kind: piece.kind,
        form: if shows(piece.kind) { Form::Frame } else { Form::of(&piece, &hit.content) },
        terms: terms(&hit.content[piece.range.clone()]),
        range: piece.range,
        own: 0.0,
        words: 0.0,
        score: 0.0,
    })
}

impl Candidate {
    fn quote<'a>(&self, content: &'a str) -> &'a str {
        &content[self.range.clone()]
    }

    /// Whether it is one of several under a heading that says what they are.
    fn is_listed(&self) -> bool {
        matches!(self.kind, Kind::Row | Kind::Item) || self.form == Form::Note
    }

    /// What a quote is worth for how well it reads: a snippet shows what the text around it says.
    fn legibility(&self, content: &str) -> f32 {
        match self.kind {
            _ if self.form != Form::Text => ROUGH,
            Kind::Sentence if is_whole(self.quote(content)) => 1.0,
            Kind::List => 1.0,
            Kind::Sentence | Kind::Item | Kind::Row => LOOSE,
            Kind::Code => SNIPPET,
        }
    }
}

/// Gives every candidate the share of the question's words that it has, each word by how rare it is among the candidates
/// (the idf of BM25): what all of them say tells none apart.
fn weigh_words(wanted: &BTreeSet<String>, candidates: &mut [Candidate]) {
    let having = |term: &str| candidates.iter().filter(|candidate| candidate.terms.contains(term)).count();
    let rarity = Rarity::new(wanted, candidates.len(), having);
    for candidate in candidates {
        candidate.own = rarity.share(&candidate.terms);
        candidate.words = candidate.own;
    }
}

/// Counts part of a sentence's words for the sentences beside it.
fn lend_to_neighbours(candidates: &mut [Candidate]) {
    for at in 1..candidates.len() {
        let (before, here) = (&candidates[at - 1], &candidates[at]);
        if before.hit == here.hit && before.kind.flows() && here.kind.flows() {
            let (lent, borrowed) = (BESIDE * here.own, BESIDE * before.own);
            candidates[at - 1].words = candidates[at - 1].words.max(lent);
            candidates[at].words = candidates[at].words.max(borrowed);
        }
    }
}

fn headings(hit: &Hit) -> String {
    format!("{} {}", hit.section.as_deref().unwrap_or_default(), hit.filename)
}
