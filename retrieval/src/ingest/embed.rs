//! Passages to vectors, by way of the cache, in the space or spaces that suit each. What a model reads is the passage with
//! the headings above it, cut here to what it can read, so that equal texts always have equal vectors.

mod check;
mod select;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use lmao_events::Failure;
use lmao_ports::{
    ChunkRecord, EmbedError, Embedder, EmbeddingCache, EmbeddingKey, ModelManifest, SemanticState, Semantics, Space,
};

pub use check::Rejected;
use check::{Fault, fault, mark_duplicates};
use select::{Suits, suits};

use super::store::{off_thread, unavailable};

/// Tokens of a text that the model adds by itself.
const SPECIAL_TOKENS: usize = 2;
/// A text that any model has a vector for: whether it is the model that fails, or what it was given.
const TRIAL: &str = "The crane stands in the shallow water every morning.";

/// Tokens of a passage, its headings included, that a model reads beside its prefix.
pub(super) fn reads(manifest: &ModelManifest, prefix: usize) -> usize {
    manifest.max_tokens.saturating_sub(SPECIAL_TOKENS + prefix)
}

/// The models that passages are embedded with.
pub(super) struct InUse {
    pub(super) general: Arc<dyn Embedder>,
    /// Without one, all passages go to the general model.
    pub(super) domain: Option<Arc<dyn Embedder>>,
}

/// Waits while models are being loaded; `Err` in `Ok` is why there is none.
pub(super) async fn in_use(semantics: &dyn Semantics) -> Result<Result<InUse, String>, Failure> {
    let loading = |what| Failure::passing("model_loading", format!("The embedding model is not there yet ({what})."));
    let general = match semantics.settled(Space::General).await {
        SemanticState::Ready(embedder) => embedder,
        SemanticState::Off(reason) => return Ok(Err(reason)),
        SemanticState::Loading(what) => return Err(loading(what)),
    };
    let domain = match semantics.settled(Space::Domain).await {
        SemanticState::Ready(embedder) => Some(embedder),
        SemanticState::Off(_) => None,
        SemanticState::Loading(what) => return Err(loading(what)),
    };
    Ok(Ok(InUse { general, domain }))
}

/// The vectors of a batch: `[passages]` in each space, none where a passage does not belong there or has no good vector.
pub(super) struct Embeddings {
    pub(super) general: Vec<Option<Vec<f32>>>,
    /// `None` without a domain model.
    pub(super) domain: Option<Vec<Option<Vec<f32>>>>,
    /// How many came from the cache.
    pub(super) cached: u32,
}

/// Embeds a batch with the models that suit each passage.
pub(super) async fn vectors(
    models: &InUse,
    cache: &dyn EmbeddingCache,
    rejected: &Rejected,
    records: Vec<ChunkRecord>,
) -> Result<Embeddings, Failure> {
    let records = Arc::new(records);
    let chosen: Vec<Suits> = match models.domain {
        Some(_) => records.iter().map(suits).collect(),
        None => vec![Suits::General; records.len()],
    };
    let places = |space| (0..chosen.len()).filter(|at| chosen[*at].is_in(space)).collect();
    let in_space = |embedder, places| in_space(embedder, cache, rejected, &records, places);
    let (general, mut cached) = in_space(&models.general, places(Space::General)).await?;
    let domain = match &models.domain {
        Some(embedder) => {
            let (vectors, known) = in_space(embedder, places(Space::Domain)).await?;
            cached += known;
            Some(vectors)
        }
        None => None,
    };
    Ok(Embeddings { general, domain, cached })
}

/// The vectors of the passages at `places`, one entry for every passage, and how many came from the cache.
async fn in_space(
    embedder: &Arc<dyn Embedder>,
    cache: &dyn EmbeddingCache,
    rejected: &Rejected,
    records: &Arc<Vec<ChunkRecord>>,
    places: Vec<usize>,
) -> Result<(Vec<Option<Vec<f32>>>, u32), Failure> {
    let mut vectors = vec![None; records.len()];
    if places.is_empty() {
        return Ok((vectors, 0));
    }
    let texts = {
        let (embedder, records, places) = (Arc::clone(embedder), Arc::clone(records), places.clone());
        off_thread(move || Ok(texts(embedder.as_ref(), places.iter().map(|at| &records[*at])))).await?
    };
    let manifest = embedder.manifest();
    let keys: Vec<EmbeddingKey> = texts.iter().map(|text| key(manifest, text)).collect();
    let known = cache.get(&keys).await.map_err(unavailable)?;
    // A cache is only believed as far as a model would be.
    let known = known.into_iter().map(|vector| vector.filter(|vector| fault(manifest, vector).is_none()));
    places.iter().zip(known).for_each(|(at, vector)| vectors[*at] = vector);
    let wanted: Vec<usize> = (0..places.len()).filter(|n| vectors[places[*n]].is_none()).collect();
    let cached = u32::try_from(places.len() - wanted.len()).unwrap_or(u32::MAX);
    if !wanted.is_empty() {
        let asked: Vec<String> = wanted.iter().map(|n| texts[*n].clone()).collect();
        let mut entries = vec![];
        for (n, made) in wanted.into_iter().zip(made(embedder.as_ref(), &asked).await?) {
            match made {
                Ok(vector) => {
                    entries.push((keys[n], vector.clone()));
                    vectors[places[n]] = Some(vector);
                }
                Err(fault) => rejected.count(&manifest.id, &fault),
            }
        }
        if let Err(error) = cache.put(&entries).await {
            tracing::warn!(%error, "vectors were not cached");
        }
    }
    Ok((vectors, cached))
}

/// The vectors of these texts; what is wrong with one stays wrong when it is tried once more, alone.
///
/// # Errors
/// When it is the model that fails, and not some texts that it has no good vector for.
async fn made(embedder: &dyn Embedder, texts: &[String]) -> Result<Vec<Result<Vec<f32>, Fault>>, Failure> {
    let manifest = embedder.manifest();
    let checked = |vector: Vec<f32>| fault(manifest, &vector).map_or(Ok(vector), Err);
    let mut made: Vec<Result<Vec<f32>, Fault>> = match embedder.passages(texts.to_vec()).await {
        Ok(vectors) if vectors.len() == texts.len() => vectors.into_iter().map(checked).collect(),
        Ok(vectors) => {
            let message = format!("{} vectors for {} passages", vectors.len(), texts.len());
            return Err(failed(&EmbedError::Model { model: manifest.id.clone(), message }));
        }
        Err(error) => vec![Err(Fault::Unusable(error.to_string())); texts.len()],
    };
    mark_duplicates(texts.iter().map(String::as_str), &mut made);
    if made.iter().all(Result::is_ok) {
        return Ok(made);
    }
    // Before it is asked again for each: a model that is broken or gone would fail as often as there are texts.
    if let Err(fault) = alone(embedder, TRIAL).await {
        return Err(failed(&EmbedError::Model { model: manifest.id.clone(), message: fault.to_string() }));
    }
    for (text, made) in texts.iter().zip(&mut made).filter(|(_, made)| made.is_err()) {
        *made = alone(embedder, text).await;
    }
    mark_duplicates(texts.iter().map(String::as_str), &mut made);
    Ok(made)
}

/// The vector of one text.
async fn alone(embedder: &dyn Embedder, text: &str) -> Result<Vec<f32>, Fault> {
    let made = embedder.passages(vec![text.to_owned()]).await.map_err(|error| Fault::Unusable(error.to_string()))?;
    let vector = made.into_iter().next().ok_or_else(|| Fault::Unusable("it gave no vector".to_owned()))?;
    fault(embedder.manifest(), &vector).map_or(Ok(vector), Err)
}

fn failed(error: &EmbedError) -> Failure {
    Failure::passing("embedding_failed", format!("The passages have no vectors yet: {error}."))
}

fn key(manifest: &ModelManifest, text: &str) -> EmbeddingKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(manifest.id.len() as u64).to_be_bytes()).update(manifest.id.as_bytes()).update(text.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What the model reads of each passage behind its prefix: headings on a line of their own, content.
fn texts<'a>(embedder: &dyn Embedder, records: impl Iterator<Item = &'a ChunkRecord>) -> Vec<String> {
    let manifest = embedder.manifest();
    let room = reads(manifest, embedder.tokens(&manifest.passage_prefix).len());
    records.map(|record| text(embedder, room, record)).collect()
}

fn text(embedder: &dyn Embedder, room: usize, record: &ChunkRecord) -> String {
    let content = embedder.tokens(&record.content);
    if let Some(first) = content.get(room) {
        let cut = record.content.floor_char_boundary(first.start);
        return record.content[..cut].trim_end().to_owned();
    }
    let mut section = match record.section.as_deref().unwrap_or_default() {
        // A passage that begins with its own heading needs only those above it.
        section if record.content.starts_with(section) => "",
        section => match section.rsplit_once(" > ") {
            Some((above, own)) if record.content.starts_with(own) => above,
            _ => section,
        },
    };
    loop {
        if section.is_empty() {
            return record.content.clone();
        }
        if content.len() + embedder.tokens(section).len() <= room {
            return format!("{section}\n{}", record.content);
        }
        // The outermost heading says least.
        section = section.split_once(" > ").map_or("", |(_, inner)| inner);
    }
}

/// `[passages, dims]`, f32 little-endian; a row of zeros where a passage has none, nothing at all where none has one.
pub(super) fn to_bytes(vectors: &[Option<Vec<f32>>], dimensions: usize) -> Vec<u8> {
    if vectors.iter().all(Option::is_none) {
        return vec![];
    }
    let none = vec![0.0; dimensions];
    vectors.iter().flat_map(|vector| vector.as_ref().unwrap_or(&none)).flat_map(|x| x.to_le_bytes()).collect()
}

/// The inverse of [`to_bytes`]; `None` unless the bytes are `count` finite vectors of one length, or nothing.
pub(super) fn from_bytes(bytes: &[u8], count: usize) -> Option<Vec<Option<Vec<f32>>>> {
    if bytes.is_empty() {
        return Some(vec![None; count]);
    }
    let row = bytes.len().checked_div(count)?;
    if row == 0 || row * count != bytes.len() || !row.is_multiple_of(4) {
        return None;
    }
    let read = |row: &[u8]| row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect::<Vec<_>>();
    let vectors: Vec<Vec<f32>> = bytes.chunks_exact(row).map(read).collect();
    let are_finite = vectors.iter().flatten().all(|x| x.is_finite());
    let is_one = |vector: &Vec<f32>| vector.iter().any(|x| *x != 0.0);
    are_finite.then(|| vectors.into_iter().map(|vector| is_one(&vector).then_some(vector)).collect())
}
