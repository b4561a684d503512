//! The level above passages: for each, the smallest section that holds another one too and is short enough to be read as a
//! whole; in longer sections, a run of what stands there directly.

use super::{Outline, Span};

/// Tokens of a parent at most: some pages, of which several fit into what a language model is given.
const MAX_TOKENS: usize = 1500;

/// Passages in a row, by ordinal, the last included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ingest) struct Run {
    pub(in crate::ingest) first: usize,
    pub(in crate::ingest) last: usize,
}

/// What a section holds, with what lies below it.
#[derive(Debug, Clone, Copy)]
struct Extent {
    run: Run,
    passages: usize,
    tokens: usize,
}

/// The parent of each passage, if there is one. Takes time in proportion to passages and depth.
pub(in crate::ingest) fn parents(spans: &[Span<'_>], outline: &Outline) -> Vec<Option<Run>> {
    // The document itself comes last.
    let whole = outline.len();
    let mut extents: Vec<Option<Extent>> = vec![None; whole + 1];
    for (at, span) in spans.iter().enumerate() {
        for section in sections(outline, span.section) {
            let new = Extent { run: Run { first: at, last: at }, passages: 0, tokens: 0 };
            let extent = extents[section].get_or_insert(new);
            extent.run.last = at;
            extent.passages += 1;
            extent.tokens += span.tokens;
        }
    }
    let mut found = vec![None; spans.len()];
    // Those whose section is too long, in a row, and that section.
    let mut open: Option<(usize, Run)> = None;
    for (at, span) in spans.iter().enumerate() {
        let home = sections(outline, span.section)
            .find_map(|section| Some((section, extents[section]?)).filter(|(_, extent)| extent.passages >= 2));
        let too_long = home.filter(|(_, extent)| extent.tokens > MAX_TOKENS).map(|(section, _)| section);
        match (&mut open, too_long) {
            (Some((section, run)), Some(other)) if *section == other => run.last = at,
            (_, Some(section)) => group(spans, open.replace((section, Run { first: at, last: at })), &mut found),
            (_, None) => {
                group(spans, open.take(), &mut found);
                found[at] = home.map(|(_, extent)| extent.run);
            }
        }
    }
    group(spans, open, &mut found);
    found
}

/// The sections that a passage of `section` lies in, innermost first, the document last.
fn sections(outline: &Outline, section: Option<u32>) -> impl Iterator<Item = usize> {
    std::iter::successors(section, |section| outline.parent(*section))
        .map(|section| section as usize)
        .chain(std::iter::once(outline.len()))
}

/// Parts a run of passages of a long section into parents of about equal length.
fn group(spans: &[Span<'_>], open: Option<(usize, Run)>, found: &mut [Option<Run>]) {
    let Some((_, run)) = open else { return };
    let tokens: usize = spans[run.first..=run.last].iter().map(|span| span.tokens).sum();
    // No passage is so long that three of them are too long for a parent.
    let groups = tokens.div_ceil(MAX_TOKENS);
    let each = (run.last - run.first + 1).div_ceil(groups.max(1));
    let mut first = run.first;
    let mut sum = 0;
    for at in run.first..=run.last {
        sum += spans[at].tokens;
        let next = spans.get(at + 1).filter(|_| at < run.last).map(|span| span.tokens);
        if next.is_some_and(|next| at - first + 1 < each && sum + next <= MAX_TOKENS) {
            continue;
        }
        if at > first {
            found[first..=at].fill(Some(Run { first, last: at }));
        }
        first = at + 1;
        sum = 0;
    }
}
