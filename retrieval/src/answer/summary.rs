//! Summarizing by quoting: how each part of a document begins, which is where most texts say what is to come.

use lmao_events::Citation;
use lmao_ports::Hit;

use super::{
    cite,
    readable::{Form, is_whole},
    render::line,
    sentence::{Kind, Piece, pieces},
};

/// Parts that are quoted at most.
const MAX_QUOTES: usize = 8;

/// The first sentence of each of these passages of one document, in the pieces in which it is shown; `None` where none of them
/// has any.
pub(super) fn summary(passages: &[Hit]) -> Option<(Vec<String>, Vec<Citation>)> {
    let quoted = passages.iter().filter_map(|hit| Some((hit, first_sentence(hit)?))).take(MAX_QUOTES);
    let mut parts = vec![format!("How the parts of {} begin:\n", name(passages.first()?))];
    let mut citations = vec![];
    for (hit, piece) in quoted {
        let citation = cite(citations.len() + 1, hit, piece.range);
        let title = hit.section.as_deref().and_then(|section| section.rsplit(" > ").next());
        let title = title.map(|title| format!("{}: ", line(title))).unwrap_or_default();
        parts.push(format!("\n- {title}{} [{}]", line(&citation.quote), citation.n));
        citations.push(citation);
    }
    (!citations.is_empty()).then_some((parts, citations))
}

/// The first whole sentence, else the first that reads as text.
fn first_sentence(hit: &Hit) -> Option<Piece> {
    let text = |piece: &Piece| piece.kind != Kind::Code && Form::of(piece, &hit.content) == Form::Text;
    let pieces = pieces(&hit.content, &hit.chunk_type, hit.section.as_deref().unwrap_or_default());
    let mut readable: Vec<Piece> = pieces.into_iter().filter(text).collect();
    let whole = readable.iter().position(|piece| is_whole(&hit.content[piece.range.clone()])).unwrap_or(0);
    (!readable.is_empty()).then(|| readable.swap_remove(whole))
}

fn name(hit: &Hit) -> String {
    line(&hit.filename)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::search::fakes::hit;

    #[test]
    fn each_part_is_quoted_by_its_first_sentence() {
        let passages = [
            hit(1, 0, "Guide > Kiln", "prose", "Kiln\n\nSee 3.\n\nThe kiln stands behind\nthe shed. It is hot."),
            hit(1, 1, "Guide > Code", "code", "let a = 1;\nlet b = 2;"),
            hit(1, 2, "Guide > Members [1]", "prose", "Members may borrow it on Fridays."),
        ];
        let (parts, citations) = summary(&passages).unwrap();
        expect![[r"
            How the parts of file1.md begin:

            - Kiln: The kiln stands behind the shed. [1]
            - Members \[1]: Members may borrow it on Fridays. [2]"]]
        .assert_eq(&parts.concat());
        assert_eq!(citations[0].quote, "The kiln stands behind\nthe shed.");
        assert_eq!((citations[1].start, citations[1].end), (2000, 2033));
        assert_eq!(summary(&passages[1..2]), None);
        assert_eq!(summary(&[]), None);
    }
}
