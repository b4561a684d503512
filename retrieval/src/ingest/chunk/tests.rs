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
struct Pieces {
    manifest: ModelManifest,
    read: AtomicUsize,
}

fn pieces(max_tokens: usize) -> Arc<Pieces> {
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

fn passages<'a>(document: &'a TextDocument, spans: &[Span]) -> Vec<&'a str> {
    spans.iter().map(|span| &document.text[span.start..span.end]).collect()
}

/// Everything that must hold of any cut of any document.
fn check(document: &TextDocument, spans: &[Span], model: &Pieces, max: usize) {
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
    for block in &document.blocks {
        let inside = spans.iter().filter(|span| span.start < block.end && block.start < span.end);
        for span in inside {
            assert!(document.lies_in(block.section, span.section) || document.lies_in(span.section, block.section));
        }
    }
}

fn cut_by(document: &TextDocument, max: usize) -> (Vec<Span>, Arc<Pieces>) {
    let model = pieces(512);
    let sizer = Sizer::new(document, Some(Arc::clone(&model) as _), max);
    (cut(document, &sizer, 1_000_000).unwrap(), model)
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
        let (spans, model) = cut_by(&document, max);
        check(&document, &spans, &model, Budget::for_model(max).max);
    }
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
    let (spans, model) = cut_by(&document, 400);
    check(&document, &spans, &model, 400);
    let passages = passages(&document, &spans);
    assert!(passages[0].starts_with("Book\n\nOne\n\nParagraph 0"), "{passages:?}");
    assert_eq!(document.path(spans[0].section), ["Book", "One"]);
    assert_eq!(passages.last().unwrap(), &"Two\n\nShort.");
    assert!(spans[..spans.len() - 1].iter().all(|span| document.path(span.section) == ["Book", "One"]));
    assert!(passages.len() <= 4, "{passages:?}");
}

#[test]
fn a_long_paragraph_is_split_at_sentences_and_repeats_one() {
    let sentence = |n: usize| format!("Sentence number {n} speaks of the weather and of the sea at night.");
    let text: Vec<_> = (0..80).map(sentence).collect();
    let mut builder = Builder::new();
    builder.paragraph(&text.join(" "));
    let document = builder.finish().unwrap();
    let (spans, model) = cut_by(&document, 400);
    check(&document, &spans, &model, 400);
    let passages = passages(&document, &spans);
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
    let (spans, model) = cut_by(&document, 400);
    check(&document, &spans, &model, 400);
    let passages = passages(&document, &spans);
    assert!(passages[0].starts_with("fn first") && passages[0].ends_with('}'));
    assert!(passages[1].starts_with("fn second") && passages[1].ends_with('}'));
    assert!(passages[3..].iter().all(|passage| passage.starts_with("    fn part_")), "{passages:#?}");
}

#[test]
fn a_megabyte_without_a_space_is_cut_in_one_reading() {
    let mut builder = Builder::new();
    builder.paragraph(&"abcdefghij".repeat(100_000));
    let document = builder.finish().unwrap();
    let (spans, model) = cut_by(&document, 400);
    assert!(model.read.load(Relaxed) <= document.text.len() * 2, "the tokenizer read the text again and again");
    check(&document, &spans, &model, 400);
}

#[test]
fn a_long_text_is_estimated_and_still_fits() {
    let mut builder = Builder::new();
    for n in 0..30_000 {
        builder.paragraph(&format!(
            "Paragraph {n} with Donaudampfschifffahrtsgesellschaft and 日本語 and 1234567890 words."
        ));
        if n % 100 == 0 {
            builder.paragraph(&"YWJjZGVmZ2hpamtsbW5vcA".repeat(60));
        }
    }
    let document = builder.finish().unwrap();
    let (spans, model) = cut_by(&document, 400);
    assert!(model.read.load(Relaxed) < document.text.len() / 2, "an estimate must not tokenize all of it");
    // The model reads more than a passage may have, so a little over the aim is harmless; beyond that is not.
    check(&document, &spans, &model, 478);
}

#[test]
fn without_a_model_passages_have_a_usual_length() {
    let mut builder = Builder::new();
    (0..50).for_each(|_| builder.paragraph("Ten words that say so little that nobody minds them."));
    let document = builder.finish().unwrap();
    let spans = cut(&document, &Sizer::new(&document, None, 478), 1000).unwrap();
    assert!((2..=5).contains(&spans.len()), "{}", spans.len());
    assert_eq!(cut(&document, &Sizer::new(&document, None, 478), 1), None);
}
