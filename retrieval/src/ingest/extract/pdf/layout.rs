//! From words with places to lines in reading order. A page is one column or two; two are believed only where a white
//! gap runs down the page between blocks of text, because a wrong column tears every line apart.

/// Words closer than this share of the font size belong together without a space.
const SPACE: f32 = 0.15;
/// A gap of this many font sizes parts cells of a table or columns of a page.
const WIDE: f32 = 1.6;
/// Words whose baselines differ by less than this share of the font size stand on one line.
const SAME_LINE: f32 = 0.45;
/// Lines that must stand beside each other before two columns are believed.
const MIN_BESIDE: usize = 8;

/// A run of text with one font, in points, y upwards.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) width: f32,
    pub(super) size: f32,
    pub(super) mono: bool,
    pub(super) bold: bool,
}

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) number: u32,
    pub(super) height: f32,
    pub(super) lines: Vec<Line>,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its pieces, parted by wide gaps: one for prose, several for a table's row.
    pub(super) cells: Vec<String>,
    pub(super) left: f32,
    pub(super) right: f32,
    pub(super) y: f32,
    /// The font size of most of it.
    pub(super) size: f32,
    /// Whether all of it has fixed width.
    pub(super) mono: bool,
    /// Whether all of it is bold.
    pub(super) bold: bool,
    /// The ruled table on its page that it is a row of.
    pub(super) grid: Option<usize>,
}

impl Line {
    /// Its text, cells parted by a space.
    pub(super) fn text(&self) -> String {
        self.cells.join(" ")
    }
}

/// Words that stand on one line with no wide gap between them.
#[derive(Debug)]
struct Segment {
    words: Vec<Word>,
    left: f32,
    right: f32,
}

/// The words that stand in a cell, in the order of reading.
pub(super) fn text(words: Vec<Word>) -> String {
    let lines: Vec<String> = rows(words).into_iter().map(|row| line(&segments(row)).text()).collect();
    lines.join("\n")
}

/// The lines of a page in reading order.
pub(super) fn lines(mut words: Vec<Word>) -> Vec<Line> {
    words.retain(|word| {
        !word.text.trim().is_empty() && [word.x, word.y, word.width, word.size].iter().all(|n| n.is_finite())
    });
    let rows: Vec<Vec<Segment>> = rows(words).into_iter().map(segments).collect();
    let Some(gutter) = gutter(&rows) else { return rows.iter().map(|row| line(row)).collect() };
    let (mut out, mut left, mut right) = (vec![], vec![], vec![]);
    for row in rows {
        if row.iter().any(|segment| segment.left < gutter && segment.right > gutter) {
            out.append(&mut left);
            out.append(&mut right);
            out.push(line(&row));
            continue;
        }
        let (first, second): (Vec<_>, Vec<_>) = row.into_iter().partition(|segment| segment.right <= gutter);
        left.extend((!first.is_empty()).then(|| line(&first)));
        right.extend((!second.is_empty()).then(|| line(&second)));
    }
    out.append(&mut left);
    out.append(&mut right);
    out
}

/// Words by line, top to bottom. Superscripts and subscripts stand on the line of their neighbours.
fn rows(mut words: Vec<Word>) -> Vec<Vec<Word>> {
    words.sort_by(|a, b| b.y.total_cmp(&a.y).then(a.x.total_cmp(&b.x)));
    let mut rows: Vec<(f32, f32, Vec<Word>)> = vec![];
    for word in words {
        match rows.last_mut() {
            Some((y, size, row)) if *y - word.y < SAME_LINE * size.max(word.size) => {
                // The largest font sets the baseline.
                if word.size > *size * 1.05 {
                    (*y, *size) = (word.y, word.size);
                }
                row.push(word);
            }
            _ => rows.push((word.y, word.size, vec![word])),
        }
    }
    rows.into_iter().map(|(_, _, row)| row).collect()
}

fn segments(mut row: Vec<Word>) -> Vec<Segment> {
    row.sort_by(|a, b| a.x.total_cmp(&b.x));
    let mut out: Vec<Segment> = vec![];
    for word in row {
        let right = word.x + word.width;
        match out.last_mut() {
            Some(last) if word.x - last.right < WIDE * word.size => {
                last.right = last.right.max(right);
                last.words.push(word);
            }
            _ => out.push(Segment { left: word.x, right, words: vec![word] }),
        }
    }
    out
}

/// Where the white gap between two columns runs, if there is one.
fn gutter(rows: &[Vec<Segment>]) -> Option<f32> {
    let all = || rows.iter().flatten();
    let left = all().map(|segment| segment.left).fold(f32::INFINITY, f32::min);
    let right = all().map(|segment| segment.right).fold(f32::NEG_INFINITY, f32::max);
    let width = right - left;
    let beside = |at: f32| {
        let sides = |row: &&Vec<Segment>| {
            row.iter().any(|segment| segment.right <= at) && row.iter().any(|segment| segment.left >= at)
        };
        rows.iter().filter(sides).count()
    };
    let crossing = |at: f32| all().filter(|segment| segment.left < at && segment.right > at).count();
    let best = (0_u8..=40).map(|step| left + width * (0.3 + f32::from(step) * 0.01)).min_by_key(|at| crossing(*at))?;
    let (beside, crossing) = (beside(best), crossing(best));
    if beside < MIN_BESIDE || crossing * 3 > beside {
        return None;
    }
    // Columns of prose fill their width; numbers and labels beside a table's cells do not.
    let mean = |side: &dyn Fn(&&Segment) -> bool| {
        let widths: Vec<f32> = all().filter(|s| side(s)).map(|segment| segment.right - segment.left).collect();
        widths.iter().sum::<f32>() / widths.len().max(1) as f32
    };
    let wide = width * 0.28;
    (mean(&|segment| segment.right <= best) >= wide && mean(&|segment| segment.left >= best) >= wide).then_some(best)
}

fn line(row: &[Segment]) -> Line {
    let words = || row.iter().flat_map(|segment| &segment.words);
    let letters = |word: &Word| word.text.chars().filter(|c| !c.is_whitespace()).count();
    let total: usize = words().map(letters).sum();
    let share = |has: &dyn Fn(&Word) -> bool| words().filter(|word| has(word)).map(letters).sum::<usize>();
    // The longest run tells the size: small capitals and superscripts must not.
    let main = words().max_by_key(|word| letters(word));
    let mono = total > 0 && share(&|word| word.mono) == total;
    Line {
        left: row.first().map_or(0.0, |segment| segment.left),
        right: row.last().map_or(0.0, |segment| segment.right),
        y: main.map_or(0.0, |word| word.y),
        size: main.map_or(0.0, |word| word.size),
        mono,
        bold: total > 0 && share(&|word| word.bold) == total,
        grid: None,
        cells: if mono { vec![spaced(row)] } else { row.iter().map(joined).collect() },
    }
}

/// The words of a segment, with a space wherever there is a visible gap.
fn joined(segment: &Segment) -> String {
    let mut out = String::new();
    let mut last: Option<&Word> = None;
    for word in &segment.words {
        let gap = last.is_some_and(|last| word.x - last.x - last.width > SPACE * last.size.max(word.size));
        if gap && !out.ends_with(' ') && !word.text.starts_with(' ') {
            out.push(' ');
        }
        out.push_str(&word.text);
        last = Some(word);
    }
    out.trim().to_owned()
}

/// A line of fixed width with its columns kept.
fn spaced(row: &[Segment]) -> String {
    let mut out = String::new();
    let mut end: Option<f32> = None;
    for word in row.iter().flat_map(|segment| &segment.words) {
        let advance = word.width / word.text.chars().count().max(1) as f32;
        if let Some(end) = end
            && advance > 0.1
        {
            let spaces = ((word.x - end) / advance).round().clamp(0.0, 80.0);
            #[expect(clippy::cast_possible_truncation, reason = "0 to 80")]
            (0..spaces as usize).for_each(|_| out.push(' '));
        }
        out.push_str(&word.text);
        end = Some(word.x + word.width);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(x: f32, y: f32, text: &str) -> Word {
        Word { text: text.into(), x, y, width: text.len() as f32 * 5.0, size: 10.0, mono: false, bold: false }
    }

    fn texts(words: Vec<Word>) -> Vec<String> {
        lines(words).iter().map(Line::text).collect()
    }

    #[test]
    fn two_columns_are_read_one_after_the_other() {
        let mut words = vec![word(50.0, 700.0, &"a title over both of the columns of this page ".repeat(2))];
        for row in 0_u8..10 {
            let y = 680.0 - f32::from(row) * 12.0;
            words.push(word(50.0, y, &format!("left column, line {row}, which goes on")));
            words.push(word(300.0, y, &format!("right column, line {row}, that goes on")));
        }
        let texts = texts(words);
        assert_eq!(texts.len(), 21);
        assert!(texts[1].starts_with("left column, line 0") && texts[10].starts_with("left column, line 9"));
        assert!(texts[11].starts_with("right column, line 0"));
    }

    #[test]
    fn words_join_to_lines_and_rows_keep_their_cells() {
        let found = lines(vec![
            word(50.0, 100.0, "The"),
            word(67.0, 100.0, "same"),
            Word { size: 6.0, ..word(88.0, 103.0, "2") },
            word(50.0, 80.0, "cell"),
            word(150.0, 80.0, "other"),
            word(250.0, 80.0, "third"),
        ]);
        assert_eq!(
            found.iter().map(|line| line.cells.clone()).collect::<Vec<_>>(),
            [vec!["The same2".to_owned()], vec!["cell".to_owned(), "other".to_owned(), "third".to_owned()]]
        );
    }

    #[test]
    fn a_page_with_numbers_on_the_right_has_one_column() {
        let words = (0_u8..20).flat_map(|row| {
            let y = 700.0 - f32::from(row) * 12.0;
            [word(50.0, y, "An entry of the table of contents"), word(500.0, y, "12")]
        });
        assert_eq!(texts(words.collect()).len(), 20);
    }
}
