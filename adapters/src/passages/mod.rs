//! What both search indexes hold to alike, so that one answers like the other: how text becomes terms, what a question asks
//! for, what a document must be, and the digest of the content. Knows neither files nor servers.

pub(crate) mod asked;
pub(crate) mod content;
#[cfg(test)]
pub(crate) mod judged;
pub(crate) mod sections;
pub(crate) mod spaces;
pub(crate) mod terms;

/// What a match in the headings is worth beside one in the content.
pub(crate) const SECTION_WEIGHT: f32 = 0.5;

/// What stands above a passage, each a text of its own: its section's headings, the document's title where the section
/// does not begin with it, the file's name without its ending. A name without letters says nothing.
pub(crate) fn headings<'a>(section: Option<&'a str>, title: Option<&'a str>, filename: &'a str) -> Vec<&'a str> {
    let title = title.filter(|title| !section.is_some_and(|section| section.starts_with(title)));
    let name = filename.rsplit(['/', '\\']).next().unwrap_or(filename);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let stem = Some(stem).filter(|stem| stem.contains(char::is_alphabetic));
    section.into_iter().chain(title).chain(stem).collect()
}
