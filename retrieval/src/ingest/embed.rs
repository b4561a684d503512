//! Passages to vectors, by way of the cache. What the model reads is the passage with the headings above it, cut here to
//! what it can read, so that equal texts always have equal vectors.

use std::sync::Arc;

use lmao_events::Failure;
use lmao_ports::{ChunkRecord, EmbedError, Embedder, EmbeddingCache, EmbeddingKey, ModelManifest};

use super::store::{off_thread, unavailable};

/// Tokens of a text that the model adds by itself.
const SPECIAL_TOKENS: usize = 2;

/// Tokens of a passage, its headings included, that a model reads beside its prefix.
pub(super) fn reads(manifest: &ModelManifest, prefix: usize) -> usize {
    manifest.max_tokens.saturating_sub(SPECIAL_TOKENS + prefix)
}

/// The vectors of these passages, in order, and how many came from the cache.
pub(super) async fn vectors(
    embedder: &Arc<dyn Embedder>,
    cache: &dyn EmbeddingCache,
    records: Vec<ChunkRecord>,
) -> Result<(Vec<Vec<f32>>, u32), Failure> {
    let texts = {
        let embedder = Arc::clone(embedder);
        off_thread(move || Ok(texts(embedder.as_ref(), &records))).await?
    };
    let manifest = embedder.manifest();
    let keys: Vec<EmbeddingKey> = texts.iter().map(|text| key(manifest, text)).collect();
    let mut known = cache.get(&keys).await.map_err(unavailable)?;
    known.resize(keys.len(), None);
    // A cache is only believed as far as a model would be.
    known.iter_mut().for_each(|vector| *vector = vector.take().filter(|vector| fault(manifest, vector).is_none()));
    let wanted: Vec<usize> = (0..keys.len()).filter(|at| known[*at].is_none()).collect();
    let cached = u32::try_from(keys.len() - wanted.len()).unwrap_or(u32::MAX);
    if !wanted.is_empty() {
        let asked: Vec<String> = wanted.iter().map(|at| texts[*at].clone()).collect();
        let made = embedder.passages(asked).await.map_err(|error| failed(&error))?;
        let fault = if made.len() == wanted.len() {
            made.iter().find_map(|vector| fault(manifest, vector))
        } else {
            Some(format!("{} vectors for {} passages", made.len(), wanted.len()))
        };
        if let Some(message) = fault {
            return Err(failed(&EmbedError::Model { model: manifest.id.clone(), message }));
        }
        let entries: Vec<(EmbeddingKey, Vec<f32>)> =
            wanted.iter().zip(&made).map(|(at, vector)| (keys[*at], vector.clone())).collect();
        if let Err(error) = cache.put(&entries).await {
            tracing::warn!(%error, "vectors were not cached");
        }
        wanted.into_iter().zip(made).for_each(|(at, vector)| known[at] = Some(vector));
    }
    Ok((known.into_iter().flatten().collect(), cached))
}

fn failed(error: &EmbedError) -> Failure {
    Failure::passing("embedding_failed", format!("The passages have no vectors yet: {error}."))
}

/// What is wrong with a vector, if anything is.
fn fault(manifest: &ModelManifest, vector: &[f32]) -> Option<String> {
    if vector.len() != manifest.dimensions {
        return Some(format!("a vector of {} dimensions instead of {}", vector.len(), manifest.dimensions));
    }
    if vector.iter().any(|x| !x.is_finite()) {
        return Some("a vector with a number that is not finite".to_owned());
    }
    vector.iter().all(|x| *x == 0.0).then(|| "a vector of length 0".to_owned())
}

fn key(manifest: &ModelManifest, text: &str) -> EmbeddingKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(manifest.id.len() as u64).to_be_bytes()).update(manifest.id.as_bytes()).update(text.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What the model reads of each passage: prefix, headings on a line of their own, content.
fn texts(embedder: &dyn Embedder, records: &[ChunkRecord]) -> Vec<String> {
    let manifest = embedder.manifest();
    let prefix = &manifest.passage_prefix;
    let room = reads(manifest, embedder.tokens(prefix).len());
    records.iter().map(|record| text(embedder, prefix, room, record)).collect()
}

fn text(embedder: &dyn Embedder, prefix: &str, room: usize, record: &ChunkRecord) -> String {
    let content = embedder.tokens(&record.content);
    if let Some(first) = content.get(room) {
        let cut = record.content.floor_char_boundary(first.start);
        return format!("{prefix}{}", record.content[..cut].trim_end());
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
            return format!("{prefix}{}", record.content);
        }
        if content.len() + embedder.tokens(section).len() <= room {
            return format!("{prefix}{section}\n{}", record.content);
        }
        // The outermost heading says least.
        section = section.split_once(" > ").map_or("", |(_, inner)| inner);
    }
}

/// `[passages, dims]`, f32 little-endian.
pub(super) fn to_bytes(vectors: &[Vec<f32>]) -> Vec<u8> {
    vectors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect()
}

/// The inverse of [`to_bytes`]; `None` unless the bytes are `count` finite vectors of one length.
pub(super) fn from_bytes(bytes: &[u8], count: usize) -> Option<Vec<Vec<f32>>> {
    if count == 0 {
        return bytes.is_empty().then(Vec::new);
    }
    let row = bytes.len() / count;
    if row == 0 || row * count != bytes.len() || !row.is_multiple_of(4) {
        return None;
    }
    let read = |row: &[u8]| row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect::<Vec<_>>();
    let vectors: Vec<Vec<f32>> = bytes.chunks_exact(row).map(read).collect();
    vectors.iter().flatten().all(|x| x.is_finite()).then_some(vectors)
}
