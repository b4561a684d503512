//! The index, blocking: what is open, who may see it, and how it is opened.
//!
//! One lock holds everything that is being written, another the view: what is visible. Nobody works under the second.
//! Readers take a reference to the view out of it, so a query sees the state of one commit in all its parts, and one that
//! reads everything holds up nobody. A commit changes the view in place, or a copy of it while somebody still reads the last.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use lmao_events::Position;
use lmao_ports::{IndexError, ModelManifest, Space, Unavailable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    error,
    store::{Catalog, Change, Maps, State, Store, sync_directory},
    text::{self, Left, Searcher, TextIndex, TextWriter},
};
use crate::passages::spaces::BySpace;

/// The layout of files and payload.
const FORMAT: u32 = 4;

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) text: TextIndex,
    writing: Mutex<Writing>,
    view: RwLock<Arc<View>>,
    /// The position that the view has reached. Apart from it: most commits change nothing else.
    checkpoint: AtomicU64,
}

/// What queries see: the last commit.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub catalog: Catalog,
    pub maps: Arc<Maps>,
    pub text: Searcher,
    pub models: BySpace<Option<ModelManifest>>,
}

/// What the next commit will make visible.
#[derive(Debug)]
pub(super) struct Writing {
    pub rows: PathBuf,
    pub store: Store,
    /// None after a failure, until the next commit opens it again.
    pub writer: Option<TextWriter>,
    pub staged: Vec<Change>,
    pub models: BySpace<Option<ModelManifest>>,
    /// The log that the content is computed from.
    pub log: Option<Uuid>,
    pub next_entry: u64,
    /// The checkpoint that is durable.
    pub saved: Position,
    /// Whether searches do not see tantivy's last commit yet.
    pub stale: bool,
}

/// What tantivy's commit carries, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    format: u32,
    checkpoint: Position,
    next_entry: u64,
    models: BySpace<Option<ModelManifest>>,
    rows: State,
    /// Not said by builds before this field.
    #[serde(default)]
    log: Option<Uuid>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Engine {
    pub(super) fn open(dir: &Path) -> Result<Self, IndexError> {
        let (text_dir, rows) = (dir.join("text"), dir.join("rows"));
        make(&text_dir)?;
        if is_outdated(&text_dir)? {
            tracing::info!(reads = FORMAT, "the search index is of an older format; it is rebuilt from the log");
            erase(dir)?;
            make(&text_dir)?;
        }
        make(&rows)?;
        sync_directory(dir)?;
        remove(&erased(dir))?;
        let (text, payload) = TextIndex::open(&text_dir)?;
        // Before any file is touched: the writer's lock is what says that they are ours.
        let writer = text.writer()?;
        let payload = payload.map(|payload| read(&payload)).transpose()?;
        let (mut store, catalog) = match &payload {
            Some(payload) => Store::open(&rows, &payload.rows)?,
            None => (Store::create(&rows, 1)?, Catalog::default()),
        };
        store.sweep();
        let checkpoint = payload.as_ref().map_or(Position::default(), |payload| payload.checkpoint);
        let next_entry = payload.as_ref().map_or(0, |payload| payload.next_entry);
        let log = payload.as_ref().and_then(|payload| payload.log);
        let models = payload.map(|payload| payload.models).unwrap_or_default();
        let view = View { catalog, maps: store.map()?.into(), text: text.searcher(), models: models.clone() };
        let writing = Writing {
            rows,
            store,
            writer: Some(writer),
            staged: Vec::new(),
            models,
            log,
            next_entry,
            saved: checkpoint,
            stale: false,
        };
        Ok(Self {
            text,
            writing: Mutex::new(writing),
            view: RwLock::new(view.into()),
            checkpoint: AtomicU64::new(checkpoint.0),
        })
    }

    pub(super) fn writing(&self) -> Result<MutexGuard<'_, Writing>, IndexError> {
        self.writing.lock().map_err(|_| error::poisoned())
    }

    /// What is being written, if nobody is at it.
    pub(super) fn idle_writing(&self) -> Option<MutexGuard<'_, Writing>> {
        self.writing.try_lock().ok()
    }

    pub(super) fn view(&self) -> Result<Arc<View>, IndexError> {
        self.view.read().map(|view| Arc::clone(&view)).map_err(|_| error::poisoned())
    }

    /// Changes what is visible from now on. Whoever has a view keeps it as it is.
    pub(super) fn show(&self, change: impl FnOnce(&mut View)) -> Result<(), IndexError> {
        let mut view = self.view.write().map_err(|_| error::poisoned())?;
        change(Arc::make_mut(&mut view));
        Ok(())
    }

    pub(super) fn checkpoint(&self) -> Position {
        Position(self.checkpoint.load(Ordering::Acquire))
    }

    pub(super) fn reach(&self, checkpoint: Position) {
        self.checkpoint.store(checkpoint.0, Ordering::Release);
    }

    pub(super) fn model(&self, space: Space) -> Result<Option<ModelManifest>, IndexError> {
        Ok(self.view()?.model(space).cloned())
    }

    pub(super) fn holds(&self, document_id: &Uuid) -> Result<bool, IndexError> {
        Ok(self.view()?.catalog.document(document_id).is_some())
    }

    pub(super) fn has_documents_of(&self, owner: &Uuid) -> Result<bool, IndexError> {
        Ok(self.view()?.catalog.is_owner(owner))
    }

    pub(super) fn passages(&self) -> Result<u64, IndexError> {
        Ok(self.view()?.catalog.passages())
    }

    pub(super) fn without_vectors(&self) -> Result<u64, IndexError> {
        Ok(self.view()?.catalog.bare())
    }
}

impl View {
    /// The model of this space's vectors, if there are any.
    pub(super) fn model(&self, space: Space) -> Option<&ModelManifest> {
        self.models.of(space).as_ref().filter(|_| self.catalog.live_rows(space) > 0)
    }
}

impl Writing {
    /// What a commit of `store` at `checkpoint` carries.
    pub(super) fn payload(&self, store: &Store, checkpoint: Position) -> Result<String, IndexError> {
        let payload = Payload {
            format: FORMAT,
            checkpoint,
            next_entry: self.next_entry,
            models: self.models.clone(),
            rows: store.state(),
            log: self.log,
        };
        serde_json::to_string(&payload)
            .map_err(|e| Unavailable::new(error::STORE, "the commit's state cannot be written as JSON", e).into())
    }
}

fn altered(_: serde_json::Error) -> IndexError {
    error::damaged("the state in its last commit is not readable")
}

fn format_of(payload: &str) -> Result<u32, IndexError> {
    let Format { format } = serde_json::from_str(payload).map_err(altered)?;
    if format > FORMAT {
        let message = format!(
            "it was written by a newer version (format {format}, this one reads {FORMAT}); use that version, or rebuild the \
             index with `lmao projections rebuild search`"
        );
        return Err(Unavailable::plain(error::STORE, message).into());
    }
    Ok(format)
}

/// Whether the index in `dir` is of an older format than what is read here. Looked at before anything else is: what an older
/// version laid out may make no sense now.
fn is_outdated(dir: &Path) -> Result<bool, IndexError> {
    Ok(match text::left_in(dir)? {
        Left::Payload(payload) => format_of(&payload)? < FORMAT,
        Left::OtherSchema => true,
        Left::Nothing => false,
    })
}

fn read(payload: &str) -> Result<Payload, IndexError> {
    format_of(payload)?;
    serde_json::from_str(payload).map_err(altered)
}

fn make(dir: &Path) -> Result<(), IndexError> {
    fs::create_dir_all(dir).map_err(|e| error::file("create", dir, e))
}

fn erased(dir: &Path) -> PathBuf {
    dir.join("erased")
}

/// Removes the index in `dir`. The rename is the one step that counts: without `text/` the index is empty.
pub(super) fn erase(dir: &Path) -> Result<(), IndexError> {
    let (text, erased) = (dir.join("text"), erased(dir));
    remove(&erased)?;
    match fs::rename(&text, &erased) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(error::file("remove", &text, e)),
        Err(_) => {}
        Ok(()) => sync_directory(dir)?,
    }
    remove(&dir.join("rows"))?;
    remove(&erased)
}

fn remove(dir: &Path) -> Result<(), IndexError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(error::file("remove", dir, e)),
        _ => Ok(()),
    }
}
