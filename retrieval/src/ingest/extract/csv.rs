//! Tables of values (RFC 4180, with whatever delimiter is used): one table, each block of which begins with the header.

use lmao_events::Failure;

use super::{Extraction, finish, rows::Rows};
use crate::{
    ingest::detect::{HEAD_BYTES, Known, delimiter},
    text::Builder,
};

/// Values of a row that are read: what has more is no table of text, and each value costs memory even if it is empty.
const MAX_COLUMNS: usize = 1000;

pub(super) fn extract(text: &str) -> Result<Extraction, Failure> {
    let head = &text[..text.floor_char_boundary(HEAD_BYTES)];
    let delimiter = delimiter(head, Known::of(head.len(), text.len()));
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter.unwrap_or(b','))
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut builder = Builder::new();
    let mut rows = Rows::new(&mut builder);
    let mut width = None;
    let (mut uneven, mut cut) = (0_usize, 0_usize);
    for record in reader.records() {
        // The text is UTF-8 and lengths may differ: nothing else can be wrong.
        let Ok(record) = record else { continue };
        uneven += usize::from(*width.get_or_insert(record.len()) != record.len());
        cut += usize::from(record.len() > MAX_COLUMNS);
        rows.push(record.iter().take(MAX_COLUMNS).map(str::to_owned).collect());
    }
    rows.end();
    let mut extraction = finish(builder, None, None)?;
    if uneven > 0 {
        extraction.warnings.push(format!("{uneven} rows have more or fewer values than the first"));
    }
    if cut > 0 {
        let warning = format!("{cut} rows have more than {MAX_COLUMNS} values; the further ones were left out");
        extraction.warnings.push(warning);
    }
    Ok(extraction)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::ingest::extract::tests::outline;

    #[test]
    fn rows_become_a_table_whatever_the_delimiter() {
        let found = extract("name;note\nTea;\"hot; \"\"green\"\"\nor black\"\n\nMilk;cold;extra\n").unwrap();
        expect![[r#"
            table "| name | note |\n| Tea | hot; \"green\" or black |\n| Milk | cold | extra |"
        "#]]
        .assert_eq(&outline(&found.document));
        assert_eq!(found.warnings, ["1 rows have more or fewer values than the first"]);
        assert_eq!(extract("a\tb\n1\t2\n").unwrap().document.text, "| a | b |\n| 1 | 2 |");
        assert_eq!(extract("one\ntwo\n").unwrap().document.text, "| one |\n| two |");
    }

    #[test]
    fn of_a_very_wide_row_the_first_values_are_read() {
        let row = |value: &str| vec![value; MAX_COLUMNS + 500].join(",");
        let found = extract(&format!("{}\n{}\na\n", row("x"), row("y"))).unwrap();
        let count = |what: &str| found.document.text.matches(what).count();
        assert_eq!([count("x"), count("y"), count("a")], [MAX_COLUMNS, MAX_COLUMNS, 1]);
        let warning = "2 rows have more than 1000 values; the further ones were left out";
        assert!(found.warnings.iter().any(|told| told == warning), "{:?}", found.warnings);
    }
}
