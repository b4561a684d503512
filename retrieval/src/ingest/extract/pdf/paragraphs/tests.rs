use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::ingest::extract::tests::outline;

fn line(y: f32, size: f32, text: &str) -> Line {
    let right = 50.0 + text.len() as f32 * size * 0.5;
    Line { cells: vec![text.into()], left: 50.0, right, y, size, mono: false, bold: false, grid: None }
}

fn page(number: u32, lines: Vec<Line>) -> Page {
    Page { number, height: 800.0, lines }
}

#[test]
fn pages_become_sections_and_paragraphs() {
    let header = |number: u32| line(780.0, 10.0, &format!("The manual {number}"));
    let mono = |y: f32, left: f32, text: &str| {
        let right = left + text.len() as f32 * 6.0;
        Line { left, right, mono: true, ..line(y, 10.0, text) }
    };
    let row = |y: f32, cells: [&str; 3]| Line { cells: cells.map(str::to_owned).to_vec(), ..line(y, 10.0, "") };
    let pages = vec![
        page(
            1,
            vec![
                header(1),
                line(700.0, 20.0, "A long"),
                line(676.0, 20.0, "title"),
                line(640.0, 10.0, "The first para-"),
                line(628.0, 10.0, "graph goes on and on, over the end of"),
            ],
        ),
        page(
            2,
            vec![
                header(2),
                line(700.0, 10.0, "the page it began on."),
                line(670.0, 10.0, "Another one with words and more words in it"),
                line(650.0, 10.0, "• an item that is"),
                line(638.0, 10.0, "long"),
                line(626.0, 10.0, "2. another"),
            ],
        ),
        page(
            3,
            vec![
                header(3),
                line(700.0, 14.0, "Code"),
                mono(680.0, 50.0, "fn x() {"),
                mono(668.0, 62.0, "y();"),
                row(640.0, ["a", "b", "c"]),
                row(628.0, ["1", "2", "3"]),
                line(600.0, 10.0, "Contents . . . . . . 12"),
            ],
        ),
    ];
    let written = write(pages, &[]);
    assert_eq!(written.title.as_deref(), Some("A long title"));
    expect![[r#"
        heading(1) "A long title" on 1
        paragraph "The first paragraph goes on and on, over the end of the page it began on." in A long title on 1
        paragraph "Another one with words and more words in it" in A long title on 2
        list "- an item that is long" in A long title on 2
        list "2. another" in A long title on 2
        heading(2) "Code" in A long title on 3
        code "fn x() {\n  y();" in A long title > Code on 3
        table "| a | b | c |\n| 1 | 2 | 3 |" in A long title > Code on 3
        paragraph "Contents … 12" in A long title > Code on 3
    "#]]
    .assert_eq(&outline(&written.builder.finish().unwrap()));
}

#[test]
fn a_block_knows_where_its_pages_begin() {
    let mono = |y: f32, text: &str| Line { mono: true, ..line(y, 10.0, text) };
    let pages = vec![
        page(
            4,
            vec![
                line(700.0, 10.0, "The end of this para-"),
                line(688.0, 10.0, "graph stands on  another page, to  which it"),
            ],
        ),
        page(5, vec![line(700.0, 10.0, "goes over. It ends here."), mono(640.0, "fn x() {"), mono(628.0, "  y();")]),
        page(7, vec![mono(700.0, "z();"), mono(688.0, "}"), line(600.0, 10.0, "Behind it, a sentence.")]),
    ];
    let document = write(pages, &[]).builder.finish().unwrap();
    let page_of = |words: &str| document.page_at(document.text.find(words).expect(words));
    let words = ["The end", "graph", "which", "goes over", "It ends", "fn x", "y();", "z();", "}", "Behind"];
    assert_eq!(words.map(page_of).map(Option::unwrap), [4, 4, 4, 5, 5, 5, 5, 7, 7, 7]);
}

#[test]
fn a_block_of_many_pages_knows_each_of_them() {
    let mono = |y: f32, text: &str| Line { mono: true, ..line(y, 10.0, text) };
    let pages = (1..=4000).map(|n| page(n, vec![mono(600.0, &format!("begin {n};")), mono(588.0, "  go on;")]));
    let document = write(pages.collect(), &[]).builder.finish().unwrap();
    assert!(document.blocks.len() < 4);
    for n in [1, 2, 1999, 4000] {
        let at = document.text.find(&format!("begin {n};")).unwrap();
        assert_eq!(document.page_at(at), Some(n));
    }
}

proptest! {
    #[test]
    fn a_tail_is_what_the_rest_has_once_it_is_clean(
        stretches in prop::collection::vec(("[a-zéﬁ]", "[a-zéﬁ \u{ad}.…-]{0,20}[a-z]", "[ \n]{0,2}"), 0..8),
    ) {
        let mut text = String::new();
        let mut turns = vec![];
        for (first, rest, gap) in stretches {
            turns.push((text.len(), 1));
            text += &(first + &rest + &gap);
        }
        let prose = |rest: &str| clean_prose(&without_leaders(rest)).len();
        let code = |rest: &str| clean_code(rest).trim_end().len();
        let each = |written: &dyn Fn(&str) -> usize| -> Vec<usize> {
            turns.iter().map(|(at, _)| written(&text[*at..])).collect()
        };
        prop_assert_eq!(tails(&text, &turns, prose), each(&prose));
        prop_assert_eq!(tails(&text, &turns, code), each(&code));
    }
}

#[test]
fn bookmarks_tell_headings_of_the_body_s_size() {
    let pages =
        vec![page(1, vec![line(700.0, 10.0, "1.2  Scope"), line(680.0, 10.0, "Text of the section, a sentence.")])];
    let bookmarks = [Bookmark { title: "1.2 Scope".into(), level: 2, page: 1 }];
    let document = write(pages, &bookmarks).builder.finish().unwrap();
    assert_eq!(
        outline(&document),
        "heading(2) \"1.2 Scope\" on 1\nparagraph \"Text of the section, a sentence.\" in 1.2 Scope on 1\n"
    );
}
