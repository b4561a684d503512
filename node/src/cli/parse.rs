//! Values of the command line, refused in words that say what was expected: libraries' own speak of formats.

use clap::ValueEnum as _;
use lmao_events::{Category, ParseError, StreamId, document::MAX_TAG_BYTES};
use lmao_ports::Filter;
use uuid::Uuid;

use super::SearchKey;

/// `KEY=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, for example models=off")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// What is asked or looked for: something.
pub(super) fn words(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

/// The id of a document or a session.
pub(super) fn id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| "an id looks like 0190a9c2-7d3e-7c44-b0a1-5d2f6e8c9b10; copy it from where it was printed")
}

/// One stream.
pub(super) fn stream(text: &str) -> Result<StreamId, ParseError> {
    text.parse()
}

/// One stream, or all of a category.
pub(super) fn filter(text: &str) -> Result<Filter, ParseError> {
    if text.contains('/') { stream(text).map(Filter::Stream) } else { text.parse::<Category>().map(Filter::Category) }
}

/// On how many servers.
pub(super) fn replicas(text: &str) -> Result<u8, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1, or 3 in a cluster: two servers agree on nothing when one of them is away"),
    }
}

/// What a search is narrowed by.
pub(super) fn search_filter(text: &str) -> Result<(SearchKey, String), String> {
    let known = || {
        let names = SearchKey::value_variants().iter().filter_map(|key| key.to_possible_value());
        names.map(|name| name.get_name().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, for example type=pdf")?;
    let key = SearchKey::from_str(key.trim(), true).map_err(|_| format!("{key} is none of {}", known()))?;
    let value = value.trim();
    if value.is_empty() {
        return Err("the value is empty".to_owned());
    }
    match key {
        SearchKey::Document => _ = id(value)?,
        SearchKey::Page => _ = pages(value).ok_or("pages are written 3, or 3-7, and counted from 1")?,
        _ => {}
    }
    Ok((key, value.to_owned()))
}

/// `3`, or `3-7`: the first and the last.
pub(crate) fn pages(text: &str) -> Option<(u32, u32)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (1..=to).contains(&from).then_some((from, to))
}

/// A share of the whole.
pub(super) fn share(text: &str) -> Result<f32, &'static str> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or("a number from 0 to 1, for example 0.3")
}

/// A number of bytes: `10MB` is 10,000,000, `10MiB` is 10,485,760.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    const UNITS: [(&str, u64); 7] = [
        ("", 1),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
    ];
    let expected = "a size looks like 10MB, 512KiB or 1000000";
    let text = text.trim().to_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let unit =
        UNITS.iter().find(|(name, _)| *name == unit || name.strip_suffix('b').is_some_and(|short| short == unit));
    let number: u64 = number.parse().map_err(|_| expected)?;
    let (_, factor) = unit.ok_or(expected)?;
    number.checked_mul(*factor).filter(|size| *size > 0).ok_or(expected)
}

/// A tag as a document can have it.
pub(super) fn tag(text: &str) -> Result<String, String> {
    let tag = text.trim();
    if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
        return Err(format!("a tag has 1 to {MAX_TAG_BYTES} bytes"));
    }
    Ok(tag.to_owned())
}
