//! From what is configured to the files of a model and the library that runs it.

use std::path::{Path, PathBuf};

use lmao_ports::ModelManifest;
use ort::environment::Environment;

use super::{
    ModelSource, Role, cache, directory, hub, runtime,
    slot::Report,
    sources::{self, MODEL_FILE, Route, TOKENIZER_FILE},
};

/// How one model is obtained and run.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) role: Role,
    pub(super) source: ModelSource,
    pub(super) cache_dir: PathBuf,
    pub(super) routes: Vec<Route>,
    pub(super) threads: usize,
}

/// A model's files, read.
pub(super) struct Files {
    /// Where they lie.
    pub(super) folder: PathBuf,
    /// What the model is; of a reranker, a vector's length is that of its one score.
    pub(super) manifest: ModelManifest,
    /// Its graph and weights.
    pub(super) onnx: Vec<u8>,
    /// Its tokenizer.
    pub(super) tokenizer: Vec<u8>,
}

/// The files, obtained if need be, and the library. `Err` is the reason for people.
pub(super) async fn files(setting: &Setting, report: &Report) -> Result<(Files, Environment), String> {
    let Setting { role, source, cache_dir, routes, .. } = setting;
    // The library's path must not depend on where the process is.
    let cache_dir = std::path::absolute(cache_dir)
        .map_err(|error| format!("the model cache {} cannot be used: {error}", cache_dir.display()))?;
    let library = library(*role, &cache_dir, routes, report);
    let (folder, manifest, library) = match (source, role) {
        (ModelSource::Off, _) => return Err("it is turned off".to_owned()),
        (ModelSource::Auto, Role::General) => {
            let model = cache::obtain(&sources::MODEL, &cache_dir, routes, report);
            let (model, library) = tokio::join!(model, library);
            let model = model.map_err(|error| format!("{error}. {}", role.what_to_do()))?;
            (model, sources::model_manifest(), library?)
        }
        (ModelSource::Auto | ModelSource::Hub(_), _) => {
            let model = match source {
                ModelSource::Hub(name) => sources::hub_model(*role, name),
                _ => sources::suggested(*role),
            };
            let model = model.ok_or_else(|| format!("{source:?} is no {} that this build knows", role.name()))?;
            // One after the other: most machines that cannot have the model have no use for the library either.
            let found = hub::obtain(&model, *role, &cache_dir, routes, report)
                .await
                .map_err(|error| format!("{error}. {}", role.what_to_do()))?;
            (found.folder, found.manifest, library.await?)
        }
        (ModelSource::Dir(dir), _) => {
            report.say(&format!("reading the {} in {}", role.name(), dir.display()));
            let found = directory::read(dir, *role).map_err(|error| error.to_string())?;
            let library = match found.library {
                Some(library) => library,
                None => library.await?,
            };
            (found.folder, found.manifest, library)
        }
    };
    let environment = runtime::environment(&library).map_err(|error| error.to_string())?;
    let read = |name: &str| std::fs::read(folder.join(name)).map_err(|error| format!("{name} cannot be read: {error}"));
    let (onnx, tokenizer) = (read(MODEL_FILE)?, read(TOKENIZER_FILE)?);
    Ok((Files { folder, manifest, onnx, tokenizer }, environment))
}

/// The library of ONNX Runtime.
async fn library(role: Role, cache_dir: &Path, routes: &[Route], report: &Report) -> Result<PathBuf, String> {
    let Some(artefact) = sources::runtime() else {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        return Err(format!("no build of ONNX Runtime is known for {os} on {arch}. {}", role.what_to_do()));
    };
    let folder = cache::obtain(artefact, cache_dir, routes, report)
        .await
        .map_err(|error| format!("{error}. {}", role.what_to_do()))?;
    Ok(artefact.files.iter().map(|file| folder.join(file.name)).collect())
}
