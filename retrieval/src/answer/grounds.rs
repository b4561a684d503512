//! Grounds: the excerpts that an answer may cite, and the words in them that each citation rests on.
//!
//! Words that the answer puts in quotation marks have to stand in the passage that it names for them. Where they stand in
//! another one, the citation is that one's; where they stand in none, it is left out.

use std::{collections::BTreeSet, ops::Range};

use lmao_events::Citation;
use lmao_ports::Hit;
use unicode_segmentation::UnicodeSegmentation;

use super::{
    cite,
    context::Excerpt,
    markers::{Judge, Markers, Verdict},
    quotation::{find, quotations, words},
    relevance::likeness,
    sentence::pieces,
};
use crate::search::terms::{coverage, terms};

/// The share of a claim's words that a passage beside the one that is quoted must have.
const BESIDE: f32 = 0.5;

/// What an answer may rest on.
#[derive(Debug)]
pub(super) struct Grounds {
    excerpts: Vec<Excerpt>,
    /// What was asked: to repeat it is not to quote a passage.
    asked: String,
}

impl Grounds {
    /// These excerpts, numbered from 1, for this question.
    pub(super) fn new(excerpts: Vec<Excerpt>, asked: &str) -> Self {
        Self { excerpts, asked: asked.to_owned() }
    }

    /// How many excerpts there are.
    pub(super) const fn len(&self) -> usize {
        self.excerpts.len()
    }

    /// The citations of a text that these markers were rewritten in.
    pub(super) fn citations(&self, text: &str, markers: &Markers) -> Vec<Citation> {
        let cited = (1..).zip(markers.cited());
        cited
            .filter_map(|(n, excerpt)| {
                let before = paragraph(&text[..markers.first_use(*excerpt)?]);
                let (passage, range) = self.rests_on(before, self.excerpts.get(excerpt - 1)?)?;
                Some(cite(n, passage, range))
            })
            .collect()
    }

    /// The words of an excerpt that a claim rests on: those that it quotes, else the piece that is most like it.
    fn rests_on<'a>(&self, before: &str, excerpt: &'a Excerpt) -> Option<(&'a Hit, Range<usize>)> {
        let claim = claim(before);
        let quoted = self.quoted(before);
        quoted.iter().find_map(|quotation| found(quotation, excerpt)).or_else(|| likest(&before[claim], excerpt))
    }

    /// What the last claim of a paragraph quotes, the question aside.
    fn quoted<'a>(&self, paragraph: &'a str) -> Vec<&'a str> {
        let mut quoted = quotations(paragraph, claim(paragraph).start);
        if !quoted.is_empty() {
            let asked = words(&self.asked);
            quoted.retain(|quotation| find(quotation, &asked).is_none());
        }
        quoted
    }
}

impl Judge for Grounds {
    fn judge(&self, paragraph: &str, beside: &[usize], passage: usize) -> Verdict {
        let quoted = self.quoted(paragraph);
        let holds = |excerpt: &Excerpt| quoted.iter().any(|quotation| found(quotation, excerpt).is_some());
        let Some(excerpt) = self.excerpts.get(passage - 1).filter(|_| !quoted.is_empty()) else {
            return Verdict::Stands;
        };
        if holds(excerpt) {
            return Verdict::Stands;
        }
        match self.excerpts.iter().position(holds).map(|at| at + 1) {
            // What is quoted has its citation: this one is for the rest of the claim.
            Some(other) if beside.contains(&other) => {
                let claimed = terms(&paragraph[claim(paragraph)]);
                let said: BTreeSet<String> = quoted.iter().flat_map(|quotation| terms(quotation)).collect();
                let rest: BTreeSet<String> = claimed.difference(&said).cloned().collect();
                if coverage(&rest, &terms(&excerpt.text())) >= BESIDE { Verdict::Stands } else { Verdict::Unfounded }
            }
            Some(other) => Verdict::Belongs(other),
            None => Verdict::Unfounded,
        }
    }
}

/// Where the words of a quotation stand: word for word in one passage.
fn found<'a>(quotation: &str, excerpt: &'a Excerpt) -> Option<(&'a Hit, Range<usize>)> {
    excerpt.passages().iter().find_map(|hit| Some((hit, find(quotation, &words(&hit.content))?)))
}

/// The piece of an excerpt that is most like a claim; its first passage where it has no pieces.
fn likest<'a>(claim: &str, excerpt: &'a Excerpt) -> Option<(&'a Hit, Range<usize>)> {
    let claim = terms(claim);
    let scored = excerpt.passages().iter().flat_map(|hit| {
        let section = hit.section.as_deref().unwrap_or_default();
        pieces(&hit.content, &hit.chunk_type, section).into_iter().map(move |piece| (hit, piece))
    });
    // The first of equals: `max_by` would take the last.
    let best = scored
        .map(|(hit, piece)| {
            let found = terms(&hit.content[piece.range.clone()]);
            // A heading has the claim's words, and does not say what the claim says.
            let worth = if piece.heads { 0.5 } else { 1.0 };
            (worth * (coverage(&claim, &found) + likeness(&claim, &found)), hit, piece.range)
        })
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    match best {
        Some((_, hit, range)) => Some((hit, range)),
        None => excerpt.passages().first().map(|hit| (hit, 0..hit.content.len())),
    }
}

/// The paragraph that a text ends with.
fn paragraph(text: &str) -> &str {
    text.rsplit("\n\n").next().unwrap_or_default()
}

/// What a marker behind a paragraph closes: its last sentence, or what of it stands behind the markers before.
fn claim(paragraph: &str) -> Range<usize> {
    let says = |text: &str| without_markers(text).unicode_words().count() > 1;
    let sentence = paragraph.split_sentence_bound_indices().filter(|(_, sentence)| says(sentence)).last();
    let sentence = sentence.map_or(0..paragraph.len(), |(at, sentence)| at..at + sentence.trim_end().len());
    let unmarked = without_markers(&paragraph[sentence.clone()]);
    let behind = unmarked.rfind(']').map_or(0, |at| at + 1);
    let marked = without_markers(&unmarked[..behind]).len() < behind;
    let end = sentence.start + unmarked.len();
    let claim = sentence.start + behind..end;
    if marked && says(&paragraph[claim.clone()]) { claim } else { sentence.start..end }
}

/// A text without the markers that it ends with.
fn without_markers(text: &str) -> &str {
    let mut text = text.trim_end();
    while let Some((rest, n)) = text.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
        if n.is_empty() || !n.bytes().all(|byte| byte.is_ascii_digit()) {
            break;
        }
        text = rest.trim_end();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_closes_what_stands_before_it() {
        for (paragraph, closed) in [
            ("One thing. Another thing", "Another thing"),
            ("One thing is so [1], another is not", ", another is not"),
            ("One thing is so [1], another is not [2][3]", ", another is not"),
            ("One thing is so. [1] [2]", "One thing is so."),
            ("The index a[i] is odd", "The index a[i] is odd"),
            ("See it [1], too", "See it [1], too"),
            ("", ""),
        ] {
            assert_eq!(&paragraph[claim(paragraph)], closed, "{paragraph}");
        }
    }
}
