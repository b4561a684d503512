//! Lines that are part of the print, not of the text: running headers and footers, page numbers, tables of contents.

use std::collections::HashMap;

use super::layout::{Line, Page};

/// Running headers and footers lie within this share of the page's height.
const MARGIN: f32 = 0.12;
/// Pages on which something repeats.
const REPEATED: usize = 3;

/// Removes all of them.
pub(super) fn drop(pages: &mut [Page]) {
    // A header may take two lines.
    for _ in 0..2 {
        drop_running(pages, Edge::Top);
        drop_running(pages, Edge::Bottom);
    }
    drop_contents(pages);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Top,
    Bottom,
}

/// Removes the outermost line of each page where many pages have one at the same height that stands apart or repeats.
fn drop_running(pages: &mut [Page], edge: Edge) {
    let outermost = |page: &Page| {
        let compare = |a: &(usize, &Line), b: &(usize, &Line)| a.1.y.total_cmp(&b.1.y);
        let lines = page.lines.iter().enumerate();
        if edge == Edge::Top { lines.max_by(compare) } else { lines.min_by(compare) }.map(|(at, _)| at)
    };
    let in_margin = |page: &Page, line: &Line| match edge {
        Edge::Top => line.y > page.height * (1.0 - MARGIN),
        Edge::Bottom => line.y < page.height * MARGIN,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a page is at most some thousand points high; far out is far out"
    )]
    let height = |line: &Line| (line.y / 3.0).round() as i32;
    let shape =
        |line: &Line| -> String { line.text().chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect() };
    let mut heights: HashMap<i32, usize> = HashMap::new();
    let mut shapes: HashMap<String, usize> = HashMap::new();
    let mut numbered: HashMap<i64, usize> = HashMap::new();
    for page in pages.iter() {
        if let Some(line) = outermost(page).map(|at| &page.lines[at]).filter(|line| in_margin(page, line)) {
            *heights.entry(height(line)).or_default() += 1;
            *shapes.entry(shape(line)).or_default() += 1;
            if let Some(ahead) = ahead(page, line) {
                *numbered.entry(ahead).or_default() += 1;
            }
        }
    }
    let usual = REPEATED.max(pages.len() * 4 / 10);
    for page in pages {
        let Some(at) = outermost(page) else { continue };
        let line = &page.lines[at];
        if !in_margin(page, line) {
            continue;
        }
        let gap = page.lines.iter().enumerate().filter(|(other, _)| *other != at);
        let gap = gap.map(|(_, other)| (other.y - line.y).abs()).fold(f32::INFINITY, f32::min);
        let placed = heights.get(&height(line)).is_some_and(|count| *count >= usual);
        let repeated = shapes.get(&shape(line)).is_some_and(|count| *count >= REPEATED);
        // What is alone on its page stands apart from nothing: it is the page's text.
        let stands_apart = gap.is_finite() && gap > line.size * 1.7;
        // A lone number is a page's if it counts the pages; else it may be a year, or whatever a slide shows.
        let counts = ahead(page, line)
            .is_some_and(|ahead| ahead == 0 || numbered.get(&ahead).is_some_and(|count| *count >= REPEATED));
        if placed && (repeated || stands_apart) || stands_apart && counts {
            page.lines.remove(at);
        }
    }
}

/// How far a line that is but a number is ahead of the page that it stands on.
fn ahead(page: &Page, line: &Line) -> Option<i64> {
    let text = line.text();
    let digits = text.trim_matches(['-', '–', ' ']);
    let is_number = (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<i64>().ok().filter(|_| is_number).map(|number| number - i64::from(page.number))
}

/// Removes tables of contents: lines that end in dots and a number. They match every question about the document and
/// answer none.
fn drop_contents(pages: &mut [Page]) {
    let is_entry = |line: &Line| {
        let text = line.text();
        let start = text.trim_end_matches(|c: char| c.is_ascii_digit() || c.is_whitespace());
        let dots = start.chars().rev().take_while(|c| matches!(c, '.' | ' ' | '…')).filter(|c| *c != ' ').count();
        dots >= 4 && start.len() < text.trim_end().len()
    };
    let of = |page: &Page| page.lines.iter().filter(|line| is_entry(line)).count();
    let (entries, lines): (usize, usize) =
        pages.iter().map(|page| (of(page), page.lines.len())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    if entries * 2 > lines {
        return;
    }
    for page in pages {
        if of(page) >= 4 {
            page.lines.retain(|line| !is_entry(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u32, lines: &[(f32, String)]) -> Page {
        let line = |(y, text): &(f32, String)| Line {
            cells: vec![text.clone()],
            left: 50.0,
            right: 500.0,
            y: *y,
            size: 10.0,
            mono: false,
            bold: false,
            grid: None,
        };
        Page { number, height: 800.0, lines: lines.iter().map(line).collect() }
    }

    fn text(pages: &[Page]) -> Vec<String> {
        pages.iter().flat_map(|page| &page.lines).map(Line::text).collect()
    }

    #[test]
    fn what_repeats_in_the_margin_is_no_text() {
        let mut pages: Vec<Page> = (1..=4)
            .map(|n| {
                page(
                    n,
                    &[(780.0, format!("The manual {n}")), (700.0, format!("Text of page {n}")), (40.0, format!("{n}"))],
                )
            })
            .collect();
        drop(&mut pages);
        assert_eq!(text(&pages), (1..=4).map(|n| format!("Text of page {n}")).collect::<Vec<_>>());
        let mut one = [page(1, &[(780.0, "A letter".into()), (700.0, "Dear reader".into())])];
        drop(&mut one);
        assert_eq!(text(&one), ["A letter", "Dear reader"]);
    }

    #[test]
    fn lone_numbers_go_only_where_they_count_the_pages() {
        let slide = |n: u8, number: &str| {
            page(n.into(), &[(400.0, format!("Slide {n}")), (40.0 + f32::from(n) * 9.0, number.into())])
        };
        let left = |numbers: &[&str]| {
            let mut pages: Vec<Page> = (1..).zip(numbers).map(|(n, number)| slide(n, number)).collect();
            drop(&mut pages);
            text(&pages).into_iter().filter(|line| !line.starts_with("Slide")).collect::<Vec<_>>()
        };
        assert_eq!(left(&["2024", "42", "7"]), ["2024", "42", "7"]);
        assert_eq!(left(&["1", "2024", "- 3 -"]), ["2024"]);
        assert_eq!(left(&["117", "118", "119"]), [""; 0]);
    }

    #[test]
    fn pages_of_one_line_each_keep_it() {
        let slides = ["Welcome", "What we sell", "Questions"];
        let mut pages: Vec<Page> = (1..).zip(slides).map(|(n, title)| page(n, &[(780.0, title.into())])).collect();
        drop(&mut pages);
        assert_eq!(text(&pages), slides);
    }

    #[test]
    fn a_table_of_contents_goes_unless_it_is_all_there_is() {
        let entries =
            |y: f32| (0_u8..5).map(move |n| (y - f32::from(n) * 12.0, format!("Chapter {n} . . . . . . {n}")));
        let mut only = [page(1, &entries(600.0).collect::<Vec<_>>())];
        drop(&mut only);
        assert_eq!(text(&only).len(), 5);
        let body = (0_u8..9).map(|n| (500.0 - f32::from(n) * 12.0, format!("Line {n} of the text.")));
        let mut both = [page(1, &entries(600.0).chain(body).collect::<Vec<_>>())];
        drop(&mut both);
        assert_eq!(text(&both).len(), 9);
    }
}
