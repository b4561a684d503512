//! What a file is, by its content. The name only tells text formats apart, because a Markdown file and a program look
//! like any other text.

use std::path::Path;

use infer::MatcherType;
use lmao_events::Failure;

/// Bytes at the beginning of a file that decide what it is.
pub(super) const HEAD_BYTES: usize = 64 * 1024;
/// A PDF's mark stands within this many bytes (ISO 32000-2, implementation notes).
const PDF_MARK_WITHIN: usize = 1024;
/// What is taken, for people.
const TAKEN: &str = "PDF, HTML, Markdown, plain text and source code are taken";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Format {
    /// Portable Document Format.
    Pdf,
    /// A web page.
    Html,
    /// Markdown.
    Markdown,
    /// Text without markup.
    Text,
    /// A program or data that is written like one.
    Code,
}

impl Format {
    /// As events and search filters name it.
    #[must_use]
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Html => "html",
            Self::Markdown => "markdown",
            Self::Text => "text",
            Self::Code => "code",
        }
    }
}

/// What the file that begins with `head` is.
///
/// # Errors
/// `no_text` for an empty file, `unsupported_format` for what is no text and no PDF.
pub(super) fn detect(head: &[u8], filename: &str) -> Result<Format, Failure> {
    let head = &head[..head.len().min(HEAD_BYTES)];
    if head.is_empty() {
        return Err(Failure::lasting("no_text", "The file is empty (0 bytes). Upload a file that has content."));
    }
    let window = &head[..head.len().min(PDF_MARK_WITHIN)];
    if window.windows(5).any(|bytes| bytes == b"%PDF-") {
        return Ok(Format::Pdf);
    }
    if let Some(what) = disguised(head).or_else(|| binary(head)) {
        return Err(unsupported(filename, &what));
    }
    let extension = extension(filename);
    if is_html(head, &extension) {
        return Ok(Format::Html);
    }
    Ok(match extension.as_str() {
        "md" | "markdown" | "mdown" | "mkd" | "mdx" | "rmd" | "qmd" => Format::Markdown,
        _ if language(filename, head).is_some() => Format::Code,
        _ => Format::Text,
    })
}

fn unsupported(filename: &str, what: &str) -> Failure {
    Failure::lasting(
        "unsupported_format",
        format!("`{filename}` seems to be {what}, which cannot be read as text. {TAKEN}."),
    )
}

/// Formats that are text on the outside and nothing that a person would read.
fn disguised(head: &[u8]) -> Option<String> {
    let marks: [(&[u8], &str); 3] =
        [(b"{\\rtf", "an RTF document"), (b"%!PS", "a PostScript document"), (b"%!Adobe", "a PostScript document")];
    marks.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, what)| (*what).to_owned())
}

/// What this is if it is no text.
fn binary(head: &[u8]) -> Option<String> {
    if encoding_rs::Encoding::for_bom(head).is_some() || utf16(head).is_some() {
        return None;
    }
    let nul = head.contains(&0);
    let utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    let odd = head.iter().filter(|byte| is_odd(**byte)).count();
    if !nul && odd * 50 <= head.len() && utf8 {
        return None;
    }
    // Signatures of two or three bytes also begin ordinary text: asked only about what does not look like text.
    match infer::get(head) {
        Some(kind) if kind.matcher_type() != MatcherType::Text => {
            Some(format!("{} ({})", class(kind.matcher_type(), kind.extension()), kind.mime_type()))
        }
        _ if nul || odd * 50 > head.len() => Some("binary data".to_owned()),
        _ => None,
    }
}

fn class(class: MatcherType, extension: &str) -> String {
    match class {
        MatcherType::App => "a program".to_owned(),
        MatcherType::Archive => format!("an archive ({extension})"),
        MatcherType::Audio => "sound".to_owned(),
        MatcherType::Book => "an e-book".to_owned(),
        MatcherType::Doc => format!("an office document ({extension})"),
        MatcherType::Font => "a font".to_owned(),
        MatcherType::Image => "an image".to_owned(),
        MatcherType::Video => "a film".to_owned(),
        _ => "binary data".to_owned(),
    }
}

/// Control characters that no text has.
const fn is_odd(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x08 | 0x1b) || byte == 0x7f
}

/// UTF-16 without a byte order mark: nearly every other byte of western text is zero.
pub(super) fn utf16(head: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let pairs = head.as_chunks::<2>().0;
    if pairs.len() < 8 {
        return None;
    }
    let (mut little, mut big) = (0, 0);
    for [first, second] in pairs {
        let printable = |byte: u8| byte != 0 && !is_odd(byte);
        little += usize::from(printable(*first) && *second == 0);
        big += usize::from(printable(*second) && *first == 0);
    }
    let most = pairs.len() * 7 / 10;
    if little > most {
        Some(encoding_rs::UTF_16LE)
    } else if big > most {
        Some(encoding_rs::UTF_16BE)
    } else {
        None
    }
}

/// The beginning of the file as ASCII, lower case, zeros of UTF-16 left out: good enough to look for tags.
fn ascii(head: &[u8]) -> String {
    let bytes = head.iter().take(4096).filter(|byte| **byte != 0);
    bytes.map(|byte| if byte.is_ascii() { char::from(byte.to_ascii_lowercase()) } else { '?' }).collect()
}

fn is_html(head: &[u8], extension: &str) -> bool {
    let text = ascii(head);
    let mut rest = text.trim_start_matches(['?', ' ', '\t', '\r', '\n']);
    // An XML declaration or comments may come first.
    loop {
        let end = if rest.starts_with("<!--") {
            rest.find("-->").map(|at| at + 3)
        } else if rest.starts_with("<?xml") {
            rest.find("?>").map(|at| at + 2)
        } else {
            None
        };
        let Some(end) = end else { break };
        rest = rest[end..].trim_start();
    }
    let begins = |tag: &str| rest.starts_with(tag);
    begins("<!doctype html")
        || begins("<html")
        || begins("<head")
        || matches!(extension, "html" | "htm" | "xhtml" | "shtml") && text.contains('<')
}

fn extension(filename: &str) -> String {
    Path::new(filename).extension().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// The programming language, by the name or the interpreter line.
pub(super) fn language(filename: &str, head: &[u8]) -> Option<&'static str> {
    let by_name = match filename {
        "Makefile" | "makefile" | "GNUmakefile" => Some("make"),
        "Dockerfile" | "Containerfile" => Some("dockerfile"),
        "CMakeLists.txt" => Some("cmake"),
        _ => None,
    };
    let extension = extension(filename);
    let by_extension =
        || LANGUAGES.iter().find(|(extensions, _)| extensions.contains(&extension.as_str())).map(|l| l.1);
    let by_interpreter = || {
        let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8_lossy(line).into_owned();
        INTERPRETERS.iter().find(|(name, _)| line.contains(name)).map(|(_, language)| *language)
    };
    by_name.or_else(by_extension).or_else(by_interpreter)
}

const INTERPRETERS: &[(&str, &str)] = &[
    ("python", "python"),
    ("node", "javascript"),
    ("perl", "perl"),
    ("ruby", "ruby"),
    ("lua", "lua"),
    ("awk", "awk"),
    ("sh", "shell"),
];

const LANGUAGES: &[(&[&str], &str)] = &[
    (&["rs"], "rust"),
    (&["py", "pyi", "pyw"], "python"),
    (&["js", "mjs", "cjs", "jsx"], "javascript"),
    (&["ts", "mts", "cts", "tsx"], "typescript"),
    (&["c", "h"], "c"),
    (&["cc", "cpp", "cxx", "hh", "hpp", "hxx", "inl"], "cpp"),
    (&["go"], "go"),
    (&["java"], "java"),
    (&["kt", "kts"], "kotlin"),
    (&["scala", "sc"], "scala"),
    (&["swift"], "swift"),
    (&["cs"], "csharp"),
    (&["fs", "fsx"], "fsharp"),
    (&["rb"], "ruby"),
    (&["php"], "php"),
    (&["pl", "pm"], "perl"),
    (&["lua"], "lua"),
    (&["r"], "r"),
    (&["jl"], "julia"),
    (&["hs"], "haskell"),
    (&["ml", "mli"], "ocaml"),
    (&["ex", "exs"], "elixir"),
    (&["erl", "hrl"], "erlang"),
    (&["clj", "cljs", "edn"], "clojure"),
    (&["lisp", "el", "scm"], "lisp"),
    (&["zig"], "zig"),
    (&["nim"], "nim"),
    (&["d"], "d"),
    (&["dart"], "dart"),
    (&["sh", "bash", "zsh", "fish", "ksh"], "shell"),
    (&["ps1"], "powershell"),
    (&["bat", "cmd"], "batch"),
    (&["sql"], "sql"),
    (&["asm", "s"], "assembly"),
    (&["vue"], "vue"),
    (&["svelte"], "svelte"),
    (&["css", "scss", "less"], "css"),
    (&["json", "jsonl", "ndjson"], "json"),
    (&["toml"], "toml"),
    (&["yaml", "yml"], "yaml"),
    (&["xml", "xsd", "xsl", "svg"], "xml"),
    (&["ini", "cfg", "conf"], "ini"),
    (&["proto"], "protobuf"),
    (&["graphql", "gql"], "graphql"),
    (&["cmake"], "cmake"),
    (&["mk"], "make"),
    (&["nix"], "nix"),
    (&["tf", "hcl"], "hcl"),
    (&["tex", "sty"], "latex"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8], filename: &str) -> String {
        match detect(bytes, filename) {
            Ok(format) => format.name().to_owned(),
            Err(failure) => format!("{}: {}", failure.reason, failure.message),
        }
    }

    #[test]
    fn content_decides_and_the_name_tells_texts_apart() {
        let utf16: Vec<u8> = "plain words in a row".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let html16: Vec<u8> = "<!DOCTYPE html><p>hello".encode_utf16().flat_map(u16::to_be_bytes).collect();
        let cases: [(&[u8], &str, &str); 21] = [
            (b"%PDF-1.7\n...", "a.txt", "pdf"),
            (b"garbage before\n%PDF-1.4", "a.pdf", "pdf"),
            (b"just words", "a.pdf", "text"),
            (b"<!DOCTYPE html><p>x", "a.txt", "html"),
            (b"\xef\xbb\xbf <!-- c --><html lang=en>", "a", "html"),
            (b"<?xml version=\"1.0\"?>\n<html xmlns=\"x\">", "a.xml", "html"),
            (b"<p>fragment", "a.html", "html"),
            (b"<p align=center>logo</p>\n\n# T", "README.md", "markdown"),
            (b"# T", "a.MD", "markdown"),
            (b"fn main() {}", "main.rs", "code"),
            (b"#!/usr/bin/env python3\nprint(1)", "tool", "code"),
            (b"all:\n\tcc x.c", "Makefile", "code"),
            (b"BM25 is a ranking function", "a.txt", "text"),
            (b"\x1b[1mbold\x1b[0m words and more words of ordinary text", "log", "text"),
            ("Größe".as_bytes(), "a", "text"),
            (b"Gr\xf6\xdfe und Stra\xdfe", "a.txt", "text"),
            (&utf16, "a.txt", "text"),
            (&html16, "a.txt", "html"),
            (b"\xff\xfea\0", "a.txt", "text"),
            (b"", "a.txt", "no_text: The file is empty (0 bytes). Upload a file that has content."),
            (
                b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
                "a.txt",
                "unsupported_format: `a.txt` seems to be an image (image/png), which cannot be read as text. \
                 PDF, HTML, Markdown, plain text and source code are taken.",
            ),
        ];
        for (bytes, filename, expected) in cases {
            assert_eq!(what(bytes, filename), expected, "{filename}: {:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let cases: [(&[u8], &str); 6] = [
            (b"PK\x03\x04\x14\0\0\0\x08\0aaaa", "an archive (zip)"),
            (
                b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0\x01\0\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "a program",
            ),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "an image"),
            (b"{\\rtf1\\ansi hello}", "RTF"),
            (b"%!PS-Adobe-3.0", "PostScript"),
            (b"ab\0\x01\x02cd", "binary data"),
        ];
        for (bytes, named) in cases {
            let failure = detect(bytes, "x").unwrap_err();
            assert_eq!(failure.reason, "unsupported_format");
            assert!(failure.message.contains(named), "{}", failure.message);
            assert!(!failure.retryable);
        }
    }
}
