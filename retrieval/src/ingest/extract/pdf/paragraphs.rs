//! From lines to blocks: headings found by the bookmarks or the size of their type, lines joined to paragraphs, across
//! pages too.

use std::collections::HashMap;

use super::{
    Bookmark, chrome,
    layout::{Line, Page},
};
use crate::text::{Builder, clean_code, clean_prose};

/// Type this much larger than the body's is a heading.
const HEADING_SIZE: f32 = 1.12;
/// A heading is no longer than this, in characters.
const HEADING_CHARS: usize = 160;

/// The written document, and the largest heading of its first page.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) builder: Builder,
    pub(super) title: Option<String>,
}

pub(super) fn write(mut pages: Vec<Page>, outline: &[Bookmark]) -> Written {
    chrome::drop(&mut pages);
    let style = Style::of(&pages, outline);
    let mut writer = Writer { builder: Builder::new(), style: &style, open: None, title: None };
    for page in &pages {
        for line in &page.lines {
            writer.line(line, page.number);
        }
    }
    writer.close();
    Written { builder: writer.builder, title: writer.title.map(|(_, title)| title) }
}

/// What the document's type tells.
#[derive(Debug)]
struct Style {
    /// The size of most characters.
    body: f32,
    /// Distance of baselines within a paragraph, in font sizes.
    leading: f32,
    /// Sizes of headings, largest first.
    sizes: Vec<i32>,
    /// Bookmarks by page and squeezed title.
    bookmarks: HashMap<(u32, String), u8>,
}

impl Style {
    fn of(pages: &[Page], outline: &[Bookmark]) -> Self {
        let mut by_size: HashMap<i32, usize> = HashMap::new();
        let mut leadings = vec![];
        for page in pages {
            for line in &page.lines {
                *by_size.entry(tenths(line.size)).or_default() += line.text().len();
            }
            for pair in page.lines.windows(2) {
                let gap = (pair[0].y - pair[1].y) / pair[0].size.max(1.0);
                if (0.8..4.0).contains(&gap) && tenths(pair[0].size) == tenths(pair[1].size) {
                    leadings.push(gap);
                }
            }
        }
        let body =
            by_size.iter().max_by_key(|(size, chars)| (**chars, **size)).map_or(10.0, |(size, _)| *size as f32 / 10.0);
        leadings.sort_by(f32::total_cmp);
        // The lower quartile: gaps between paragraphs must not count.
        let leading = leadings.get(leadings.len() / 4).copied().unwrap_or(1.2);
        let mut sizes: Vec<i32> =
            by_size.into_keys().filter(|size| *size as f32 / 10.0 >= body * HEADING_SIZE).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let bookmarks = outline
            .iter()
            .map(|mark| ((mark.page, squeezed(&mark.title)), mark.level))
            .filter(|((_, t), _)| !t.is_empty());
        Self { body, leading, sizes, bookmarks: bookmarks.collect() }
    }

    /// The level that the bookmarks give this text.
    fn bookmarked(&self, text: &str, page: u32) -> Option<u8> {
        if self.bookmarks.is_empty() || text.len() > 4 * HEADING_CHARS {
            return None;
        }
        self.bookmarks.get(&(page, squeezed(text))).copied()
    }

    /// The level of a heading with type of this size; `None` for the body's.
    fn level(&self, size: f32) -> Option<u8> {
        let rank = self.sizes.iter().position(|known| *known == tenths(size))?;
        Some(u8::try_from(rank + 1).unwrap_or(u8::MAX).min(4))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a size in points; a senseless one is capped, and senseless still")]
fn tenths(size: f32) -> i32 {
    (size * 10.0).round() as i32
}

/// Letters and digits only, lower case, without a section number: how titles are compared.
fn squeezed(text: &str) -> String {
    let text = text.trim_start();
    let text =
        text.split_once(char::is_whitespace).filter(|(first, _)| is_number(first)).map_or(text, |(_, rest)| rest);
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A section number: `2`, `2.1.`, `A.3`.
fn is_number(word: &str) -> bool {
    let mut parts = word.trim_end_matches('.').split('.');
    let digits = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let letter = |part: &str| part.len() == 1 && part.bytes().all(|byte| byte.is_ascii_uppercase());
    parts.next().is_some_and(|first| digits(first) || letter(first) && word.contains('.')) && parts.all(digits)
}

/// Lines that belong together.
#[derive(Debug)]
struct Open {
    shape: Shape,
    page: u32,
    lines: Vec<Line>,
    /// Lines that are the first of another page, with its number.
    turns: Vec<(usize, u32)>,
    /// Where its widest line ends.
    right: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Prose,
    Item,
    Code,
    Table,
}

#[derive(Debug)]
struct Writer<'a> {
    builder: Builder,
    style: &'a Style,
    open: Option<Open>,
    /// The largest heading of the first page that has one.
    title: Option<(f32, String)>,
}

impl Writer<'_> {
    fn line(&mut self, line: &Line, page: u32) {
        let shape = self.shape(line);
        if let Some(grid) = line.grid {
            self.row(grid, line, page);
            return;
        }
        // A bookmarked line is a heading of its own, whatever its type and distance.
        if self.style.bookmarked(&line.text(), page).is_some() {
            self.close();
            self.open = Some(Open::new(Shape::Prose, page, line));
            self.close();
            return;
        }
        if let Some(open) = &mut self.open
            && open.goes_on(line, shape, page, self.style)
        {
            open.push(line, page);
            return;
        }
        self.close();
        self.open = Some(Open::new(shape, page, line));
    }

    /// A row of a ruled table: rows of one table belong together whatever their places are.
    fn row(&mut self, grid: usize, line: &Line, page: u32) {
        match &mut self.open {
            Some(open) if open.page == page && open.lines.last().is_some_and(|last| last.grid == Some(grid)) => {
                open.push(line, page);
            }
            _ => {
                self.close();
                self.open = Some(Open::new(Shape::Table, page, line));
            }
        }
    }

    fn shape(&self, line: &Line) -> Shape {
        if line.mono {
            Shape::Code
        } else if line.cells.len() >= 3 && line.size < self.style.body * HEADING_SIZE {
            Shape::Table
        } else if item(&line.text()).is_some() && line.size < self.style.body * HEADING_SIZE {
            Shape::Item
        } else {
            Shape::Prose
        }
    }

    /// Writes the open block.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.builder.page(open.page);
        match open.shape {
            Shape::Code => {
                let (text, turns) = open.code(self.style);
                self.builder.code(&text);
                self.turn(&text, &turns, |rest| clean_code(rest).trim_end().len());
            }
            Shape::Table if open.lines.len() >= 2 || open.lines[0].grid.is_some() => {
                self.builder.table(&open.lines.iter().map(|line| line.cells.clone()).collect::<Vec<_>>());
            }
            shape => {
                let (prose, turns) = open.prose();
                let text = without_leaders(&prose);
                if let Some(level) = self.heading(&open, &text) {
                    let size = open.lines[0].size;
                    if open.page <= 2 && self.title.as_ref().is_none_or(|(largest, _)| size > *largest + 0.5) {
                        self.title = super::title(&text).map(|title| (size, title));
                    }
                    self.builder.heading(level, &text);
                } else if let Some((marker, rest)) = item(&text).filter(|_| shape == Shape::Item) {
                    self.builder.item(1, marker, rest);
                } else {
                    self.builder.paragraph(&text);
                }
                self.turn(&prose, &turns, |rest| clean_prose(&without_leaders(rest)).len());
            }
        }
    }

    /// Marks in the block just written where further pages begin: at these offsets of its `text`, of which what stands behind
    /// has `written` bytes once it is clean.
    fn turn(&mut self, text: &str, turns: &[(usize, u32)], written: impl Fn(&str) -> usize) {
        for ((_, page), tail) in turns.iter().zip(tails(text, turns, written)) {
            self.builder.page_turn(tail, *page);
        }
    }

    fn heading(&self, open: &Open, text: &str) -> Option<u8> {
        let text = clean_prose(text);
        if text.chars().count() > HEADING_CHARS || text.chars().filter(|c| c.is_alphabetic()).count() < 2 {
            return None;
        }
        if let Some(level) = self.style.bookmarked(&text, open.page) {
            return Some(level);
        }
        if open.lines.iter().all(|line| line.bold) && self.style.bookmarks.is_empty() {
            // `2.1. Scope`: as deep as its number.
            let number = text.split_once(' ').map(|(number, _)| number).filter(|number| is_number(number));
            if let Some(number) = number {
                return u8::try_from(number.trim_end_matches('.').split('.').count()).ok();
            }
        }
        // A document with bookmarks has told all of its headings; larger type is decoration below them.
        let deepest = self.style.bookmarks.values().max().copied().unwrap_or(0);
        let level = self.style.level(open.lines[0].size)?;
        Some(level.saturating_add(if deepest > 0 { deepest } else { 0 }))
    }
}

impl Open {
    fn new(shape: Shape, page: u32, line: &Line) -> Self {
        Self { shape, page, lines: vec![line.clone()], turns: vec![], right: line.right }
    }

    fn push(&mut self, line: &Line, page: u32) {
        if page != self.last_page() {
            self.turns.push((self.lines.len(), page));
        }
        self.right = self.right.max(line.right);
        self.lines.push(line.clone());
    }

    fn last_page(&self) -> u32 {
        self.turns.last().map_or(self.page, |(_, page)| *page)
    }

    /// Whether `line` belongs to this block.
    fn goes_on(&self, line: &Line, shape: Shape, page: u32, style: &Style) -> bool {
        let Some(last) = self.lines.last() else { return false };
        // A line in bold type above lines in plain type is a heading that is no larger than the text.
        if last.grid.is_some() || !line.bold && self.lines.iter().all(|line| line.bold) {
            return false;
        }
        // A little smaller may be a line of capitals; a heading never goes on in the body's type.
        let other_type = style.level(last.size) != style.level(line.size);
        if other_type || (last.size - line.size).abs() > style.body * 0.15 {
            return false;
        }
        let gap = last.y - line.y;
        let leading = last.size * style.leading;
        match (self.shape, shape) {
            (Shape::Code, Shape::Code) => page != self.last_page() || gap < leading * 3.5,
            (Shape::Table, Shape::Table) => page == self.last_page() && gap < leading * 2.5,
            (Shape::Prose | Shape::Item, Shape::Prose)
                if last.bold != line.bold && style.level(last.size).is_some() =>
            {
                false
            }
            (Shape::Prose | Shape::Item, Shape::Prose) => {
                let text = last.text();
                let unfinished = !text.ends_with(['.', '!', '?', ':', ';']);
                let starts_low = line.text().starts_with(|c: char| c.is_lowercase());
                // Another page, or the next column, goes on only in the middle of a sentence.
                if page != self.last_page() || gap < -leading {
                    return unfinished && starts_low;
                }
                let near = gap < leading * 1.28 + 0.5;
                let short = last.right < self.right - last.size * 8.0 && !unfinished;
                let indented =
                    self.shape == Shape::Prose && self.lines.len() > 1 && line.left > last.left + last.size * 0.9;
                near && !short && (unfinished || !indented)
            }
            _ => false,
        }
    }

    /// The lines as one text: words that were broken at line ends are whole again. With the offsets at which pages begin.
    fn prose(&self) -> (String, Vec<(usize, u32)>) {
        let mut out = String::new();
        let mut turns = vec![];
        let mut turned = self.turns.iter().peekable();
        for (at, line) in self.lines.iter().enumerate() {
            let text = line.text();
            let text = text.trim();
            match joint(&out, text) {
                Joint::Space => out.push(' '),
                Joint::Whole => {}
                Joint::DropHyphen => {
                    out.pop();
                }
            }
            turns.extend(turned.next_if(|(first, _)| *first == at).map(|(_, page)| (out.len(), *page)));
            out.push_str(text);
        }
        (out, turns)
    }

    /// The lines with the indentation that their places show, and an empty line where there is a gap.
    /// With the offsets at which pages begin.
    fn code(&self, style: &Style) -> (String, Vec<(usize, u32)>) {
        let mut turns = vec![];
        let mut turned = self.turns.iter().peekable();
        let left = self.lines.iter().map(|line| line.left).fold(f32::INFINITY, f32::min);
        let mut out = String::new();
        for (at, line) in self.lines.iter().enumerate() {
            let text = line.text();
            if at > 0 {
                let gap = (self.lines[at - 1].y - line.y) / line.size.max(1.0);
                out.push_str(if gap > style.leading * 1.6 { "\n\n" } else { "\n" });
            }
            let advance = (line.right - line.left) / text.chars().count().max(1) as f32;
            #[expect(clippy::cast_possible_truncation, reason = "0 to 60")]
            let indent =
                if advance > 0.1 { ((line.left - left) / advance).round().clamp(0.0, 60.0) as usize } else { 0 };
            turns.extend(turned.next_if(|(first, _)| *first == at).map(|(_, page)| (out.len(), *page)));
            out.push_str(&" ".repeat(indent));
            out.push_str(&text);
        }
        (out, turns)
    }
}

/// How many bytes of `text` stand behind each turn once they are clean. Each stretch from turn to turn is cleaned once, with a
/// letter in place of what comes after, which keeps the space before it.
fn tails(text: &str, turns: &[(usize, u32)], written: impl Fn(&str) -> usize) -> Vec<usize> {
    let (mut end, mut tail) = (text.len(), 0);
    let behind = |(at, _): &(usize, u32)| {
        let stretch = &text[*at..end];
        tail += if end == text.len() { written(stretch) } else { written(&format!("{stretch}x")) - 1 };
        end = *at;
        tail
    };
    let mut tails: Vec<usize> = turns.iter().rev().map(behind).collect();
    tails.reverse();
    tails
}

enum Joint {
    Space,
    Whole,
    DropHyphen,
}

/// How two lines of one paragraph meet.
fn joint(before: &str, after: &str) -> Joint {
    let Some(stem) = before.strip_suffix(['-', '\u{2010}', '\u{ad}']) else {
        return if before.is_empty() { Joint::Whole } else { Joint::Space };
    };
    let word = stem.rsplit(char::is_whitespace).next().unwrap_or_default();
    let broken = word.ends_with(char::is_alphabetic) && after.starts_with(char::is_lowercase);
    // `state-of-the-` and `--help-dyn-` have hyphens of their own.
    if broken && !word.contains('-') {
        Joint::DropHyphen
    } else if word.is_empty() {
        Joint::Space
    } else {
        Joint::Whole
    }
}

/// A list item's marker and text.
fn item(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix(['•', '◦', '▪', '■', '●', '‣', '∙', '·']) {
        return (!rest.trim().is_empty()).then_some(("-", rest));
    }
    let (marker, rest) = text.split_once(' ')?;
    let body = marker.strip_prefix(['(', '[']).unwrap_or(marker);
    let number = body.strip_suffix(['.', ')', ']'])?;
    let counted = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    (counted || marker == "–").then_some((marker, rest))
}

/// A table of contents without its dotted lines.
fn without_leaders(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['.', '…']) {
        let run = rest[at..].find(|c: char| !matches!(c, '.' | ' ' | '…')).map_or(rest.len(), |end| at + end);
        let dots = rest[at..run].chars().filter(|c| *c != ' ').count();
        if dots >= 4 {
            out.push_str(rest[..at].trim_end());
            out.push_str(" … ");
        } else {
            out.push_str(&rest[..run]);
        }
        rest = &rest[run..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
