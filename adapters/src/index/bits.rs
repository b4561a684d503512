//! Sets of small numbers, one bit each: the passages that a filter allows, and where they lie in the keyword index.

use std::ops::Range;

const WORD: usize = u64::BITS as usize;

/// A set of numbers below a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// None of the numbers below `limit`.
    pub(super) fn none(limit: usize) -> Self {
        Self(vec![0; limit.div_ceil(WORD)])
    }

    /// Whether it holds a number. None at or above the limit.
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / WORD).is_some_and(|word| word >> (number % WORD) & 1 == 1)
    }

    /// The 64 numbers from `from` on, the lowest bit first; none at or above the limit.
    pub(super) fn at(&self, from: usize) -> u64 {
        let word = |n: usize| self.0.get(n).copied().unwrap_or_default();
        let (n, shift) = (from / WORD, from % WORD);
        if shift == 0 { word(n) } else { word(n) >> shift | word(n + 1) << (WORD - shift) }
    }

    /// Adds those of the numbers of a range that `which` says, which gets up to 64 of them and answers with a bit for each,
    /// the lowest first.
    pub(super) fn add(&mut self, range: Range<usize>, mut which: impl FnMut(Range<usize>) -> u64) {
        let mut from = range.start;
        while from < range.end {
            let to = range.end.min((from / WORD + 1) * WORD);
            if let Some(word) = self.0.get_mut(from / WORD) {
                *word |= (which(from..to) & lowest(to - from)) << (from % WORD);
            }
            from = to;
        }
    }

    /// How many of a range it holds.
    pub(super) fn count(&self, range: Range<usize>) -> usize {
        let pieces = range.clone().step_by(WORD);
        pieces.map(|from| (self.at(from) & lowest(range.end - from)).count_ones() as usize).sum()
    }

    /// Those of a range, in order.
    pub(super) fn within(&self, range: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let end = range.end;
        range.step_by(WORD).flat_map(move |from| each(self.at(from) & lowest(end - from)).map(move |bit| from + bit))
    }
}

/// The places of the bits that are set, the lowest first.
pub(super) fn each(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (place < WORD).then_some(place)
    })
}

/// As many bits, or all 64.
fn lowest(bits: usize) -> u64 {
    if bits < WORD { (1 << bits) - 1 } else { u64::MAX }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_the_set_that_it_stands_for(
            limit in 0_usize..300,
            ranges in prop::collection::vec((0_usize..320, 0_usize..150, 1_usize..5), 0..6),
            asked in (0_usize..320, 0_usize..320),
        ) {
            let (mut bits, mut set) = (Bits::none(limit), BTreeSet::new());
            // Whole words, which may reach beyond the limit, are never asked for what lies there.
            for (from, length, every) in ranges {
                let range = from.min(limit)..(from + length).min(limit);
                let is = |n: usize| n.is_multiple_of(every);
                bits.add(range.clone(), |of| (0..).zip(of).fold(0, |all, (bit, n)| all | u64::from(is(n)) << bit));
                set.extend(range.filter(|n| is(*n)));
            }
            let asked = asked.0.min(asked.1)..asked.0.max(asked.1);
            prop_assert_eq!(bits.within(asked.clone()).collect::<Vec<_>>(), set.range(asked.clone()).copied().collect::<Vec<_>>());
            prop_assert_eq!(bits.count(asked.clone()), set.range(asked).count());
            for n in 0..330 {
                prop_assert_eq!(bits.contains(n), set.contains(&n));
                prop_assert_eq!(bits.at(n) & 1 == 1, set.contains(&n));
            }
        }
    }
}
