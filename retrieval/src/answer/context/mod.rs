//! The context of an answer: from the passages that a search found to the excerpts that a language model reads, within a
//! budget of tokens.
//!
//! In this order: what does not speak of the question is left out, and of near duplicates all but the best; the rest is taken
//! by rank while it fits; sections of which two passages were found are completed where there is room; neighbours become one
//! excerpt; and the best stand first and last. Pure: whoever asks fetches the sections' other passages.

mod excerpt;
mod sections;
mod shingles;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use lmao_ports::Hit;
use uuid::Uuid;

pub(super) use self::{excerpt::Excerpt, sections::missing};
use self::{sections::Section, shingles::distinct};
use super::sides::Sides;

/// What excerpts may cost.
pub(super) struct Budget<'a> {
    /// Tokens of all excerpts as they are shown.
    pub(super) tokens: usize,
    /// Tokens of a text, as the model that reads it counts them.
    pub(super) count: &'a (dyn Fn(&str) -> usize + Sync),
}

impl Budget<'_> {
    fn of(&self, excerpts: &[Excerpt]) -> usize {
        (self.count)(&shown(excerpts))
    }
}

/// A passage in the context; `rank` is its place among those found, from 0, or that of its section.
#[derive(Debug, Clone)]
struct Taken {
    hit: Hit,
    rank: usize,
}

/// Excerpts, the best first and last.
///
/// `hits` are best first; `siblings` are those of [`missing`] that could be had; of a comparison each side has a passage if any
/// speaks of it.
pub(super) fn assemble(hits: &[Hit], siblings: &[Hit], sides: Option<&Sides>, budget: &Budget<'_>) -> Vec<Excerpt> {
    let ranked = distinct(hits.iter().filter(|hit| hit.relevant).cloned().collect());
    let ranked = match sides {
        Some(sides) => sides.first_of_each(ranked),
        None => ranked,
    };
    best_first_and_last(within(by_rank(&ranked, siblings, budget), budget))
}

/// Excerpts in the order of their documents, of passages that are all wanted: the first ones, where not all fit.
pub(super) fn in_order(passages: &[Hit], budget: &Budget<'_>) -> Vec<Excerpt> {
    within(by_rank(&distinct(passages.to_vec()), &[], budget), budget)
}

/// The text of all excerpts, numbered from 1.
pub(super) fn shown(excerpts: &[Excerpt]) -> String {
    (1..).zip(excerpts).map(|(n, excerpt)| excerpt.shown(n)).collect()
}

/// As many passages as fit, by rank, the first one cut if it must be; then the sections for which there is room.
fn by_rank(ranked: &[Hit], siblings: &[Hit], budget: &Budget<'_>) -> Vec<Taken> {
    let mut left = budget.tokens;
    let mut taken = vec![];
    for (rank, hit) in ranked.iter().enumerate() {
        let cost = cost(hit, budget);
        if cost <= left {
            left -= cost;
            taken.push(Taken { hit: hit.clone(), rank });
        } else if rank == 0 {
            taken.extend(cut(hit, budget).map(|hit| Taken { hit, rank }));
            return taken;
        }
    }
    for section in Section::all_of(ranked) {
        let known: BTreeSet<Uuid> = taken.iter().map(|taken| taken.hit.chunk_id).collect();
        let (there, more): (Vec<&Hit>, Vec<&Hit>) = ranked
            .iter()
            .chain(siblings)
            .filter(|hit| section.holds(hit))
            .partition(|hit| known.contains(&hit.chunk_id));
        let costs = |hits: &[&Hit]| hits.iter().map(|hit| cost(hit, budget)).sum::<usize>();
        let needed = costs(&more);
        if needed > 0 && needed <= left && needed + costs(&there) <= budget.tokens / 3 {
            left -= needed;
            taken.extend(more.into_iter().map(|hit| Taken { hit: hit.clone(), rank: section.rank }));
        }
    }
    taken
}

/// Excerpts of these passages, best first, without those of the last rank until all fit: a tokenizer may count a little
/// more across a seam than on both its sides.
fn within(mut taken: Vec<Taken>, budget: &Budget<'_>) -> Vec<Excerpt> {
    loop {
        let excerpts = merged(taken.clone());
        if excerpts.is_empty() || budget.of(&excerpts) <= budget.tokens {
            return excerpts;
        }
        let last = taken.iter().map(|taken| taken.rank).max().unwrap_or_default();
        taken.retain(|taken| taken.rank < last);
    }
}

/// Neighbours in one excerpt each, best first.
fn merged(mut taken: Vec<Taken>) -> Vec<Excerpt> {
    taken.sort_by_key(|taken| (taken.hit.document_id, taken.hit.ordinal, taken.rank));
    let mut excerpts: Vec<Excerpt> = vec![];
    for Taken { hit, rank } in taken {
        let apart = match excerpts.last_mut() {
            Some(last) => last.append(hit, rank),
            None => Some(hit),
        };
        excerpts.extend(apart.map(|hit| Excerpt::new(hit, rank)));
    }
    excerpts.sort_by_key(Excerpt::rank);
    excerpts
}

/// What a passage costs in an excerpt of its own.
fn cost(hit: &Hit, budget: &Budget<'_>) -> usize {
    budget.of(&[Excerpt::new(hit.clone(), 0)])
}

/// The beginning of a passage that is too long by itself; `None` where not even that fits.
fn cut(hit: &Hit, budget: &Budget<'_>) -> Option<Hit> {
    let beginning = |bytes: usize| {
        let mut hit = hit.clone();
        hit.content.truncate(hit.content.floor_char_boundary(bytes));
        hit.end = hit.start + hit.content.len() as u64;
        hit
    };
    let (mut fits, mut too_long) = (0, hit.content.len());
    while fits + 1 < too_long {
        let half = usize::midpoint(fits, too_long);
        if cost(&beginning(half), budget) <= budget.tokens { fits = half } else { too_long = half }
    }
    let cut = beginning(fits);
    (!cut.content.trim().is_empty()).then_some(cut)
}

/// Of excerpts that are best first: the best stand at both ends, the others in the middle, where models overlook most (Liu et
/// al., "Lost in the Middle", TACL 2024).
fn best_first_and_last(ranked: Vec<Excerpt>) -> Vec<Excerpt> {
    let (front, mut back): (Vec<_>, Vec<_>) = ranked.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    back.reverse();
    front.into_iter().chain(back).map(|(_, excerpt)| excerpt).collect()
}
