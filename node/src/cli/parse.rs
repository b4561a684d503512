//! Values of the command line, refused in words that say what was expected: libraries' own speak of formats.

use lmao_events::{Category, ParseError, StreamId};
use lmao_ports::Filter;
use uuid::Uuid;

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
