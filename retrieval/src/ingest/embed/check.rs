//! Whether vectors are worth having. A model that is damaged, quantized badly or fed with what it does not know gives
//! vectors that compare with nothing, or alike with everything; they are refused, counted and told.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use lmao_ports::ModelManifest;
use opentelemetry::{KeyValue, global, metrics::Counter};

/// How far from 1 the length of a normalised vector may be.
const LENGTH_TOLERANCE: f32 = 1e-2;
/// So many different texts of one batch do not have the same vector by chance.
const SAME_VECTORS: usize = 3;

static REJECTED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("lmao")
        .u64_counter("lmao.embedding.rejected")
        .with_unit("{vector}")
        .with_description("Passages that have no vector because the model's was refused.")
        .build()
});

/// What is wrong with a vector.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// The embedder gave none; what it said.
    Unusable(String),
    Dimensions(usize),
    NotFinite,
    Zero,
    /// Not of length 1.
    Length(f32),
    /// All numbers are the same: it says nothing of its text.
    Constant,
    /// The same as those of other texts of the batch.
    Duplicate,
}

impl Fault {
    const REASONS: [&str; 7] = ["unusable", "dimensions", "not_finite", "zero", "length", "constant", "duplicate"];

    const fn place(&self) -> usize {
        match self {
            Self::Unusable(_) => 0,
            Self::Dimensions(_) => 1,
            Self::NotFinite => 2,
            Self::Zero => 3,
            Self::Length(_) => 4,
            Self::Constant => 5,
            Self::Duplicate => 6,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable(message) => f.write_str(message),
            Self::Dimensions(found) => write!(f, "a vector of {found} dimensions, which its manifest does not say"),
            Self::NotFinite => f.write_str("a vector with a number that is not finite"),
            Self::Zero => f.write_str("a vector of length 0"),
            Self::Length(length) => write!(f, "a vector of length {length} instead of 1"),
            Self::Constant => f.write_str("a vector of equal numbers"),
            Self::Duplicate => write!(f, "the same vector for {SAME_VECTORS} or more different texts"),
        }
    }
}

/// What is wrong with a vector by itself, if anything is.
pub(super) fn fault(manifest: &ModelManifest, vector: &[f32]) -> Option<Fault> {
    if vector.len() != manifest.dimensions {
        return Some(Fault::Dimensions(vector.len()));
    }
    if vector.iter().any(|x| !x.is_finite()) {
        return Some(Fault::NotFinite);
    }
    if vector.iter().all(|x| *x == 0.0) {
        return Some(Fault::Zero);
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if manifest.normalize && (length - 1.0).abs() > LENGTH_TOLERANCE {
        return Some(Fault::Length(length));
    }
    (vector.len() > 1 && vector.windows(2).all(|pair| pair[0] == pair[1])).then_some(Fault::Constant)
}

/// Marks good vectors that several different texts share, bit by bit. Texts that differ in case, accents of no
/// importance and white space only may well have the same: many models see no difference.
pub(super) fn mark_duplicates<'a>(texts: impl Iterator<Item = &'a str>, made: &mut [Result<Vec<f32>, Fault>]) {
    let mut places: HashMap<Vec<u32>, Vec<(usize, String)>> = HashMap::new();
    for (at, text) in texts.enumerate() {
        if let Some(Ok(vector)) = made.get(at) {
            let bits = vector.iter().map(|x| x.to_bits()).collect();
            places.entry(bits).or_default().push((at, plain(text)));
        }
    }
    for same in places.into_values().filter(|same| same.len() >= SAME_VECTORS) {
        let mut texts: Vec<&str> = same.iter().map(|(_, text)| text.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        if texts.len() >= SAME_VECTORS {
            same.iter().for_each(|(at, _)| made[*at] = Err(Fault::Duplicate));
        }
    }
}

/// A text as a model may see it that knows neither case nor white space nor letters beyond ASCII.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).map(|c| c.to_ascii_lowercase()).collect()
}

/// How many passages went without a vector since the start, by reason.
#[derive(Debug, Default)]
pub struct Rejected {
    counts: [AtomicU64; Fault::REASONS.len()],
}

impl Rejected {
    pub(super) fn count(&self, model: &str, fault: &Fault) {
        let reason = Fault::REASONS[fault.place()];
        self.counts[fault.place()].fetch_add(1, Relaxed);
        REJECTED.add(1, &[KeyValue::new("lmao.reason", reason), KeyValue::new("lmao.model", model.to_owned())]);
        tracing::warn!(model, reason, %fault, "a passage has no vector: it was refused");
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// The reasons with their counts, those that occurred: `duplicate: 3, zero: 1`.
    #[must_use]
    pub fn reasons(&self) -> String {
        let counts = Fault::REASONS.iter().zip(&self.counts).map(|(reason, count)| (reason, count.load(Relaxed)));
        let said: Vec<_> =
            counts.filter(|(_, count)| *count > 0).map(|(reason, count)| format!("{reason}: {count}")).collect();
        said.join(", ")
    }
}
