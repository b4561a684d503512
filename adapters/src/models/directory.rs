//! A model in a directory that the user names: which files it must hold, and what its manifest may look like.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use lmao_ports::{ModelManifest, Pooling};
use serde::Deserialize;

use super::{
    Role,
    cache::sha256,
    sources::{MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE},
};

/// A manifest is a few lines; a larger file is something else.
const MAX_MANIFEST: u64 = 64 << 10;

/// Lengths of vectors that make sense.
const DIMENSIONS: std::ops::RangeInclusive<usize> = 8..=8192;

/// Lengths of inputs that make sense.
const MAX_TOKENS: std::ops::RangeInclusive<usize> = 16..=131_072;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It is not there.
    #[error("the model directory {path} cannot be read ({source}); name a directory that holds a model")]
    NoDirectory {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It lacks files.
    #[error("the model directory {path} lacks {missing}")]
    Incomplete {
        /// Where.
        path: PathBuf,
        /// The files.
        missing: String,
    },
    /// Its manifest makes no sense.
    #[error("{path}: {fault}")]
    Manifest {
        /// Where.
        path: PathBuf,
        /// What to change.
        fault: String,
    },
    /// A file is not the one that the manifest names.
    #[error("{path} was altered: its SHA-256 is {found}, the manifest says {wanted}; copy it again")]
    Hash {
        /// Where.
        path: PathBuf,
        /// As it is.
        found: String,
        /// As the manifest says.
        wanted: String,
    },
}

/// What a directory holds.
#[derive(Debug)]
pub(super) struct Found {
    /// The directory, absolute.
    pub(super) folder: PathBuf,
    /// What the model is.
    pub(super) manifest: ModelManifest,
    /// The library of ONNX Runtime, if it lies there too.
    pub(super) library: Option<PathBuf>,
}

/// A manifest as people write it: ours, or one with a `model` name where ours has an `id`.
#[derive(Debug, Deserialize)]
struct Manifest {
    id: Option<String>,
    model: Option<String>,
    /// Of an embedding model only.
    dimensions: Option<usize>,
    /// Of an embedding model only.
    pooling: Option<Pooling>,
    #[serde(default = "normalized")]
    normalize: bool,
    max_tokens: usize,
    #[serde(default)]
    query_prefix: String,
    #[serde(default)]
    passage_prefix: String,
    #[serde(default)]
    sha256: BTreeMap<String, String>,
}

const fn normalized() -> bool {
    true
}

/// Reads and checks a model's directory; the files that the manifest has hashes of are verified.
pub(super) fn read(path: &Path, role: Role) -> Result<Found, Error> {
    let unreadable = |source| Error::NoDirectory { path: path.to_owned(), source };
    let folder = fs::canonicalize(path).map_err(unreadable)?;
    let library = find_library(&folder).map_err(unreadable)?;
    let missing: Vec<_> =
        [MODEL_FILE, TOKENIZER_FILE, MANIFEST_FILE].into_iter().filter(|name| !folder.join(name).is_file()).collect();
    if !missing.is_empty() {
        return Err(Error::Incomplete { path: path.to_owned(), missing: missing.join(", ") });
    }
    let manifest_path = folder.join(MANIFEST_FILE);
    let fault = |fault: String| Error::Manifest { path: manifest_path.clone(), fault };
    let manifest = parse(&manifest_path).map_err(fault)?;
    let (dimensions, pooling) = check(&manifest, role).map_err(fault)?;
    let model_hash = verify(&folder, &manifest)?;
    Ok(Found { manifest: identified(manifest, dimensions, pooling, &model_hash), folder, library })
}

fn parse(path: &Path) -> Result<Manifest, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_MANIFEST {
        return Err(format!("{size} bytes are too many for a manifest"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("it is no model manifest ({error})"))
}

/// What a vector of it is. A reranker's is its one score.
fn check(manifest: &Manifest, role: Role) -> Result<(usize, Pooling), String> {
    let name = manifest.id.as_deref().or(manifest.model.as_deref()).unwrap_or_default().trim();
    if name.is_empty() || name.len() > 200 {
        return Err("`id` must name the model, in at most 200 bytes".to_owned());
    }
    if !manifest.normalize {
        return Err("`normalize` must be true: passages are compared by cosine similarity".to_owned());
    }
    if !MAX_TOKENS.contains(&manifest.max_tokens) {
        return Err(format!("`max_tokens` must lie in {MAX_TOKENS:?}"));
    }
    if role == Role::Reranker {
        return Ok((1, Pooling::Cls));
    }
    let dimensions = manifest.dimensions.filter(|dimensions| DIMENSIONS.contains(dimensions));
    let dimensions = dimensions.ok_or_else(|| format!("`dimensions` must lie in {DIMENSIONS:?}"))?;
    let pooling = manifest.pooling.ok_or("`pooling` must be given: `cls` or `mean`")?;
    Ok((dimensions, pooling))
}

/// Compares the files with the manifest's hashes; the model's own hash.
fn verify(folder: &Path, manifest: &Manifest) -> Result<String, Error> {
    let mut model_hash = String::new();
    for name in [MODEL_FILE, TOKENIZER_FILE] {
        let path = folder.join(name);
        let found = sha256(&path).map_err(|source| Error::NoDirectory { path: path.clone(), source })?;
        if let Some(wanted) = manifest.sha256.get(name)
            && !wanted.eq_ignore_ascii_case(&found)
        {
            return Err(Error::Hash { path, found, wanted: wanted.clone() });
        }
        if name == MODEL_FILE {
            model_hash = found;
        }
    }
    Ok(model_hash)
}

/// Gives a model that has only a name an id that no other weights share.
fn identified(manifest: Manifest, dimensions: usize, pooling: Pooling, model_hash: &str) -> ModelManifest {
    let id = manifest.id.unwrap_or_else(|| {
        let model = manifest.model.unwrap_or_default();
        let name = model.rsplit('/').next().unwrap_or_default();
        format!("{name}-{}", &model_hash[..8.min(model_hash.len())])
    });
    ModelManifest {
        id,
        dimensions,
        pooling,
        normalize: manifest.normalize,
        max_tokens: manifest.max_tokens,
        query_prefix: manifest.query_prefix,
        passage_prefix: manifest.passage_prefix,
    }
}

/// `libonnxruntime.so`, `libonnxruntime.so.1.32.0`, `libonnxruntime.dylib`, `onnxruntime.dll`; not its plug-ins.
fn find_library(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut found: Vec<_> = fs::read_dir(folder)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_library))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    Ok(found.into_iter().next())
}

fn is_library(name: &str) -> bool {
    let stem = name.strip_prefix("lib").unwrap_or(name);
    stem.strip_prefix("onnxruntime").is_some_and(|rest| {
        rest.starts_with(".so") || rest.ends_with(".dylib") && rest.starts_with('.') || rest == ".dll"
    })
}
