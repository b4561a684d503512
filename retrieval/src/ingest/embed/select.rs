//! Which model a passage is for, by what it holds: prose for the general one, code for the domain one, both for what is
//! mixed. Looks at lines and characters alone: it runs over every passage, and a parser would cost more than it tells.

use lmao_ports::{ChunkRecord, Space};

/// From this share of code on, a text is for the domain model too.
const SOME_CODE: f32 = 0.25;
/// From this share of code on, it is for the domain model alone.
const NEARLY_ALL_CODE: f32 = 0.85;
/// From this share of comments on, code is for the general model too: it is read as prose, and asked for in prose.
const MOSTLY_COMMENTS: f32 = 0.5;
/// Signs among the characters of a line, white space left out, that make it code.
const DENSE: f32 = 0.16;

/// Formats that code editors know and that hold no program: what they say is words.
const DATA: &[&str] =
    &["json", "jsonl", "yaml", "toml", "xml", "html", "csv", "tsv", "ini", "properties", "markdown", "latex", "text"];

/// The spaces that a passage has vectors in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suits {
    General,
    Domain,
    Both,
}

impl Suits {
    pub(super) const fn is_in(self, space: Space) -> bool {
        matches!((self, space), (Self::Both, _) | (Self::General, Space::General) | (Self::Domain, Space::Domain))
    }
}

/// What suits a passage where there are both models.
pub(super) fn suits(record: &ChunkRecord) -> Suits {
    if record.chunk_type == "code" {
        return match record.language.as_deref() {
            Some(language) if DATA.contains(&language) => Suits::General,
            _ if share(&record.content, is_comment) >= MOSTLY_COMMENTS => Suits::Both,
            _ => Suits::Domain,
        };
    }
    match code_share(&record.content) {
        share if share >= NEARLY_ALL_CODE => Suits::Domain,
        share if share >= SOME_CODE => Suits::Both,
        _ => Suits::General,
    }
}

/// How much of a text is code, in [0, 1]: lines within fences, and lines that look like it.
fn code_share(text: &str) -> f32 {
    let mut is_fenced = false;
    share(text, |line| {
        let is_fence = line.starts_with("```") || line.starts_with("~~~");
        is_fenced ^= is_fence;
        is_fence || is_fenced || looks_like_code(line)
    })
}

/// The share of a text's bytes, white space around lines left out, in lines that `counts`.
fn share(text: &str, mut counts: impl FnMut(&str) -> bool) -> f32 {
    let (mut counted, mut all) = (0, 0);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        all += line.len();
        counted += if counts(line) { line.len() } else { 0 };
    }
    if all == 0 { 0.0 } else { counted as f32 / all as f32 }
}

fn is_comment(line: &str) -> bool {
    let hash = line.starts_with('#')
        && !["#include", "#define", "#if", "#end", "#pragma", "#["].iter().any(|word| line.starts_with(word));
    hash || ["//", "/*", "* ", "*/", "\"\"\"", "'''", "-- ", ";; "].iter().any(|mark| line.starts_with(mark))
}

/// A line that a statement or a block ends or begins on, or that is dense with the signs of programs.
fn looks_like_code(line: &str) -> bool {
    let ends = line.ends_with([';', '{', '}']) || line.ends_with("):") || line.ends_with("},") || line == ")";
    let begins = ["fn ", "def ", "class ", "import ", "#include", "return ", "pub ", "func ", "function "]
        .iter()
        .any(|word| line.starts_with(word))
        && line.contains(['(', ':', '<', '"', '=', '.']);
    ends || begins || is_dense(line)
}

fn is_dense(line: &str) -> bool {
    // A row of a table.
    if line.starts_with('|') {
        return false;
    }
    let signs = line.chars().filter(|c| "{}()[];=<>_:/\\|&*+#$@".contains(*c)).count();
    let all = line.chars().filter(|c| !c.is_whitespace()).count();
    // An address in a sentence has a few signs too.
    signs >= 3 && signs as f32 >= DENSE * all as f32
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn of(chunk_type: &str, language: Option<&str>, content: &str) -> Suits {
        suits(&ChunkRecord {
            chunk_id: Uuid::nil(),
            ordinal: 0,
            content: content.to_owned(),
            chunk_type: chunk_type.to_owned(),
            page_number: None,
            section: None,
            start: 0,
            end: content.len() as u64,
            page_turns: vec![],
            language: language.map(str::to_owned),
            parent: None,
        })
    }

    const FUNCTION: &str = "fn area(w: u32, h: u32) -> u32 {\n    let a = w * h;\n    a\n}";

    #[test]
    fn prose_is_for_the_general_model() {
        for prose in [
            "Ownership is Rust's most unique feature; it has deep implications for the rest of the language.",
            "See the manual (chapter 4, page 17) at https://example.org/a/b_c?d=e for more; it is short.",
            "1. Open the lid\n2. Fill in water (0.5 l)\n3. Wait",
            "| bird | legs |\n|---|---|\n| crane | two of them, rather long |",
            "",
        ] {
            assert_eq!(of("prose", None, prose), Suits::General, "{prose}");
        }
        assert_eq!(of("code", Some("json"), "{\"name\": \"crane\"}"), Suits::General);
    }

    #[test]
    fn code_is_for_the_domain_model() {
        assert_eq!(of("code", Some("rust"), FUNCTION), Suits::Domain);
        assert_eq!(of("code", None, "def area(w, h):\n    return w * h"), Suits::Domain);
        assert_eq!(of("prose", None, FUNCTION), Suits::Domain);
        assert_eq!(of("prose", None, "```\nlet me explain\n```"), Suits::Domain);
    }

    #[test]
    fn what_is_mixed_is_for_both() {
        let guide = format!("The area of a rectangle is its width times its height:\n\n{FUNCTION}\n");
        assert_eq!(of("mixed", None, &guide), Suits::Both);
        let documented = "/// The area of a rectangle: how much of the plane it covers, in the unit of its sides.\n\
                          fn area(w: u32, h: u32) -> u32 {\n    w * h\n}";
        assert_eq!(of("code", Some("rust"), documented), Suits::Both);
    }
}
