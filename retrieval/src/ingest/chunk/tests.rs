use async_trait::async_trait;
use lmao_ports::{EmbedError, Embedder, ModelManifest, Pooling, TokenSpan};
use proptest::prelude::*;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::*;
use crate::text::Builder;

/// Splits at white space, then into pieces of four bytes or so: like a subword vocabulary, and quick. Counts the bytes
/// that it was asked about.
#[derive(Debug)]
pub(super) struct Pieces {
    manifest: ModelManifest,
    read: AtomicUsize,
}

pub(super) fn pieces(max_tokens: usize) -> Arc<Pieces> {
    let manifest = ModelManifest {
        id: "pieces".into(),
        dimensions: 2,
        pooling: Pooling::Mean,
        normalize: true,
        max_tokens,
        query_prefix: String::new(),
        passage_prefix: String::new(),
    };
    Arc::new(Pieces { manifest, read: AtomicUsize::new(0) })
}

#[async_trait]
impl Embedder for Pieces {
    fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    async fn passages(&self, _: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        unreachable!("cutting embeds nothing")
    }

    async fn query(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
        unreachable!("cutting embeds nothing")
    }

    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        self.read.fetch_add(text.len(), Relaxed);
        let mut out: Vec<TokenSpan> = vec![];
        let mut open = false;
        for (at, c) in text.char_indices() {
            let end = at + c.len_utf8();
            match out.last_mut() {
                _ if c.is_whitespace() => open = false,
                Some(last) if open && end - last.start <= 4 => last.end = end,
                _ => {
                    out.push(TokenSpan { start: at, end });
                    open = true;
                }
            }
        }
        out
    }
}

fn passages<'a>(document: &'a TextDocument, spans: &[Span<'_>]) -> Vec<&'a str> {
    spans.iter().map(|span| &document.text[span.start..span.end]).collect()
}

/// Everything that must hold of any cut of any document.
fn check(document: &TextDocument, passages: &Passages<'_>, model: &Pieces, max: usize) {
    let Passages { spans, outline } = passages;
    let mut covered = 0;
    for span in spans {
        let content = document.text.get(span.start..span.end).expect("on character boundaries");
        assert!(!content.trim().is_empty());
        let tokens = model.tokens(content).len();
        assert!(tokens <= max, "{tokens} tokens, {max} allowed: {content:?}");
        assert!(span.start >= covered || model.tokens(&document.text[span.start..covered]).len() <= OVERLAP);
        if span.start > covered {
            assert_eq!(document.text[covered..span.start].trim(), "", "text between passages is lost");
        }
        assert!(span.end > covered, "a passage adds nothing");
        covered = span.end;
        let turns = document.turns_within(span.start..span.end);
        for block in document.blocks.iter().filter(|block| (span.start..span.end).contains(&block.start)) {
            let turn = turns.iter().take_while(|turn| span.start + turn.at as usize <= block.start).last();
            assert_eq!(turn.map(|turn| turn.page).or(document.page_at(span.start)), block.page);
        }
    }
    assert_eq!(document.text[covered..].trim(), "", "the end is lost");
    check_parents(passages);
    for block in &document.blocks {
        let inside = spans.iter().filter(|span| span.start < block.end && block.start < span.end);
        for span in inside {
            assert!(outline.lies_in(block.section, span.section) || outline.lies_in(span.section, block.section));
        }
    }
}

/// Parents hold their passage and another one, are not too long, and their members lie in one section.
fn check_parents(passages: &Passages<'_>) {
    let Passages { spans, outline } = passages;
    let parents = parents(spans, outline);
    assert_eq!(parents.len(), spans.len());
    for (at, run) in parents.iter().enumerate() {
        let Some(run) = run else { continue };
        assert!(run.first <= at && at <= run.last && run.first < run.last && run.last < spans.len());
        let members = &spans[run.first..=run.last];
        let common = std::iter::successors(spans[at].section.map(Some), |section| section.map(|at| outline.parent(at)))
            .chain([None])
            .find(|section| members.iter().all(|span| outline.lies_in(span.section, *section)));
        assert!(common.is_some());
        assert!(members.iter().map(|span| span.tokens).sum::<usize>() <= 1500, "{run:?}");
        // A nearer section that holds two would have been taken.
        let alone = |other: usize| !outline.lies_in(spans[other].section, spans[at].section);
        let nearer = spans[at].section.is_some_and(|_| (run.first..=run.last).any(alone));
        let own: Vec<_> = (0..spans.len()).filter(|other| !alone(*other)).collect();
        assert!(!nearer || own.len() < 2 || own.iter().map(|at| spans[*at].tokens).sum::<usize>() > 1500, "{run:?}");
    }
}

/// Cuts a document whose programs are parsed here, which only texts that no parser dies of allow.
pub(super) fn cut<'a>(
    document: &'a TextDocument,
    sizer: &Sizer,
    nature: Nature<'a>,
    limit: usize,
) -> Option<Passages<'a>> {
    let parsed = |program: Program| Some((program.start, parse(&program.text, &program.language)?));
    let syntaxes = programs(document, nature).into_iter().filter_map(parsed).collect();
    super::cut(document, sizer, nature, &syntaxes, limit)
}

fn cut_by(document: &TextDocument, max: usize) -> (Passages<'_>, Arc<Pieces>) {
    let model = pieces(512);
    let sizer = Sizer::new(Some(Reader { model: Arc::clone(&model) as _, reads: max }), None, 0);
    (cut(document, &sizer, Nature::default(), 1_000_000).unwrap(), model)
}

#[derive(Debug, Clone)]
enum Part {
    Heading(u8, String),
    Paragraph(String),
    Item(String),
    Code(String),
    Table(Vec<String>),
    Page,
}

fn part() -> impl Strategy<Value = Part> {
    let words = |most: usize| prop::collection::vec("[a-zé日]{1,12}[.!?]?", 1..most).prop_map(|words| words.join(" "));
    prop_oneof![
        (1_u8..5, words(8)).prop_map(|(level, text)| Part::Heading(level, text)),
        words(40).prop_map(Part::Paragraph),
        words(900).prop_map(Part::Paragraph),
        "[a-z日]{1,4000}".prop_map(Part::Paragraph),
        words(20).prop_map(Part::Item),
        prop::collection::vec("( {0,8}[a-z]{1,30}[{}();]?)?", 1..200).prop_map(|lines| Part::Code(lines.join("\n"))),
        prop::collection::vec(words(5), 1..80).prop_map(Part::Table),
        Just(Part::Page),
    ]
}

fn build(parts: &[Part]) -> TextDocument {
    let mut builder = Builder::new();
    let mut page = 1;
    builder.page(page);
    for part in parts {
        match part {
            Part::Heading(level, text) => builder.heading(*level, text),
            Part::Paragraph(text) => builder.paragraph(text),
            Part::Item(text) => builder.item(1, "-", text),
            Part::Code(text) => builder.code(text),
            Part::Table(rows) => {
                builder.table(&rows.iter().map(|row| vec![row.clone(), "x".into()]).collect::<Vec<_>>());
            }
            Part::Page => {
                page += 1;
                builder.page(page);
            }
        }
    }
    builder.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_document_is_covered_in_order_by_passages_that_fit(
        parts in prop::collection::vec(part(), 0..14), max in prop_oneof![Just(400_usize), 16_usize..300]
    ) {
        let document = build(&parts);
        let (found, model) = cut_by(&document, max);
        check(&document, &found, &model, Budget::for_model(max).max);
        let again = cut_by(&document, max).0;
        prop_assert_eq!((again.spans, again.outline), (found.spans, found.outline));
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_change_leaves_nearly_all_other_passages_as_they_are(
        lengths in prop::collection::vec(1_usize..120, 700..900),
        wording in 0_u64..u64::MAX,
        at in 0_usize..700,
        form in 0_usize..4,
        change in prop_oneof![Just(0_usize), Just(200), 1_usize..100],
    ) {
        // Of even and uneven lengths: paragraphs, items, rows of a table, sentences of a paragraph.
        let lengths: Vec<usize> = if form == 0 { vec![40; lengths.len()] } else { lengths.iter().map(|n| n / [1, 1, 2, 2][form] + 2).collect() };
        let texts: Vec<String> = (0..).zip(&lengths).map(|(n, length)| words(wording + n, *length)).collect();
        let mut changed = texts.clone();
        changed[at] = words(wording + 7777, change);
        let build = |texts: &[String]| {
            let mut builder = Builder::new();
            match form {
                0 | 1 => texts.iter().for_each(|text| builder.paragraph(text)),
                2 => builder.table(&texts.iter().map(|text| vec![text.clone(), "x".into()]).collect::<Vec<_>>()),
                _ => builder.paragraph(&texts.iter().map(|text| format!("So {text}. ")).collect::<String>()),
            }
            builder.finish().unwrap()
        };
        let (before, after) = (build(&texts), build(&changed));
        let (found, _) = cut_by(&before, 400);
        let old: std::collections::HashSet<&str> = passages(&before, &found.spans).into_iter().collect();
        let (found, _) = cut_by(&after, 400);
        let new = passages(&after, &found.spans);
        let same = new.iter().filter(|text| old.contains(*text)).count();
        prop_assert!(same * 10 >= new.len() * 9, "{} of {} passages are as before", same, new.len());
    }
}

/// So many words, always the same for the same number.
fn words(number: u64, count: usize) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let word = |n: usize| ["owl", "hunts", "night", "mouse", "forest", "quiet", "the", "badger", "of", "moss"][n % 10];
    (0..count).map(|_| word(next())).collect::<Vec<_>>().join(" ")
}

#[test]
fn paragraphs_are_packed_within_their_section() {
    let mut builder = Builder::new();
    builder.heading(1, "Book");
    builder.heading(2, "One");
    for n in 0..12 {
        builder.paragraph(&format!("Paragraph {n} of the first chapter says a few words about this and about that."));
    }
    builder.heading(2, "Two");
    builder.paragraph("Short.");
    let document = builder.finish().unwrap();
    let (found, model) = cut_by(&document, 400);
    check(&document, &found, &model, 400);
    let passages = passages(&document, &found.spans);
    assert!(passages[0].starts_with("Book\n\nOne\n\nParagraph 0"), "{passages:?}");
    assert_eq!(found.outline.path(found.spans[0].section), "Book > One");
    assert_eq!(passages.last().unwrap(), &"Two\n\nShort.");
    assert!(found.spans[..passages.len() - 1].iter().all(|span| found.outline.path(span.section) == "Book > One"));
    assert!(passages.len() <= 4, "{passages:?}");
}

#[test]
fn a_long_paragraph_is_split_at_sentences_and_repeats_one() {
    let sentence = |n: usize| format!("Sentence number {n} speaks of the weather and of the sea at night.");
    let text: Vec<_> = (0..80).map(sentence).collect();
    let mut builder = Builder::new();
    builder.paragraph(&text.join(" "));
    let document = builder.finish().unwrap();
    let (found, model) = cut_by(&document, 400);
    check(&document, &found, &model, 400);
    let passages = passages(&document, &found.spans);
    assert!(passages.len() > 3);
    for pair in passages.windows(2) {
        let last = pair[0].rsplit_once(". ").unwrap().1;
        assert!(pair[1].starts_with(last), "{:?} does not repeat {last:?}", &pair[1][..80]);
        assert!(pair[0].ends_with('.'));
    }
}

#[test]
fn functions_stay_whole_where_they_fit() {
    let body: String = (0..25).map(|n| format!("    let value_{n} = compute({n});\n\n")).collect();
    let mut builder = Builder::new();
    for name in ["first", "second"] {
        builder.code(&format!("fn {name}() {{\n{body}}}"));
    }
    builder.code(&format!(
        "impl Long {{\n{}}}",
        (0..20)
            .map(|n| format!("    fn part_{n}() {{\n        work({n});\n        more();\n    }}\n\n"))
            .collect::<String>()
    ));
    let document = builder.finish().unwrap();
    let (found, model) = cut_by(&document, 400);
    check(&document, &found, &model, 400);
    let passages = passages(&document, &found.spans);
    assert!(passages[0].starts_with("fn first") && passages[0].ends_with('}'));
    assert!(passages[1].starts_with("fn second") && passages[1].ends_with('}'));
    assert!(passages[3..].iter().all(|passage| passage.starts_with("    fn part_")), "{passages:#?}");
}

#[test]
fn a_megabyte_without_a_space_is_cut_in_one_reading() {
    let mut builder = Builder::new();
    builder.paragraph(&"abcdefghij".repeat(100_000));
    let document = builder.finish().unwrap();
    let (found, model) = cut_by(&document, 400);
    assert!(model.read.load(Relaxed) <= document.text.len() * 2, "the tokenizer read the text again and again");
    check(&document, &found, &model, 400);
}

#[test]
fn too_many_passages_are_not_all_made() {
    for code in [false, true] {
        let mut builder = Builder::new();
        for n in 0..2000 {
            if code {
                builder.code(&words(n, 100));
            } else {
                builder.paragraph(&words(n, 100));
            }
        }
        let document = builder.finish().unwrap();
        let model = pieces(512);
        let sizer = Sizer::new(Some(Reader { model: Arc::clone(&model) as _, reads: 400 }), None, 0);
        assert!(cut(&document, &sizer, Nature::default(), 3).is_none());
        let read = model.read.load(Relaxed);
        assert!(read * 20 < document.text.len(), "{read} of {} bytes were read", document.text.len());
    }
}

#[test]
fn without_a_model_passages_have_a_usual_length() {
    let mut builder = Builder::new();
    (0..50).for_each(|_| builder.paragraph("Ten words that say so little that nobody minds them."));
    let document = builder.finish().unwrap();
    let sizer = Sizer::new(None, None, 478);
    let found = cut(&document, &sizer, Nature::default(), 1000).unwrap();
    assert!((2..=8).contains(&found.spans.len()), "{}", found.spans.len());
    assert!(cut(&document, &sizer, Nature::default(), 1).is_none());
}

/// Chunk types and sections, with the first words of each passage.
fn shown(document: &TextDocument, nature: Nature<'_>) -> Vec<String> {
    let sizer = Sizer::new(Some(Reader { model: pieces(512), reads: 478 }), None, 0);
    let found = cut(document, &sizer, nature, 1000).unwrap();
    let start = |span: &Span<'_>| document.text[span.start..].chars().take(12).collect::<String>().replace('\n', "/");
    let line = |span: &Span<'_>| {
        let language = span.language.map_or_else(String::new, |language| format!(" {language}"));
        format!("{}{language} [{}] {}", span.kind.name(), found.outline.path(span.section), start(span))
    };
    found.spans.iter().map(line).collect()
}

#[test]
fn a_table_in_parts_names_its_columns_in_each() {
    let mut builder = Builder::new();
    builder.heading(1, "Prices");
    let mut rows = vec![vec!["name".to_owned(), "price | now".to_owned()]];
    rows.extend((0..6000).map(|n| vec![format!("thing number {n}"), format!("{n}")]));
    builder.table(&rows);
    builder.paragraph("That was all.");
    let document = builder.finish().unwrap();
    assert!(document.blocks.len() > 3, "a table of several blocks");
    let (found, model) = cut_by(&document, 400);
    check(&document, &found, &model, 400);
    let (last, table) = found.spans.split_last().unwrap();
    let path = |span: &Span<'_>| found.outline.path(span.section);
    assert!(table.iter().all(|span| path(span) == "Prices > name | price \\| now" && span.kind == ChunkType::Table));
    assert_eq!(path(last), "Prices");
    // Rows stay whole.
    assert!(passages(&document, table).iter().skip(1).all(|text| text.starts_with("| thing") && text.ends_with(" |")));
    // A short one needs no help.
    let mut builder = Builder::new();
    builder.table(&rows[..3]);
    assert_eq!(shown(&builder.finish().unwrap(), Nature::default()), ["table [] | name | pri"]);
}

#[test]
fn passages_say_what_they_are() {
    let long = words(3, 120);
    let code = (0..30).map(|n| format!("let value_{n} = compute({n});\n")).collect::<String>();
    let mut builder = Builder::new();
    builder.heading(1, "A");
    builder.paragraph(&words(1, 60));
    builder.code_in(
        Some("rust"),
        "fn short() {\n    let x = first(1);\n    second(x, 2, 3, 4);\n    third(x, 5, 6, 7, 8);\n}",
    );
    builder.heading(1, "B");
    builder.code_in(Some("rust"), &code);
    builder.heading(1, "C");
    builder.paragraph(&long);
    builder.heading(1, "D");
    builder.item(1, "-", &long);
    builder.heading(1, "E");
    let document = builder.finish().unwrap();
    let found = shown(&document, Nature::default());
    assert_eq!(found[0].split(' ').next(), Some("mixed"), "{found:?}");
    assert_eq!(found[1].split(" [").next(), Some("code rust"), "{found:?}");
    let kinds: Vec<_> = found.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 3..], ["prose", "list", "heading"], "{found:?}");
}

#[test]
fn a_mail_is_messages_and_its_attachments_are_what_they_are() {
    let mut builder = Builder::new();
    builder.heading(1, "plan.pdf");
    builder.paragraph(&words(1, 100));
    builder.heading(1, "minutes.docx");
    builder.paragraph(&words(2, 100));
    builder.heading(1, "forwarded.eml");
    builder.paragraph(&words(3, 100));
    builder.heading(2, "notes.txt");
    builder.paragraph(&words(4, 100));
    let document = builder.finish().unwrap();
    let kinds = |nature| {
        shown(&document, nature).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(Nature { is_mail: true, language: None }), ["message", "prose", "message", "prose"]);
    assert_eq!(kinds(Nature::default()), ["prose"; 4]);
}

#[test]
fn parents_are_the_smallest_sections_that_hold_more() {
    let mut builder = Builder::new();
    builder.heading(1, "Book");
    builder.paragraph(&words(0, 150));
    builder.heading(2, "Short");
    (1..5).for_each(|n| builder.paragraph(&words(n, 150)));
    builder.heading(2, "Lone");
    builder.paragraph(&words(5, 150));
    builder.heading(2, "Long");
    (10..40).for_each(|n| builder.paragraph(&words(n, 150)));
    let document = builder.finish().unwrap();
    let (found, model) = cut_by(&document, 400);
    check(&document, &found, &model, 400);
    let path = |at: usize| found.outline.path(found.spans[at].section);
    let parents = parents(&found.spans, &found.outline);
    let short: Vec<_> = (0..parents.len()).filter(|at| path(*at) == "Book > Short").collect();
    let run = Run { first: short[0], last: *short.last().unwrap() };
    assert!(short.iter().all(|at| parents[*at] == Some(run)), "{parents:?}");
    // Nothing near enough holds these together with another one.
    assert_eq!((parents[0], parents[run.last + 1]), (None, None), "{parents:?}");
    // A long section is parted into runs.
    let mut runs: Vec<_> =
        (0..parents.len()).filter(|at| path(*at) == "Book > Long").map(|at| parents[at].unwrap()).collect();
    runs.dedup();
    assert!(runs.len() > 2 && runs.windows(2).all(|pair| pair[0].last + 1 == pair[1].first), "{runs:?}");
}

#[test]
fn code_fits_the_domain_model_too() {
    let code = (0..40).map(|n| format!("let value_{n} = compute({n});\n")).collect::<String>();
    let mut builder = Builder::new();
    builder.heading(1, "Code");
    builder.code(&code);
    builder.heading(1, "Prose");
    builder.paragraph(&words(1, 150));
    let document = builder.finish().unwrap();
    let reader = |reads| Some(Reader { model: pieces(512) as _, reads });
    let sizer = Sizer::new(reader(400), reader(50), 0);
    let found = cut(&document, &sizer, Nature::default(), 1000).unwrap();
    let model = pieces(512);
    check(&document, &found, &model, 400);
    for span in &found.spans {
        let tokens = model.tokens(&document.text[span.start..span.end]).len();
        assert_eq!(tokens, span.tokens.min(tokens));
        assert_eq!(span.kind == ChunkType::Prose, tokens > 50, "{tokens}");
    }
}
