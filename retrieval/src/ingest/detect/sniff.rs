//! Kinds of text that show in their first lines: mails, JSON, tables of values, Markdown.

/// Lines and records that are looked at.
const LINES: usize = 200;
/// Delimiters of values, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// How much of a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingest) enum Known {
    /// All of it.
    Whole,
    /// Its beginning: the last line or value may be cut.
    Beginning,
}

impl Known {
    /// By the bytes that are known, and those of which there may be more.
    pub(in crate::ingest) const fn of(known: usize, all: usize) -> Self {
        if known < all { Self::Beginning } else { Self::Whole }
    }
}

/// Whether this begins with the headers of a mail (RFC 5322): at least three of those that mails have, and no other line.
pub(super) fn is_mail(text: &str) -> bool {
    const USUAL: [&str; 12] = [
        "from",
        "to",
        "cc",
        "subject",
        "date",
        "received",
        "message-id",
        "mime-version",
        "return-path",
        "delivered-to",
        "content-type",
        "reply-to",
    ];
    let mut known = 0;
    let mut sender = false;
    for (at, line) in text.trim_start_matches('\u{feff}').lines().take(LINES).enumerate() {
        if line.trim().is_empty() {
            break;
        }
        if at > 0 && line.starts_with([' ', '\t']) {
            continue;
        }
        // The line that parts the mails of a mailbox.
        if at == 0 && line.starts_with("From ") {
            continue;
        }
        let Some((name, _)) = line.split_once(':') else { return false };
        let printable = |byte: u8| (33..127).contains(&byte);
        if name.is_empty() || !name.bytes().all(printable) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        known += usize::from(USUAL.contains(&name.as_str()));
        sender |= matches!(name.as_str(), "from" | "received" | "message-id" | "return-path");
    }
    known >= 3 && sender
}

/// Whether this is one JSON object or list, as far as it is known.
pub(super) fn is_json(text: &str, known: Known) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if !text.starts_with(['{', '[']) {
        return false;
    }
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => text.trim_end().len() > 2,
        // A beginning ends too soon and has no other fault.
        Err(error) => known == Known::Beginning && error.is_eof(),
    }
}

/// Whether each line is a JSON object or list, and there are two at least.
pub(super) fn is_json_lines(text: &str, known: Known) -> bool {
    let mut lines: Vec<&str> =
        text.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim().is_empty()).collect();
    if known == Known::Beginning {
        lines.pop();
    }
    let value = |line: &&str| {
        line.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(line).is_ok()
    };
    lines.len() >= 2 && lines.iter().take(LINES).all(value)
}

/// The delimiter of a table of values: the one by which most records have the same number of values, at least two. `None` when
/// there is none.
pub(in crate::ingest) fn delimiter(text: &str, known: Known) -> Option<u8> {
    shape(text, known).map(|shape| shape.delimiter)
}

/// What a delimiter makes of a text.
struct Shape {
    delimiter: u8,
    records: usize,
    /// The usual number of values of a record, and the share of records that have it.
    columns: usize,
    share: f32,
}

fn shape(text: &str, known: Known) -> Option<Shape> {
    let shapes = DELIMITERS.iter().filter_map(|delimiter| consistency(text, known, *delimiter));
    let tables = shapes.filter(|shape| shape.columns >= 2);
    tables.reduce(|best, other| if (other.share, other.columns) > (best.share, best.columns) { other } else { best })
}

fn consistency(text: &str, known: Known, delimiter: u8) -> Option<Shape> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text.as_bytes());
    let mut widths: Vec<usize> =
        reader.byte_records().take(LINES).filter_map(Result::ok).map(|record| record.len()).collect();
    if known == Known::Beginning {
        widths.pop();
    }
    let columns = *widths.iter().max_by_key(|width| widths.iter().filter(|other| other == width).count())?;
    let fitting = widths.iter().filter(|width| **width == columns).count();
    Some(Shape { delimiter, records: widths.len(), columns, share: fitting as f32 / widths.len() as f32 })
}

/// Whether a text whose name does not say so is a table of values: every record has the same number of them, and they are
/// short, which prose with commas is not.
pub(super) fn is_table(text: &str, known: Known) -> bool {
    let Some(Shape { delimiter, records, columns, share }) = shape(text, known) else { return false };
    let values = records * columns;
    let sample: usize = text.lines().take(LINES).map(str::len).sum();
    let enough = if delimiter == b'\t' { columns >= 2 } else { columns >= 3 };
    enough && records >= 3 && share >= 0.999 && sample < values * 40
}

/// Whether a text whose name does not say so is Markdown: at least two kinds of its marks.
pub(super) fn is_markdown(text: &str) -> bool {
    let lines = || text.lines().take(LINES);
    let heading = |line: &str| {
        let rest = line.trim_start_matches('#');
        (1..=6).contains(&(line.len() - rest.len())) && rest.starts_with(' ') && rest.trim().len() > 1
    };
    let marks = [
        lines().any(heading),
        lines().filter(|line| line.starts_with("```")).count() >= 2,
        lines().any(|line| line.find("](").is_some_and(|at| line[..at].contains('['))),
        lines().any(|line| line.contains("|---") || line.contains("| --- ")),
        lines().any(|line| line.matches("**").count() >= 2),
    ];
    // Settings and programs have comments that look like headings, but links and fences only together with them.
    marks[0] && marks.iter().filter(|mark| **mark).count() >= 2
}
