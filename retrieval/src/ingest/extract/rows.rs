//! Rows of values to tables: a long table becomes several blocks, each of which begins with the header, so that no passage
//! has values whose names stand elsewhere.

use crate::text::{Builder, MAX_BLOCK_BYTES};

/// Bytes of a block, roughly: well below the limit, since escapes and bars make rows longer.
const PIECE_BYTES: usize = MAX_BLOCK_BYTES / 2;

/// A table that is being written. The first row that has anything is its header.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    builder: &'a mut Builder,
    header: Option<Vec<String>>,
    piece: Vec<Vec<String>>,
    bytes: usize,
}

impl<'a> Rows<'a> {
    pub(super) const fn new(builder: &'a mut Builder) -> Self {
        Self { builder, header: None, piece: vec![], bytes: 0 }
    }

    /// Adds a row; empty values at its end are padding, and a row of nothing else is none.
    pub(super) fn push(&mut self, mut row: Vec<String>) {
        while row.last().is_some_and(|value| value.trim().is_empty()) {
            row.pop();
        }
        if row.is_empty() {
            return;
        }
        let bytes: usize = row.iter().map(|value| value.len() + 3).sum();
        if self.bytes + bytes > PIECE_BYTES {
            self.flush();
        }
        if self.piece.is_empty()
            && let Some(header) = &self.header
        {
            self.piece.push(header.clone());
        }
        if self.header.is_none() {
            // One that fills a block would be all that there is in each.
            self.header = (bytes < PIECE_BYTES / 8).then(|| row.clone());
        }
        self.bytes += bytes;
        self.piece.push(row);
    }

    fn flush(&mut self) {
        self.builder.table(&self.piece);
        self.piece.clear();
        self.bytes = 0;
    }

    /// Writes what is left.
    pub(super) fn end(mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_a_long_table_has_the_header() {
        let mut builder = Builder::new();
        let mut rows = Rows::new(&mut builder);
        rows.push(vec![String::new(), " ".into()]);
        rows.push(vec!["name".into(), "value".into(), String::new()]);
        (0..5000).for_each(|n| rows.push(vec![format!("number {n}"), n.to_string()]));
        rows.end();
        let document = builder.finish().unwrap();
        assert!(document.blocks.len() > 2);
        for block in &document.blocks {
            assert!(document.slice(block).starts_with("| name | value |\n| number "), "{}", document.slice(block));
        }
        assert_eq!(document.text.matches("number ").count(), 5000);
    }
}
