//! What both search indexes hold to alike, so that one answers like the other: how text becomes terms, what a question asks
//! for, what a document must be, and the digest of the content. Knows neither files nor servers.

pub(crate) mod asked;
pub(crate) mod content;
pub(crate) mod terms;

/// What a match in the headings is worth beside one in the content.
pub(crate) const SECTION_WEIGHT: f32 = 0.5;
