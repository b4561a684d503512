//! Statements that take a varying number of rows, prepared for a few fixed sizes: what is not bound is NULL.
//!
//! One statement for many rows is what makes the way to the driver's thread and back cheap, and a few fixed texts keep the
//! statements prepared.

/// Rows of one statement, at most.
pub(super) const MAX_ROWS: usize = 1024;

const SIZES: [usize; 5] = [1, 8, 64, 256, MAX_ROWS];

/// One text for each size.
#[derive(Debug)]
pub(super) struct Ladder([&'static str; SIZES.len()]);

impl Ladder {
    /// `{}` in `statement` becomes `(?, …), (?, …)` with this many columns.
    pub(super) fn new(statement: &str, columns: usize) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        // Made once for the life of the process: the driver's cache of prepared statements is keyed by the text.
        Self(SIZES.map(|size| &*statement.replace("{}", &vec![row.as_str(); size].join(", ")).leak()))
    }

    /// The shortest statement with room for `rows`, at most [`MAX_ROWS`].
    pub(super) fn with_room_for(&self, rows: usize) -> &'static str {
        let step = SIZES.iter().position(|size| *size >= rows).unwrap_or(SIZES.len() - 1);
        self.0[step]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_that_has_room() {
        let ladder = Ladder::new("VALUES {}", 2);
        assert_eq!(ladder.with_room_for(1), "VALUES (?, ?)");
        assert_eq!(ladder.with_room_for(8).matches('?').count(), 16);
        assert_eq!(ladder.with_room_for(9).matches('?').count(), 128);
        assert_eq!(ladder.with_room_for(MAX_ROWS).matches('?').count(), 2048);
    }
}
