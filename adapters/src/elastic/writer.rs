//! Changing the index: staging, the commit, and who may.
//!
//! One lock holds all of it: changes come from one projector, one after another. Nothing here is a promise: what counts is
//! the state in the index, and whoever finds another one than was left there forgets what was staged.

use std::collections::{BTreeMap, BTreeSet};

use lmao_events::Position;
use lmao_ports::{IndexError, ModelManifest, Space, Unavailable};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    client::{Client, Op},
    entries::{Prepared, passage_id},
    error::{Error, STORE},
    layout::{self, Found, Serve},
    pages::Pages,
    query,
    state::{self, Counts, State, Stored},
    succession::{copy, reached_by, retire},
};
use crate::passages::spaces::BySpace;

/// Room for what is staged; what goes beyond is sent ahead of its commit, where searches do not see it yet.
const STAGED: usize = 32 << 20;
/// The server's limit of a vector.
const MAX_DIMENSIONS: usize = 4_096;

/// The last change of a document.
#[derive(Debug)]
enum Change {
    Put(Prepared),
    Delete,
}

/// Which index is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// Not known yet, or no longer.
    Unknown,
    /// There is none, or the newest one is of an older format, in which nothing is written: the first change begins one, which
    /// is empty until then. Looked up each time, for somebody else may begin it.
    NotBegun,
    At(String),
}

/// What the next commit will write, and where.
#[derive(Debug)]
pub(super) struct Writer {
    alias: String,
    replicas: u32,
    /// Of this process, at this time.
    id: Uuid,
    /// The index that is written. Seen by those who only read, too: they do not wait for a commit to end.
    index: watch::Sender<Written>,
    /// Of the vectors in the index, which cannot be changed there.
    dims: BySpace<Option<usize>>,
    /// The state that was seen last.
    stored: Option<Stored>,
    /// Whether that state names this writer, and nothing else has been seen since.
    is_owner: bool,
    /// Something that was staged went before its commit, by an error that another caller met: that commit must not succeed.
    is_cut: bool,
    /// Passages and vectors of an index, while nothing has changed since they were counted.
    counted: Option<(String, Counts)>,
    /// While the index is built beside the one that searches see: that one, and how far it reaches.
    replaces: Option<(String, Position)>,
    /// Of the vectors to come.
    models: BySpace<Option<ModelManifest>>,
    /// The checkpoint, where it is known in memory only.
    reached: Position,
    staged: BTreeMap<Uuid, Change>,
    staged_bytes: usize,
    /// Bytes that are staged before they are sent ahead of their commit.
    pub(super) room: usize,
    /// Passages that were sent since the last commit, which searches may not see yet.
    sent: BTreeMap<Uuid, BTreeSet<u32>>,
}

impl Writer {
    pub(super) fn new(alias: String, replicas: u32, id: Uuid) -> Self {
        Self {
            alias,
            replicas,
            id,
            index: watch::Sender::new(Written::Unknown),
            dims: BySpace::default(),
            stored: None,
            is_owner: false,
            is_cut: false,
            counted: None,
            replaces: None,
            models: BySpace::default(),
            reached: Position::default(),
            staged: BTreeMap::new(),
            staged_bytes: 0,
            room: STAGED,
            sent: BTreeMap::new(),
        }
    }

    fn is_begun(&self) -> bool {
        *self.index.borrow() != Written::NotBegun
    }

    /// Tells which index is written.
    pub(super) fn watch(&self) -> watch::Receiver<Written> {
        self.index.subscribe()
    }

    /// The index that is written, looked up where it is not known: the newest. Where there is none, or that one is of an older
    /// format, the one that will come after it. Nothing is made or changed: those who only look come by here, too.
    pub(super) async fn locate(&mut self, client: &Client) -> Result<String, Error> {
        if let Written::At(index) = &*self.index.borrow() {
            return Ok(index.clone());
        }
        let found = layout::list(client, &self.alias).await?;
        let dims = match found.last() {
            Some(last) => layout::dimensions(client, &last.name).await?,
            None => None,
        };
        let (Some(last), Some(dims)) = (found.last(), dims) else {
            self.adopt(None);
            self.index.send_replace(Written::NotBegun);
            return Ok(layout::next_name(&self.alias, found.last()));
        };
        self.dims = dims;
        let stored = state::read(client, &last.name).await?;
        self.replaces = match found.iter().find(|found| found.is_serving && *found != last) {
            Some(serving) => Some((serving.name.clone(), reached_by(client, &serving.name).await?)),
            None => None,
        };
        self.adopt(stored);
        self.index.send_replace(Written::At(last.name.clone()));
        Ok(last.name.clone())
    }

    /// Likewise, for a change: the first one is made now, and one that is of an older format gets a successor, which is built
    /// from the log.
    async fn locate_to_write(&mut self, client: &Client) -> Result<String, Error> {
        let index = self.locate(client).await?;
        if self.is_begun() {
            return Ok(index);
        }
        let found = layout::ensure(client, &self.alias, self.replicas).await?;
        let nothing = || IndexError::from(Unavailable::plain(STORE, "no index can be made"));
        let last = found.last().ok_or_else(nothing)?;
        if layout::dimensions(client, &last.name).await?.is_none() {
            tracing::info!(index, "the search index is of an older format; it is rebuilt from the log");
            self.begin(client, &found).await?;
        }
        let index = self.locate(client).await?;
        if self.is_begun() { Ok(index) } else { Err(Error::Fenced) }
    }

    /// Goes on from a state that another writer left: what was staged is nothing any more.
    fn adopt(&mut self, stored: Option<Stored>) {
        let state = stored.as_ref().map(|stored| stored.state.clone()).unwrap_or_default();
        self.stored = stored;
        self.is_owner = false;
        self.reached = state.checkpoint;
        self.models = state.models();
        self.forget();
    }

    fn forget(&mut self) {
        self.is_cut |= !self.staged.is_empty() || !self.sent.is_empty();
        self.counted = None;
        self.staged.clear();
        self.staged_bytes = 0;
        self.sent.clear();
    }

    /// Looks everything up again before the next step, if another process has taken over or removed the index.
    pub(super) fn notice(&mut self, error: &Error) {
        if matches!(error, Error::Fenced) || error.is_missing_index() {
            self.index.send_replace(Written::Unknown);
            self.is_owner = false;
            self.forget();
        }
    }

    /// How far the index reaches; what is known in memory only counts while nobody else has written.
    pub(super) async fn checkpoint(&mut self, client: &Client) -> Result<Position, Error> {
        let index = self.locate(client).await?;
        if !self.is_begun() {
            return Ok(Position::default());
        }
        let stored = state::read(client, &index).await?;
        if stored == self.stored {
            return Ok(self.reached);
        }
        if self.staged.is_empty() && self.sent.is_empty() {
            self.adopt(stored);
            return Ok(self.reached);
        }
        // Whoever has staged something learns of the other writer when it commits; one who only asks changes nothing.
        Ok(stored.map(|stored| stored.state.checkpoint).unwrap_or_default())
    }

    /// Becomes the one who writes: from here on, what writers before it send late is refused.
    async fn own(&mut self, client: &Client) -> Result<(String, u64), Error> {
        let index = self.locate_to_write(client).await?;
        if let Some(stored) = self.stored.as_ref().filter(|_| self.is_owner) {
            return Ok((index, stored.state.epoch));
        }
        let stored = state::read(client, &index).await?;
        let is_ours = stored.as_ref().is_some_and(|stored| stored.state.writer == self.id);
        if stored != self.stored && !is_ours {
            self.adopt(stored);
            return Err(Error::Fenced);
        }
        // Searches see one of them, even where somebody took the alias away.
        layout::ensure(client, &self.alias, self.replicas).await?;
        let mut state = stored.as_ref().map(|stored| stored.state.clone()).unwrap_or_default();
        state.epoch += 1;
        state.writer = self.id;
        let epoch = state.epoch;
        self.stored = Some(state::write(client, &index, stored.map(|stored| stored.place), state).await?);
        // What a writer that died had sent is seen by searches before we ask them what to replace.
        client.refresh(&index).await?;
        self.is_owner = true;
        Ok((index, epoch))
    }

    /// Dimensions of the vectors to come.
    pub(super) fn dims(&self) -> BySpace<Option<usize>> {
        BySpace::each(|space| self.models.of(space).as_ref().map(|model| model.dimensions))
    }

    pub(super) async fn put(&mut self, client: &Client, document: Uuid, prepared: Prepared) -> Result<(), Error> {
        let bytes = prepared.bytes;
        self.stage(client, document, Change::Put(prepared), bytes).await
    }

    pub(super) async fn delete(&mut self, client: &Client, document: Uuid) -> Result<(), Error> {
        self.stage(client, document, Change::Delete, 0).await
    }

    async fn stage(&mut self, client: &Client, document: Uuid, change: Change, bytes: usize) -> Result<(), Error> {
        self.locate_to_write(client).await?;
        self.staged_bytes += bytes;
        if let Some(Change::Put(replaced)) = self.staged.insert(document, change) {
            self.staged_bytes -= replaced.bytes;
        }
        if self.staged_bytes > self.room {
            let sent = self.send(client).await;
            // Told to the one who staged it.
            self.is_cut &= sent.is_ok();
            sent?;
        }
        Ok(())
    }

    /// Sends what is staged. Searches see it after the next refresh.
    async fn send(&mut self, client: &Client) -> Result<(), Error> {
        let (index, epoch) = self.own(client).await?;
        // One that was paused learns here that it was replaced; what is on its way already, by the epoch.
        if state::read(client, &index).await? != self.stored {
            return Err(Error::Fenced);
        }
        let documents: Vec<Uuid> = self.staged.keys().copied().collect();
        let mut held = query::ordinals(client, &index, &documents).await?;
        let mut ops = Vec::new();
        for (&document, change) in &self.staged {
            let sent = self.sent.entry(document).or_default();
            let mut gone: BTreeSet<u32> = held.remove(&document).unwrap_or_default().into_iter().collect();
            gone.extend(&*sent);
            match change {
                Change::Put(prepared) => {
                    gone.retain(|ordinal| prepared.ordinals.binary_search(ordinal).is_err());
                    // Noted before they are sent: a bulk that fails may have stored some.
                    sent.extend(&prepared.ordinals);
                    ops.extend(prepared.ops(document));
                }
                Change::Delete => ops.push(Op::Delete { id: document.to_string(), routing: document.to_string() }),
            }
            let gone = gone.into_iter().map(|ordinal| passage_id(document, ordinal));
            ops.extend(gone.map(|id| Op::Delete { id, routing: document.to_string() }));
        }
        client.bulk(&layout::own(&index), epoch, &ops).await?;
        self.staged.clear();
        self.staged_bytes = 0;
        Ok(())
    }

    /// Passages first, visible second, and only then the state that says so.
    pub(super) async fn commit(&mut self, client: &Client, checkpoint: Position) -> Result<(), Error> {
        let done = if self.is_cut { Err(Error::Fenced) } else { self.write(client, checkpoint).await };
        if done.is_err() {
            // What is left of it is staged again by the one who is told so now.
            self.forget();
            self.is_cut = false;
        }
        done
    }

    async fn write(&mut self, client: &Client, checkpoint: Position) -> Result<(), Error> {
        self.locate_to_write(client).await?;
        if !self.staged.is_empty() || !self.sent.is_empty() {
            self.send(client).await?;
            let (index, _) = self.own(client).await?;
            client.refresh(&index).await?;
            self.counted = None;
        }
        // Without changes, too: other nodes wait for the checkpoint, and see it only here.
        self.write_state(client, checkpoint).await?;
        self.sent.clear();
        self.serve_if_caught_up(client).await
    }

    /// A state of this writer's, about the same log.
    fn state(&self, epoch: u64, checkpoint: Position) -> State {
        let log = self.stored.as_ref().and_then(|stored| stored.state.log);
        State { epoch, writer: self.id, checkpoint, log, ..State::default() }
    }

    /// Whose passages these are: this log's, unless they are another's.
    pub(super) async fn computed_from(&mut self, client: &Client, log: Uuid) -> Result<Uuid, Error> {
        let index = self.locate_to_write(client).await?;
        if let Some(of) = state::read(client, &index).await?.and_then(|stored| stored.state.log) {
            return Ok(of);
        }
        self.own(client).await?;
        let Some(Stored { state, place }) = self.stored.clone() else { return Err(Error::Fenced) };
        let state = State { log: Some(log), ..state };
        // Until the answer is here, what stands there is not known.
        self.is_owner = false;
        self.stored = Some(state::write(client, &index, Some(place), state).await?);
        self.is_owner = true;
        Ok(log)
    }

    async fn write_state(&mut self, client: &Client, checkpoint: Position) -> Result<(), Error> {
        if !self.is_owner {
            self.counted = None;
        }
        let (index, epoch) = self.own(client).await?;
        let counts = match &self.counted {
            Some((of, counts)) if *of == index => *counts,
            _ => query::counts(client, &index).await?,
        };
        self.counted = Some((index.clone(), counts));
        let state = self.state(epoch, checkpoint).with(self.models.clone(), counts);
        let place = self.stored.as_ref().map(|stored| stored.place);
        // Until the answer is here, what stands there is not known.
        self.is_owner = false;
        self.stored = Some(state::write(client, &index, place, state).await?);
        self.is_owner = true;
        self.reached = checkpoint;
        Ok(())
    }

    /// Ends a rebuild: searches see the new index as soon as it reaches as far as the old one, which goes.
    async fn serve_if_caught_up(&mut self, client: &Client) -> Result<(), Error> {
        let Some((before, target)) = self.replaces.clone().filter(|(_, target)| self.reached >= *target) else {
            return Ok(());
        };
        if self.stored.as_ref().is_none_or(|stored| stored.state.checkpoint < target) {
            self.write_state(client, self.reached).await?;
        }
        let index = self.locate(client).await?;
        layout::serve(client, &self.alias, &index, Some(&before)).await?;
        tracing::info!(index, before, "searches see the rebuilt index");
        self.replaces = None;
        // Left over by a reset that was broken off: never seen, and nobody writes there.
        let found = layout::list(client, &self.alias).await?;
        for left in found.iter().take_while(|found| found.name != index).filter(|found| !found.is_serving) {
            layout::remove(client, &left.name).await?;
        }
        Ok(())
    }

    /// Begins a new index. Searches see the old one until the new one has caught up with it.
    pub(super) async fn reset(&mut self, client: &Client) -> Result<(), Error> {
        self.forget();
        self.index.send_replace(Written::Unknown);
        let found = layout::ensure(client, &self.alias, self.replicas).await?;
        self.begin(client, &found).await?;
        self.locate(client).await?;
        let nothing_to_wait_for = self.replaces.as_ref().is_some_and(|(_, target)| *target == Position::default());
        if nothing_to_wait_for { self.serve_if_caught_up(client).await } else { Ok(()) }
    }

    /// Makes the index that comes after those there are, which nobody writes any more.
    async fn begin(&self, client: &Client, found: &[Found]) -> Result<(), Error> {
        let next = layout::next_name(&self.alias, found.last());
        for found in found {
            retire(client, &found.name, self.id).await?;
        }
        layout::create(client, &self.alias, &next, (BySpace::default(), self.replicas), Serve::Later).await?;
        // Those that were being built, and that searches never saw.
        for unfinished in found.iter().filter(|found| !found.is_serving) {
            layout::remove(client, &unfinished.name).await?;
        }
        Ok(())
    }

    /// Declares whose vectors come from now on in a space.
    pub(super) async fn use_model(
        &mut self,
        client: &Client,
        space: Space,
        manifest: &ModelManifest,
    ) -> Result<(), Error> {
        let index = self.locate_to_write(client).await?;
        let (known, dims) = (*self.dims.of(space), manifest.dimensions);
        if known == Some(dims) && self.models.of(space).as_ref() == Some(manifest) {
            return Ok(());
        }
        if dims == 0 || dims > MAX_DIMENSIONS {
            let what = format!("a model of {dims} dimensions; 1 to {MAX_DIMENSIONS} can be indexed");
            return Err(IndexError::Invalid(what).into());
        }
        if let Some(stored) = self.models.of(space)
            && (stored.id != manifest.id || stored.dimensions != dims)
        {
            let stored = stored.id.clone();
            if self.holds_vectors(client, &index, space).await? {
                return Err(IndexError::OtherModel { stored, wanted: manifest.id.clone() }.into());
            }
        }
        match known {
            Some(before) if before == dims => {}
            Some(_) => self.move_to(client, space, dims).await?,
            None => layout::set_dimensions(client, &index, space, dims).await?,
        }
        *self.dims.of_mut(space) = Some(dims);
        *self.models.of_mut(space) = Some(manifest.clone());
        Ok(())
    }

    /// Whether there will be vectors of a space after the staged changes.
    async fn holds_vectors(&mut self, client: &Client, index: &str, space: Space) -> Result<bool, Error> {
        let has_vectors = |change: &Change| matches!(change, Change::Put(prepared) if *prepared.has_vectors.of(space));
        if self.staged.values().any(has_vectors) {
            return Ok(true);
        }
        if !self.sent.is_empty() {
            client.refresh(index).await?;
        }
        let staged: Vec<Uuid> = self.staged.keys().copied().collect();
        Ok(query::vectors_beside(client, index, space, &staged).await? > 0)
    }

    /// Copies everything into a new index for vectors of other dimensions in a space, which a mapping cannot change, and lets
    /// it take the place of this one. There are none in that space to be copied.
    async fn move_to(&mut self, client: &Client, space: Space, dims: usize) -> Result<(), Error> {
        let (index, epoch) = self.own(client).await?;
        let found = layout::list(client, &self.alias).await?;
        let next = layout::next_name(&self.alias, found.last());
        let mut all = self.dims;
        *all.of_mut(space) = Some(dims);
        layout::create(client, &self.alias, &next, (all, self.replicas), Serve::Later).await?;
        if !self.sent.is_empty() {
            client.refresh(&index).await?;
        }
        let mut pages = Pages::open(client, &index).await?;
        let copied = copy(client, &mut pages, &next, epoch).await;
        pages.close().await;
        copied?;
        client.refresh(&next).await?;
        let counts = query::counts(client, &next).await?;
        let checkpoint = self.stored.as_ref().map_or(Position::default(), |stored| stored.state.checkpoint);
        let mut models = self.models.clone();
        *models.of_mut(space) = None;
        let state = self.state(epoch, checkpoint).with(models, counts);
        let stored = state::write(client, &next, None, state).await?;
        if found.iter().any(|found: &Found| found.is_serving && found.name == index) {
            layout::serve(client, &self.alias, &next, Some(&index)).await?;
        } else {
            layout::remove(client, &index).await?;
        }
        self.index.send_replace(Written::At(next));
        self.stored = Some(stored);
        Ok(())
    }
}
