use expect_test::{Expect, expect};
use lmao_ports::{ParentChunk, estimated_tokens};
use proptest::prelude::*;

use super::*;
use crate::search::fakes::hit;

/// Of a document that is this text, passage `ordinal` at this place.
fn part(document: u128, text: &str, ordinal: u32, start: usize, end: usize) -> Hit {
    let place = (start as u64, end as u64);
    Hit { start: place.0, end: place.1, ..hit(document, ordinal, "", "prose", &text[start..end]) }
}

fn texts(excerpts: &[Excerpt]) -> Vec<String> {
    excerpts.iter().map(Excerpt::text).collect()
}

fn budget(tokens: usize) -> Budget<'static> {
    Budget { tokens, count: &estimated_tokens }
}

fn check(hits: &[Hit], siblings: &[Hit], tokens: usize, expected: &Expect) {
    let shown: Vec<String> = assemble(hits, siblings, None, &budget(tokens))
        .iter()
        .map(|excerpt| {
            let ordinals: Vec<u32> = excerpt.passages().iter().map(|hit| hit.ordinal).collect();
            format!("{} {ordinals:?}\n", excerpt.passages()[0].filename)
        })
        .collect();
    expected.assert_eq(&shown.concat());
}

/// A passage of about 40 tokens, in a section of eight.
fn of_section(document: u128, ordinal: u32) -> Hit {
    let parent = ParentChunk { chunk_id: Uuid::from_u128(document), first: 0, last: 7 };
    let words: Vec<String> = (0..10).map(|n| format!("w{document}x{ordinal}x{n}")).collect();
    Hit { parent: Some(parent), ..hit(document, ordinal, "", "prose", &words.join(" ")) }
}

#[test]
fn neighbours_join_and_the_best_stand_at_both_ends() {
    let hits = [hit(1, 4, "", "prose", "a"), hit(2, 0, "", "prose", "b"), hit(1, 5, "", "prose", "c")];
    let more = [hit(3, 0, "", "prose", "d"), hit(1, 7, "", "prose", "e"), hit(4, 0, "", "prose", "f")];
    check(
        &[hits, more].concat(),
        &[],
        1000,
        &expect![[r"
        file1.md [4, 5]
        file3.md [0]
        file4.md [0]
        file1.md [7]
        file2.md [0]
    "]],
    );
}

#[test]
fn weak_passages_and_near_duplicates_are_left_out() {
    let weak = Hit { relevant: false, ..hit(2, 0, "", "prose", "weak") };
    let hits = [weak, hit(1, 0, "", "prose", "the same words twice"), hit(3, 0, "", "prose", "The same words, twice!")];
    check(
        &hits,
        &[],
        1000,
        &expect![[r"
        file1.md [0]
    "]],
    );
}

#[test]
fn a_section_of_which_two_were_found_is_read_whole_where_it_fits() {
    let found = [of_section(1, 2), of_section(2, 1), of_section(1, 6)];
    assert_eq!(missing(&found).len(), 6);
    let mut siblings: Vec<Hit> = [0, 1, 3, 4, 5, 7].map(|n| of_section(1, n)).to_vec();
    // A section within the section is a part of it.
    siblings[5].parent = Some(ParentChunk { chunk_id: Uuid::from_u128(77), first: 6, last: 7 });
    check(
        &found,
        &siblings,
        3000,
        &expect![[r"
        file1.md [0, 1, 2, 3, 4, 5, 6, 7]
        file2.md [1]
    "]],
    );
    // More than a third of what there is.
    check(
        &found,
        &siblings,
        1000,
        &expect![[r"
        file1.md [2]
        file1.md [6]
        file2.md [1]
    "]],
    );
    check(
        &found,
        &[],
        3000,
        &expect![[r"
        file1.md [2]
        file1.md [6]
        file2.md [1]
    "]],
    );
}

#[test]
fn sections_that_are_too_long_or_make_no_sense_are_not_read() {
    let with = |first, last| {
        let parent = Some(ParentChunk { chunk_id: Uuid::from_u128(1), first, last });
        [0, 1].map(|n| Hit { parent, ..hit(1, n, "", "prose", "x") })
    };
    for (first, last) in [(0, 32), (5, 2), (0, u32::MAX), (u32::MAX, 0)] {
        assert!(missing(&with(first, last)).is_empty(), "{first} {last}");
    }
    assert_eq!(missing(&with(0, 31)).len(), 30);
    let many: Vec<Hit> = (1..20).flat_map(|document| [of_section(document, 0), of_section(document, 1)]).collect();
    assert_eq!(missing(&many).len(), 4 * 6);
}

#[test]
fn what_two_passages_share_is_read_once() {
    let text = "One two. Three four. Five six.\n\nSeven eight.";
    let parts = [part(1, text, 0, 0, 20), part(1, text, 1, 9, 30), part(1, text, 2, 32, 44)];
    assert_eq!(texts(&assemble(&parts, &[], None, &budget(1000))), [text]);
    // Ranges that do not fit the texts: twice rather than not at all.
    let odd = [part(1, text, 0, 0, 20), Hit { start: 2, end: 14, ..part(1, text, 1, 32, 44) }];
    assert_eq!(texts(&assemble(&odd, &[], None, &budget(1000))), ["One two. Three four.Seven eight."]);
}

#[test]
fn the_first_passage_is_cut_rather_than_left_out() {
    let long = hit(1, 0, "", "prose", &"word ".repeat(500));
    let excerpts = assemble(&[long.clone(), hit(2, 0, "", "prose", "b")], &[], None, &budget(200));
    let passage = &excerpts[0].passages()[0];
    assert_eq!((excerpts.len(), passage.end - passage.start), (1, passage.content.len() as u64));
    assert!(long.content.starts_with(&passage.content) && passage.content.len() > 300);
    assert!(assemble(&[long], &[], None, &budget(10)).is_empty(), "not even a source fits");
}

proptest! {
    #[test]
    fn a_budget_holds_whatever_is_found(
        found in prop::collection::vec((0_u128..4, 0_u32..12, "([a-z]{1,9}|é|1994|[.!<>]|</passage>|\\n| ){0,80}"), 0..14),
        (first, last) in (0_u32..6, 0_u32..12),
        tokens in 0_usize..900,
    ) {
        let parent = Some(ParentChunk { chunk_id: Uuid::from_u128(7), first, last });
        let hits: Vec<Hit> =
            found.iter().map(|(document, n, text)| Hit { parent, ..hit(*document, *n, "A > B", "prose", text) }).collect();
        let siblings: Vec<Hit> =
            missing(&hits).iter().map(|(document, n)| Hit { parent, ..hit(document.as_u128(), *n, "A", "prose", "more") }).collect();
        let excerpts = assemble(&hits, &siblings, None, &budget(tokens));
        prop_assert!(estimated_tokens(&shown(&excerpts)) <= tokens);
        prop_assert_eq!(shown(&excerpts).matches("</passage>").count(), excerpts.len());
        let passages: Vec<&Hit> = excerpts.iter().flat_map(Excerpt::passages).collect();
        let places: BTreeSet<_> = passages.iter().map(|hit| (hit.document_id, hit.ordinal)).collect();
        prop_assert_eq!(places.len(), passages.len(), "none twice");
        for passage in passages {
            let same = |hit: &&Hit| (hit.document_id, hit.ordinal) == (passage.document_id, passage.ordinal);
            prop_assert!(hits.iter().chain(&siblings).filter(same).any(|hit| hit.content.starts_with(&passage.content)));
        }
    }

    #[test]
    fn passages_in_a_row_read_as_the_text_that_they_are_of(
        text in "[a-z]([a-zé]{1,8} ?|\\n\\n){1,60}",
        cuts in prop::collection::btree_set(0_usize..300, 1..6),
        overlap in 0_usize..9,
    ) {
        let text = text.trim();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| text.floor_char_boundary(cut)).filter(|cut| *cut > 0).collect();
        cuts.push(text.len());
        cuts.dedup();
        let mut start = 0;
        let mut hits = vec![];
        for (n, end) in (0..).zip(cuts) {
            // As chunks are cut: without white space around them, the next one may repeat some of the last.
            let piece = &text[start..end];
            let from = start + piece.len() - piece.trim_start().len();
            let to = start + piece.trim_end().len();
            if from < to {
                hits.push(part(1, text, n, from, to));
            }
            start = text.floor_char_boundary(end.saturating_sub(overlap).max(from + 1)).max(from);
        }
        prop_assume!(hits.iter().zip(0..).all(|(hit, n)| hit.ordinal == n));
        let mut excerpt = Excerpt::new(hits[0].clone(), 0);
        for hit in &hits[1..] {
            prop_assert_eq!(excerpt.append(hit.clone(), 0), None);
        }
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        prop_assert_eq!(squeezed(&excerpt.text()), squeezed(text));
    }
}
