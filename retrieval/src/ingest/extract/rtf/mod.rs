//! Rich Text Format (version 1.9.1): paragraphs, headings by outline level or style, lists, tables, and the characters of all
//! code pages. Pictures, fields' instructions and other destinations without text are passed over.
//!
//! The groups lie on a stack of their own, so their depth costs no recursion; it is limited all the same.

mod reader;
mod words;
mod writer;

use lmao_events::Failure;

use super::{Extraction, damaged, finish, meta, title};
use reader::{Reader, Token};
use writer::Writer;

/// Groups that may be open at once. No program writes a hundred.
const MAX_DEPTH: usize = 10_000;

pub(super) fn extract(bytes: &[u8]) -> Result<Extraction, Failure> {
    let mut writer = Writer::new();
    let mut whole = false;
    for token in Reader::new(bytes) {
        match token {
            Token::Open if writer.depth() >= MAX_DEPTH => {
                return Err(damaged("document", &format!("its groups lie more than {MAX_DEPTH} deep")));
            }
            Token::Open => writer.open(),
            // What stands behind the last group is no part of the document.
            Token::Close if writer.depth() <= 1 => {
                whole = true;
                break;
            }
            Token::Close => writer.close(),
            Token::Word(name, value) => writer.word(name, value),
            Token::Symbol(symbol) => writer.symbol(symbol),
            Token::Byte(byte) => writer.byte(byte),
            Token::Text(text) => writer.text(text),
        }
    }
    let (builder, about) = writer.end();
    let mut extraction = finish(builder, title(&about.title), None)?;
    extraction.authors = meta::names([about.author.as_str()]);
    extraction.tags = meta::tags([about.keywords.as_str()]);
    extraction.written = about.created.and_then(|text| meta::date(&text));
    if !whole {
        extraction.warnings.push("the end of the file is missing: the upload or the file was cut off".to_owned());
    }
    Ok(extraction)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::ingest::extract::tests::outline;

    fn check(text: &str, expected: &Expect) {
        let found = extract(text.as_bytes()).unwrap();
        expected.assert_eq(&outline(&found.document));
    }

    #[test]
    fn characters_of_all_kinds_are_read() {
        check(
            r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\froman Times;}{\f1\fnil\fcharset204 Cyr;}{\f2\fcharset128 J;}}
{\*\generator x;}\uc1 Gr\'f6\'dfe \u8364? \{a\}\~b {\f1\'cf\'f0\'e8} {\f2\'93\'fa\'96\'7b}\par
{\uc2\u26085 ??}\uc0\u26412 x\emdash y \ldblquote q\rdblquote {\pict\pngblip 89504e47}{\*\unknown hidden}\par
\uc1\u55357?\u56832? soft\-hyphen\bin3 {{}end\par}",
            &expect![[r#"
                paragraph "Größe € {a} b При 日本"
                paragraph "日本x—y “q”"
                paragraph "😀 softhyphenend"
            "#]],
        );
    }

    #[test]
    fn headings_lists_and_tables_are_kept() {
        check(
            r"{\rtf1{\stylesheet{\s0 Normal;}{\s2 heading 2;}}{\info{\title Tea}{\author Ada}{\creatim\yr2024\mo5\dy1\hr10}}
{\pard\outlinelevel0 Top\par}{\pard\s2 Second\par}\pard words\line more\par
{\pard{\listtext\bullet\tab}one\par}{\pard{\pntext 2.\tab}two\par}\pard
\trowd\cellx1\cellx2\pard\intbl a\cell b\par c\cell\row\trowd\pard\intbl 1\cell {\b 2}\cell\row\pard end{\footnote note}\par}",
            &expect![[r#"
                heading(1) "Top"
                heading(2) "Second" in Top
                paragraph "words more" in Top > Second
                list "- one" in Top > Second
                list "2. two" in Top > Second
                table "| a | b c |\n| 1 | 2 |" in Top > Second
                paragraph "end[note]" in Top > Second
            "#]],
        );
        let found = extract(br"{\rtf1{\info{\title Tea}{\author Ada; Bob}{\keywords a, b}{\creatim\yr2024\mo5\dy1}}x}")
            .unwrap();
        assert_eq!((found.title.as_deref(), found.written.as_deref()), (Some("Tea"), Some("2024-05-01")));
        assert_eq!(
            (found.authors, found.tags),
            (vec!["Ada".to_owned(), "Bob".into()], vec!["a".to_owned(), "b".into()])
        );
    }

    #[test]
    fn what_an_embedded_object_shows_is_text() {
        check(
            r"{\rtf1 a {\object\objemb\objw10{\*\objclass Word.Document.8}{\objname N}{\*\objdata 0105}{\objdata 02}
{\result {\pict\pngblip 89}{\b shown}}} b {\object{\*\objdata 01}{\*\result too}}\par}",
            &expect![[r#"
                paragraph "a shown b too"
            "#]],
        );
    }

    #[test]
    fn broken_files_end() {
        assert!(extract(b"{\\rtf1 half").unwrap().warnings[0].contains("missing"));
        assert_eq!(extract(&b"{\\rtf1 ".repeat(20_000)).unwrap_err().reason, "damaged_file");
        for text in [
            &b"{\\rtf1\\bin999999999999 x}"[..],
            b"{\\rtf1}}}}",
            b"{\\rtf1\\'",
            b"{\\rtf1\\u99999999999? \\'zz}",
            b"\\",
        ] {
            extract(text).unwrap();
        }
    }
}
