//! The passages of a document in their order, one of them, or a whole section: where a citation opens.

use std::sync::Arc;

use lmao_ports::{ChunkRecord, DocumentRow, SearchIndex, passage_id, section_id};
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Path, Query},
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Tag,
    documents::{document_id, no_document},
};
use crate::{app::App, context::User, error::ApiError, position::Reads, reply::Reply};

/// Passages of a page, unless asked otherwise, and at most.
const PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;
/// Passages asked of the index at once.
const AT_ONCE: u32 = 256;
/// Passages of a section that are joined.
const MAX_JOINED: u32 = 512;
/// Ids of sections that are computed to find one: all that are no longer than this allows.
const SECTION_IDS: u32 = 1 << 20;

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[oai(rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
enum Level {
    /// What is searched.
    Passage,
    /// Its passages in a row.
    Section,
}

/// A passage or a section with its place.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Chunk")]
struct ChunkBody {
    chunk_id: Uuid,
    level: Level,
    /// The place of its first passage among the document's, from 0.
    ordinal: u32,
    /// The place of its last.
    last_ordinal: u32,
    content: String,
    /// `prose`, `heading`, `list`, `table`, `code`, `mixed`, `message`; of a section, that of its first passage.
    chunk_type: String,
    /// Where it is known and may differ from the document's.
    #[oai(nullable)]
    language: Option<String>,
    /// The page that it begins on, from 1, where the format has pages.
    #[oai(nullable)]
    page_number: Option<u32>,
    /// Where it goes on on another page, in order.
    page_turns: Vec<PageTurn>,
    /// Headings, outermost first.
    #[oai(nullable)]
    section: Option<String>,
    /// Byte offset in the document's extracted text.
    start: u64,
    /// Byte offset behind it.
    end: u64,
    /// The section that a passage is a part of.
    #[oai(nullable)]
    parent_chunk_id: Option<Uuid>,
    /// The section has more passages than are joined here; left out where it has not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[oai(default)]
    cut: bool,
}

/// A place within a content from which on it stands on another page.
#[derive(Debug, Object, Serialize)]
struct PageTurn {
    /// Byte offset in the content.
    at: u64,
    /// From 1.
    page: u32,
}

/// A part of a document.
#[derive(Debug, Object, Serialize)]
struct ChunksResponse {
    document_id: Uuid,
    filename: String,
    /// In their order.
    chunks: Vec<ChunkBody>,
    /// Passages of the whole document; 0 while they are not known.
    total: u32,
}

impl From<&ChunkRecord> for ChunkBody {
    fn from(chunk: &ChunkRecord) -> Self {
        let turns = chunk.page_turns.iter().map(|turn| PageTurn { at: turn.at.into(), page: turn.page });
        Self {
            chunk_id: chunk.chunk_id,
            level: Level::Passage,
            ordinal: chunk.ordinal,
            last_ordinal: chunk.ordinal,
            content: chunk.content.clone(),
            chunk_type: chunk.chunk_type.clone(),
            language: chunk.language.clone(),
            page_number: chunk.page_number,
            page_turns: turns.collect(),
            section: chunk.section.clone(),
            start: chunk.start,
            end: chunk.end,
            parent_chunk_id: chunk.parent.map(|parent| parent.chunk_id),
            cut: false,
        }
    }
}

super::routes! {
    /// `/api/v1/documents/{id}/chunks`
    Passages
}

#[OpenApi(tag = "Tag::Documents", prefix_path = "/api/v1/documents")]
impl Passages {
    /// The passages of a document
    ///
    /// In their order, as far as the index has them.
    #[oai(path = "/:id/chunks", method = "get", operation_id = "list_chunks")]
    async fn list(
        &self,
        user: User,
        id: Path<String>,
        /// The first passage's place, from 0.
        offset: Query<Option<u32>>,
        /// 1 to 200, 50 unless given.
        limit: Query<Option<u32>>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Reply<ChunksResponse>, ApiError> {
        let app = self.app()?;
        let limit = limit.0.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            let text = format!("limit is a number from 1 to {MAX_PAGE}");
            return Err(ApiError::bad_request("bad_parameter", text).with("parameter", "limit"));
        }
        let document = document(app, user, &id.0, position.0.as_deref()).await?;
        let total = document.chunks_count.unwrap_or_default();
        let offset = offset.0.unwrap_or_default().min(total);
        let chunks = chunks(&*app.state.index, document.id, offset..offset.saturating_add(limit).min(total)).await?;
        let chunks = chunks.iter().map(|chunk| ChunkBody::from(&**chunk)).collect();
        Ok(Reply::ok(ChunksResponse { document_id: document.id, filename: document.filename, chunks, total }))
    }

    /// A passage, or a section
    ///
    /// The id of a section (`parent_chunk_id`) gives all of its passages, joined.
    #[oai(path = "/:id/chunks/:chunk_id", method = "get", operation_id = "get_chunk")]
    async fn get(
        &self,
        user: User,
        id: Path<String>,
        chunk_id: Path<String>,
        /// See at least this state.
        #[oai(name = "LMAO-Position")]
        position: Header<Option<String>>,
    ) -> Result<Reply<ChunkBody>, ApiError> {
        let app = self.app()?;
        let absent = || {
            let text = "the document has no such passage; GET /api/v1/documents/{id}/chunks lists those it has";
            ApiError::not_found("chunk_not_found", text)
        };
        let wanted: Uuid = chunk_id.0.parse().map_err(|_| absent())?;
        let document = document(app, user, &id.0, position.0.as_deref()).await?;
        let (index, id, total) = (&*app.state.index, document.id, document.chunks_count.unwrap_or_default());
        let place = tokio::task::spawn_blocking(move || place(id, &document.content_hash, total, wanted)).await;
        let place = place.map_err(|error| ApiError::internal(format!("looking for a passage ended early: {error}")))?;
        let place = match place {
            None => long_section(index, id, total, wanted).await?,
            place => place,
        };
        match place.ok_or_else(absent)? {
            Place::Passage(ordinal) => {
                let found = chunks(index, id, ordinal..ordinal.saturating_add(1)).await?;
                let chunk = found.first().filter(|chunk| chunk.chunk_id == wanted).ok_or_else(absent)?;
                Ok(Reply::ok(ChunkBody::from(&**chunk)))
            }
            Place::Section(first, last) => {
                let end = last.saturating_add(1).min(first.saturating_add(MAX_JOINED));
                let parts = chunks(index, id, first..end).await?;
                let is_known = parts.iter().any(|part| part.parent.is_some_and(|parent| parent.chunk_id == wanted));
                let section = joined(wanted, &parts).filter(|_| is_known).ok_or_else(absent)?;
                Ok(Reply::ok(ChunkBody { cut: end <= last, ..section }))
            }
        }
    }
}

/// Where in a document something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Passage(u32),
    /// From the first passage to the last.
    Section(u32, u32),
}

/// Where the passage or section of this id stands. The index knows passages by their place only, and an id does not tell it:
/// but it follows from the place, so that the ids of all places are computed, which costs less than to read the document. Of
/// sections there could be many more than there are: those that are short for the document are looked for here.
fn place(document: Uuid, sha256: &str, total: u32, wanted: Uuid) -> Option<Place> {
    if wanted.get_version() != Some(uuid::Version::Sha1) {
        return None;
    }
    let passage = (0..total).find(|ordinal| passage_id(document, sha256, *ordinal) == wanted).map(Place::Passage);
    let longest = longest_computed(total);
    let section = || {
        let runs =
            (2..=longest.min(total)).flat_map(|length| (0..=total - length).map(move |at| (at, at + length - 1)));
        let mut runs = runs.map(|(first, last)| (first, last, section_id(document, sha256, first, last)));
        runs.find(|(_, _, id)| *id == wanted).map(|(first, last, _)| Place::Section(first, last))
    };
    passage.or_else(section)
}

/// Passages of the longest section whose id is computed.
fn longest_computed(total: u32) -> u32 {
    (SECTION_IDS / total.max(1)).max(2)
}

/// Places of which every longer section holds one; none where none is longer.
fn samples(total: u32) -> impl Iterator<Item = u32> {
    let step = longest_computed(total);
    (0..if step < total { total } else { 0 }).step_by(step as usize)
}

/// Where the section of this id stands that is longer than [`place`] looks for: passages name the section that they are directly
/// in, and one of every so many is read. A section is given up of which those that are read all stand in shorter ones within it:
/// to read every passage of so long a document takes too long.
async fn long_section(
    index: &dyn SearchIndex,
    document: Uuid,
    total: u32,
    wanted: Uuid,
) -> Result<Option<Place>, ApiError> {
    if wanted.get_version() != Some(uuid::Version::Sha1) {
        return Ok(None);
    }
    let places: Vec<(Uuid, u32)> = samples(total).map(|ordinal| (document, ordinal)).collect();
    for part in places.chunks(AT_ONCE as usize) {
        let found = index.chunks(part).await?;
        let parent = found.iter().filter_map(|hit| hit.chunk.parent).find(|parent| parent.chunk_id == wanted);
        if let Some(section) = parent {
            return Ok(Some(Place::Section(section.first, section.last)));
        }
    }
    Ok(None)
}

/// A document of the sender, at least as of this position.
async fn document(app: &App, user: User, id: &str, position: Option<&str>) -> Result<DocumentRow, ApiError> {
    let id = document_id(id)?;
    app.catch_up(position, Reads::Search).await?;
    app.state.read_model.document(user.0.id, id).await?.ok_or_else(no_document)
}

/// The passages at these places, in order, as far as the index has them.
async fn chunks(
    index: &dyn SearchIndex,
    document: Uuid,
    places: std::ops::Range<u32>,
) -> Result<Vec<Arc<ChunkRecord>>, ApiError> {
    let mut found = vec![];
    let places: Vec<(Uuid, u32)> = places.map(|ordinal| (document, ordinal)).collect();
    for part in places.chunks(AT_ONCE as usize) {
        found.extend(index.chunks(part).await?.into_iter().map(|hit| hit.chunk));
    }
    found.sort_by_key(|chunk| chunk.ordinal);
    Ok(found)
}

/// Passages in a row as one text: what two of them share is said once, what lies between them is a break.
fn joined(chunk_id: Uuid, parts: &[Arc<ChunkRecord>]) -> Option<ChunkBody> {
    let (first, rest) = parts.split_first()?;
    let mut section = ChunkBody {
        chunk_id,
        level: Level::Section,
        parent_chunk_id: None,
        section: common_path(parts),
        ..ChunkBody::from(&**first)
    };
    for part in rest {
        let mut skipped = 0;
        if part.start > section.end {
            section.content.push_str("\n\n");
        } else if part.end - part.start == part.content.len() as u64 {
            // Only where the content is the text itself can what is shared be told by offsets.
            let shared = usize::try_from(section.end - part.start).unwrap_or(usize::MAX).min(part.content.len());
            skipped = part.content.floor_char_boundary(shared);
        }
        let base = section.content.len() as u64;
        let last_page = section.page_turns.last().map(|turn| turn.page).or(section.page_number);
        let begins = part.page_number.filter(|page| skipped == 0 && Some(*page) != last_page);
        section.page_turns.extend(begins.map(|page| PageTurn { at: base, page }));
        let turns = part.page_turns.iter().filter(|turn| turn.at as usize >= skipped);
        let turns = turns.map(|turn| PageTurn { at: base + u64::from(turn.at) - skipped as u64, page: turn.page });
        section.page_turns.extend(turns);
        section.content.push_str(&part.content[skipped..]);
        section.end = section.end.max(part.end);
        section.last_ordinal = part.ordinal;
    }
    Some(section)
}

/// The headings that all of them stand below.
fn common_path(parts: &[Arc<ChunkRecord>]) -> Option<String> {
    let mut paths = parts.iter().map(|part| part.section.as_deref().unwrap_or_default().split(" > "));
    let first: Vec<&str> = paths.next()?.collect();
    let shared = paths.fold(first, |shared, path| {
        shared.into_iter().zip(path).take_while(|(one, other)| one == other).map(|(one, _)| one).collect()
    });
    let path = shared.join(" > ");
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ordinal: u32, start: u64, content: &str, page: u32, section: &str) -> Arc<ChunkRecord> {
        Arc::new(ChunkRecord {
            chunk_id: Uuid::from_u128(u128::from(ordinal) + 1),
            ordinal,
            content: content.to_owned(),
            chunk_type: "prose".to_owned(),
            page_number: Some(page),
            section: Some(section.to_owned()),
            start,
            end: start + content.len() as u64,
            page_turns: vec![],
            language: None,
            parent: None,
        })
    }

    #[test]
    fn a_place_follows_from_an_id() {
        let (document, sha256) = (Uuid::from_u128(9), "0123456789abcdef0123456789abcdef");
        let at = |wanted| place(document, sha256, 70, wanted);
        assert_eq!(at(passage_id(document, sha256, 69)), Some(Place::Passage(69)));
        assert_eq!(at(passage_id(document, sha256, 70)), None);
        assert_eq!(at(section_id(document, sha256, 0, 69)), Some(Place::Section(0, 69)));
        assert_eq!(at(section_id(document, sha256, 67, 68)), Some(Place::Section(67, 68)));
        assert_eq!(at(section_id(document, sha256, 67, 70)), None);
        assert_eq!(at(passage_id(Uuid::from_u128(8), sha256, 1)), None, "of another document");
        // Found by its place in a document of the most passages.
        let far = section_id(document, sha256, 99_990, 99_996);
        assert_eq!(place(document, sha256, 100_000, far), Some(Place::Section(99_990, 99_996)));
        assert_eq!(place(document, sha256, u32::MAX, Uuid::from_u128(1)), None, "none that was derived");
    }

    #[test]
    fn a_section_is_found_however_long_it_is() {
        for total in [1, 2, 70, 1024, 1025, 1500, 20_000, 100_000, 2_000_000] {
            let (longest, places): (_, Vec<u32>) = (longest_computed(total), samples(total).collect());
            assert!(longest >= total || places.len() >= (total / longest) as usize, "{total}");
            for first in (0..total.saturating_sub(longest)).step_by(1 + total as usize / 5000) {
                let at = places.partition_point(|place| *place < first);
                assert!(places[at] <= first + longest, "{total}: from {first}");
            }
        }
    }

    #[test]
    fn a_section_says_everything_once_and_knows_its_pages() {
        let parts = [
            part(3, 10, "Bees dance.", 1, "Bees > Dance"),
            part(4, 17, "nce. Flowers wait.", 1, "Bees > Dance > Waggle"),
            part(5, 40, "Rain.", 2, "Bees > Dance"),
        ];
        let section = joined(Uuid::nil(), &parts).unwrap();
        assert_eq!(section.content, "Bees dance. Flowers wait.\n\nRain.");
        assert_eq!((section.start, section.end, section.ordinal, section.last_ordinal), (10, 45, 3, 5));
        let turns: Vec<_> = section.page_turns.iter().map(|turn| (turn.at, turn.page)).collect();
        assert_eq!((section.page_number, turns), (Some(1), vec![(27, 2)]));
        assert_eq!(section.section.as_deref(), Some("Bees > Dance"));
        assert!(joined(Uuid::nil(), &[]).is_none());
    }
}
