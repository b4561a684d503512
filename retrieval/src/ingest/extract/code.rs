//! Source code: each top-level item with the comment above it is a block, its lines and indentation kept.

use lmao_events::Failure;

use super::{Extraction, finish};
use crate::text::Builder;

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    let mut builder = Builder::new();
    let (mut start, mut at) = (0, 0);
    let mut after_empty = false;
    for line in text.split_inclusive('\n') {
        let empty = line.trim().is_empty();
        // A closing brace or keyword at the margin ends an item, it begins none.
        let begins = line.starts_with(|c: char| !c.is_whitespace() && !"})]".contains(c));
        if after_empty && begins && !empty {
            builder.code(&text[start..at]);
            start = at;
        }
        after_empty = empty;
        at += line.len();
    }
    builder.code(&text[start..]);
    finish(builder, None, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_whole() {
        let code = "use a;\nuse b;\n\n/// Adds.\nfn add() {\n    one();\n\n    two();\n}\n\n#[test]\nfn t() {}\n";
        let found = extract(code).unwrap().document;
        let blocks: Vec<_> = found.blocks.iter().map(|block| found.slice(block)).collect();
        assert_eq!(
            blocks,
            ["use a;\nuse b;", "/// Adds.\nfn add() {\n    one();\n\n    two();\n}", "#[test]\nfn t() {}"]
        );
        assert_eq!(found.text, code.trim_end());
    }
}
