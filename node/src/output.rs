//! What commands print: tables for people, JSON for programs, colours only where somebody sees them.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

use crate::exit::{Code, Stop};

/// Who reads standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A person.
    Text,
    /// A program: one JSON value, or one a line where there are many.
    Json,
}

/// A way to make words stand out; nothing at all unless a terminal shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Headings and names.
    Bold,
    /// What is less important.
    Dim,
    /// It worked.
    Green,
    /// It works in part.
    Yellow,
    /// It failed.
    Red,
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// For this format; colours when standard output is a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(crate) fn new(format: Format) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { format, colour: wanted && format == Format::Text && io::stdout().is_terminal() }
    }

    /// Whether a program reads it.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether standard error is a terminal where progress can be drawn.
    pub(crate) fn shows_progress(self) -> bool {
        io::stderr().is_terminal()
    }

    /// `text` in this ink.
    pub(crate) fn paint(self, ink: Ink, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Red => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When standard output is closed: the command ends, quietly if its reader has seen enough.
    pub(crate) fn line(self, text: impl AsRef<str>) -> Result<(), Stop> {
        write(|out| writeln!(out, "{}", text.as_ref()))
    }

    /// Prints a piece of a line at once.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn piece(self, text: &str) -> Result<(), Stop> {
        write(|out| out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// Prints `value` as JSON: indented for a value alone.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), Stop> {
        self.line(serde_json::to_string_pretty(value).map_err(encoding)?)
    }

    /// Prints `value` as one line of JSON, for a sequence of values.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn json_line(self, value: &impl Serialize) -> Result<(), Stop> {
        self.line(serde_json::to_string(value).map_err(encoding)?)
    }

    /// Prints a table.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn table(self, table: &Table) -> Result<(), Stop> {
        table.lines().into_iter().enumerate().try_for_each(|(n, line)| match n {
            0 => self.line(self.paint(Ink::Bold, &line)),
            _ => self.line(line),
        })
    }
}

fn encoding(error: serde_json::Error) -> Stop {
    Stop::new(Code::Failed, "the result cannot be written as JSON").because(error)
}

fn write(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<(), Stop> {
    write(&mut io::stdout().lock()).map_err(|error| match error.kind() {
        // `lmao events | head`: the reader has what it wanted.
        io::ErrorKind::BrokenPipe => Stop::silent(Code::Done),
        _ => Stop::new(Code::Failed, "standard output cannot be written").because(error),
    })
}

/// Says something beside the result, on standard error. Where nobody reads that, nothing is lost.
pub(crate) fn note(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Rows under headings, aligned by their widest cells; the last column is not padded.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// With headings whose number is known only now.
    pub(crate) fn of(headings: Vec<String>) -> Self {
        Self { rows: vec![headings] }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.add(cells.into());
    }

    /// Adds a row of as many cells as there are headings.
    pub(crate) fn add(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell).replace('\n', " ")).collect());
    }

    /// The lines, the headings first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// `text` without control characters, which a document could use to take over the terminal. Line breaks and tabs stay.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The beginning of `text` on one line of at most `width` characters.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    let line = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(width) {
        None => line,
        Some(_) => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// So many of them: `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A number of bytes for people: `1.4 MiB`.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    let mut value = size as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_has_no_trailing_blanks() {
        let mut table = Table::new(["NAME", "STATUS", "NOTE"]);
        table.row(["a.pdf".into(), "ready".into(), String::new()]);
        table.row(["größer.md".into(), "failed".into(), "two\nlines \u{1b}[31m".into()]);
        expect![[r"
            NAME       STATUS  NOTE
            a.pdf      ready
            größer.md  failed  two lines �[31m"]]
        .assert_eq(&table.lines().join("\n"));
    }

    #[test]
    fn texts_are_shortened_by_characters() {
        assert_eq!(shorten("a\n  b   c", 10), "a b c");
        assert_eq!(shorten("übermäßig lang", 5), "über…");
        assert_eq!(shorten("12345", 5), "12345");
    }

    #[test]
    fn sizes_and_numbers_are_for_people() {
        assert_eq!([0, 1, 2].map(|n| count(n, "file")), ["0 files", "1 file", "2 files"]);
        assert_eq!([0, 1023, 1024, 1_500_000].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.4 MiB"]);
    }
}
