//! Ruled tables: lines drawn on a page that cross to a grid, and the words in its cells. What looks like a table without
//! ruling lines is found by the gaps between words.

use std::collections::HashSet;

use pdf_oxide::elements::{PathContent, PathOperation};

use super::layout::{Line, Word, text};

/// Rulings of a page that are looked at: drawings have more, and are none.
const MAX_RULINGS: usize = 3000;
/// Tables on a page.
const MAX_GRIDS: usize = 50;
/// Columns and rows that a table may have.
const MAX_LINES: usize = 200;
/// Rulings nearer than this, in points, are one; their ends may miss each other by as much.
const NEAR: f32 = 3.0;
/// A ruling is at least this long, in points; shorter ones are strokes of letters and marks.
const MIN_LENGTH: f32 = 6.0;
/// What is filled and thinner than this is a line.
const THIN: f32 = 2.5;

/// A line along one axis: `at` is its place on the other.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ruling {
    at: f32,
    from: f32,
    to: f32,
}

/// A table: where its columns and rows begin and end, from left to right and from top to bottom.
#[derive(Debug, PartialEq)]
pub(super) struct Grid {
    columns: Vec<f32>,
    rows: Vec<f32>,
}

/// The tables that these paths draw.
pub(super) fn grids(paths: &[PathContent]) -> Vec<Grid> {
    let (mut across, mut down) = (vec![], vec![]);
    for path in paths {
        rulings(&path.operations, &mut across, &mut down);
        if across.len() + down.len() > MAX_RULINGS {
            return vec![];
        }
    }
    if across.len() < 2 || down.len() < 2 {
        return vec![];
    }
    let mut found = vec![];
    while let Some(seed) = down.pop()
        && found.len() < MAX_GRIDS
    {
        let (mut columns, mut rows) = (vec![seed], vec![]);
        // What touches what belongs to it, until nothing more does. Each ruling is asked once.
        let (mut asked_columns, mut asked_rows) = (0, 0);
        while asked_columns < columns.len() || asked_rows < rows.len() {
            take(&mut across, &mut rows, &columns[asked_columns..]);
            asked_columns = columns.len();
            take(&mut down, &mut columns, &rows[asked_rows..]);
            asked_rows = rows.len();
        }
        let (columns, mut rows) = (places(&columns), places(&rows));
        rows.reverse();
        let cells = columns.len().saturating_sub(1) * rows.len().saturating_sub(1);
        if columns.len() >= 3 && cells >= 2 && columns.len() <= MAX_LINES && rows.len() <= MAX_LINES {
            found.push(Grid { columns, rows });
        }
    }
    found
}

/// Moves the rulings that meet any of `others` from `rest` to `taken`.
fn take(rest: &mut Vec<Ruling>, taken: &mut Vec<Ruling>, others: &[Ruling]) {
    let meets = |ruling: &Ruling| {
        others.iter().any(|other| {
            (ruling.from - NEAR..=ruling.to + NEAR).contains(&other.at)
                && (other.from - NEAR..=other.to + NEAR).contains(&ruling.at)
        })
    };
    taken.extend(rest.extract_if(.., |ruling| meets(ruling)));
}

/// The places of rulings, in order, near ones once.
fn places(rulings: &[Ruling]) -> Vec<f32> {
    let mut places: Vec<f32> = rulings.iter().map(|ruling| ruling.at).collect();
    places.sort_by(f32::total_cmp);
    places.dedup_by(|next, last| *next - *last < NEAR);
    places
}

/// The lines along the axes of a path.
fn rulings(operations: &[PathOperation], across: &mut Vec<Ruling>, down: &mut Vec<Ruling>) {
    let mut add = |x0: f32, y0: f32, x1: f32, y1: f32| {
        let (width, height) = ((x1 - x0).abs(), (y1 - y0).abs());
        if ![x0, y0, x1, y1].iter().all(|n| n.is_finite()) {
        } else if height < THIN && width >= MIN_LENGTH {
            across.push(Ruling { at: f32::midpoint(y0, y1), from: x0.min(x1), to: x0.max(x1) });
        } else if width < THIN && height >= MIN_LENGTH {
            down.push(Ruling { at: f32::midpoint(x0, x1), from: y0.min(y1), to: y0.max(y1) });
        }
    };
    let (mut start, mut at) = ((0.0, 0.0), (0.0, 0.0));
    for operation in operations {
        match operation {
            PathOperation::MoveTo(x, y) => (start, at) = ((*x, *y), (*x, *y)),
            PathOperation::LineTo(x, y) => {
                add(at.0, at.1, *x, *y);
                at = (*x, *y);
            }
            PathOperation::CurveTo(.., x, y) => at = (*x, *y),
            PathOperation::ClosePath => {
                add(at.0, at.1, start.0, start.1);
                at = start;
            }
            PathOperation::Rectangle(x, y, width, height) if width.abs() < THIN || height.abs() < THIN => {
                add(*x, *y, x + width, y + height);
            }
            PathOperation::Rectangle(x, y, width, height) => {
                let (right, top) = (x + width, y + height);
                add(*x, *y, right, *y);
                add(*x, top, right, top);
                add(*x, *y, *x, top);
                add(right, *y, right, top);
            }
        }
    }
}

impl Grid {
    /// Which cell a word stands in, by its middle: row and column.
    fn cell(&self, word: &Word) -> Option<(usize, usize)> {
        let (x, y) = (word.x + word.width / 2.0, word.y + word.size * 0.3);
        let column = self.columns.iter().rposition(|left| *left <= x).filter(|at| at + 1 < self.columns.len())?;
        let row = self.rows.iter().rposition(|top| *top >= y).filter(|at| at + 1 < self.rows.len())?;
        Some((row, column))
    }

    /// Takes the words in the cells and makes a line of each row. `None`, and all words stay, where it holds no table: a frame
    /// around text, or a drawing.
    fn fill(&self, words: &mut Vec<Word>, number: usize) -> Option<Vec<Line>> {
        let (width, height) = (self.columns.len() - 1, self.rows.len() - 1);
        let filled: HashSet<(usize, usize)> = words.iter().filter_map(|word| self.cell(word)).collect();
        let columns: HashSet<usize> = filled.iter().map(|(_, column)| *column).collect();
        if columns.len() < 2 || filled.len() < 3 {
            return None;
        }
        let mut cells: Vec<Vec<Word>> = vec![vec![]; width * height];
        words.retain(|word| match self.cell(word) {
            Some((row, column)) => {
                cells[row * width + column].push(word.clone());
                false
            }
            None => true,
        });
        let mut lines = vec![];
        for (row, cells) in cells.chunks(width).enumerate() {
            let Some(first) = cells.iter().flatten().next() else { continue };
            lines.push(Line {
                left: self.columns[0],
                right: self.columns[width],
                y: self.rows[row + 1],
                size: first.size,
                mono: false,
                bold: false,
                grid: Some(number),
                cells: cells.iter().map(|words| text(words.clone())).collect(),
            });
        }
        Some(lines)
    }
}

/// The rows of all tables, whose words are taken from `words`.
pub(super) fn rows(grids: &[Grid], words: &mut Vec<Word>) -> Vec<Vec<Line>> {
    let filled = grids.iter().enumerate().filter_map(|(number, grid)| grid.fill(words, number));
    filled.filter(|rows| !rows.is_empty()).collect()
}

/// Puts the rows of a table where they are read: by their height on a page of one column; else before the first line below or
/// behind the last line above that stands in the same column.
pub(super) fn insert(lines: &mut Vec<Line>, rows: Vec<Line>) {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
    let beside = |line: &Line| line.left < first.right && line.right > first.left;
    let below = |line: &Line| line.y < last.y + line.size;
    let one_column = lines.windows(2).all(|pair| pair[1].y <= pair[0].y + pair[0].size);
    let at = if one_column {
        lines.iter().position(below)
    } else {
        let before = lines.iter().position(|line| below(line) && beside(line));
        before.or_else(|| lines.iter().rposition(|line| !below(line) && beside(line)).map(|at| at + 1))
    };
    let at = at.unwrap_or(lines.len());
    lines.splice(at..at, rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(x: f32, y: f32, text: &str) -> Word {
        Word { text: text.into(), x, y, width: text.len() as f32 * 5.0, size: 10.0, mono: false, bold: false }
    }

    /// The rulings of a table whose cells are 100 by 30 points, its upper left corner at (50, 700).
    fn ruled(columns: u8, rows: u8) -> Vec<PathOperation> {
        let (right, bottom) = (50.0 + f32::from(columns) * 100.0, 700.0 - f32::from(rows) * 30.0);
        let mut out = vec![];
        for row in 0..=rows {
            let y = 700.0 - f32::from(row) * 30.0;
            out.extend([PathOperation::MoveTo(50.0, y), PathOperation::LineTo(right, y)]);
        }
        for column in 0..=columns {
            out.push(PathOperation::Rectangle(50.0 + f32::from(column) * 100.0, bottom, 0.5, 700.0 - bottom));
        }
        out
    }

    fn of(operations: &[PathOperation]) -> Vec<Grid> {
        grids(&[PathContent::from_operations(operations.to_vec())])
    }

    #[test]
    fn words_stand_in_the_cells_that_are_drawn_around_them() {
        let grids = of(&ruled(2, 2));
        let mut words = vec![
            word(60.0, 720.0, "above"),
            word(60.0, 685.0, "name"),
            word(160.0, 685.0, "note"),
            word(60.0, 655.0, "tea"),
            word(160.0, 658.0, "hot and"),
            word(160.0, 646.0, "green"),
        ];
        let tables = rows(&grids, &mut words);
        let cells: Vec<_> = tables[0].iter().map(|line| line.cells.clone()).collect();
        assert_eq!(cells, [["name", "note"], ["tea", "hot and\ngreen"]]);
        assert_eq!(words.len(), 1);
        let mut lines = super::super::layout::lines(vec![word(60.0, 720.0, "above"), word(60.0, 600.0, "below")]);
        insert(&mut lines, tables.into_iter().next().unwrap());
        let order: Vec<_> = lines.iter().map(|line| line.cells[0].as_str()).collect();
        assert_eq!(order, ["above", "name", "tea", "below"]);
    }

    #[test]
    fn a_frame_is_no_table() {
        assert_eq!(of(&ruled(1, 1)), []);
        let mut words = vec![word(60.0, 685.0, "all words"), word(60.0, 655.0, "in one column")];
        assert!(rows(&of(&ruled(2, 2)), &mut words).is_empty());
        assert_eq!(words.len(), 2);
    }
}
