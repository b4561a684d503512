//! Changing the index: staging documents, and the commit that makes them visible and durable together.

use std::collections::HashMap;

use lmao_events::Position;
use lmao_ports::{IndexError, IndexedDocument, ModelManifest, Space};
use uuid::Uuid;

use super::{
    engine::{Engine, Writing},
    store::{Catalog, Change, Maps, Store},
    text::{TextIndex, TextWriter},
};
use crate::passages::spaces::BySpace;

/// A durable state that is not visible yet.
struct Next {
    maps: Maps,
    /// What replaces store and catalog after a compaction; otherwise the staged changes are applied to those there are.
    compacted: Option<(Store, Catalog)>,
}

impl Engine {
    pub(super) fn put(&self, document: &IndexedDocument) -> Result<(), IndexError> {
        let writing = &mut *self.writing()?;
        let change = writing.store.write(writing.next_entry, document)?;
        writing.next_entry += 1;
        writing.staged.push(change);
        Ok(())
    }

    pub(super) fn delete(&self, document_id: Uuid) -> Result<(), IndexError> {
        let writing = &mut *self.writing()?;
        let committed = self.view()?.catalog.document(&document_id).is_some();
        if committed || writing.staged.iter().any(|change| change.document_id() == document_id) {
            writing.staged.push(Change::Delete(document_id));
        }
        Ok(())
    }

    pub(super) fn use_model(&self, space: Space, manifest: ModelManifest) -> Result<(), IndexError> {
        let writing = &mut *self.writing()?;
        match writing.models.of(space) {
            Some(stored) if stored.id == manifest.id && stored.dimensions == manifest.dimensions => {}
            Some(stored) if self.rows_held(writing, space)? > 0 => {
                return Err(IndexError::OtherModel { stored: stored.id.clone(), wanted: manifest.id });
            }
            _ => writing.store.start_vectors(space, manifest.dimensions)?,
        }
        *writing.models.of_mut(space) = Some(manifest);
        Ok(())
    }

    /// Whose content it is: this log's, unless it is another's. Said of an empty index by its first commit, at once of what a
    /// build left that did not say it.
    pub(super) fn computed_from(&self, log: Uuid) -> Result<Uuid, IndexError> {
        let writing = &mut *self.writing()?;
        if let Some(of) = writing.log {
            return Ok(of);
        }
        writing.log = Some(log);
        if writing.saved > Position::default() && writing.staged.is_empty() {
            let kept = self.keep(writing);
            writing.log = writing.log.filter(|_| kept.is_ok());
            kept?;
        }
        Ok(log)
    }

    /// Vectors of a space that will be there after the staged changes.
    fn rows_held(&self, writing: &Writing, space: Space) -> Result<u64, IndexError> {
        let view = self.view()?;
        let catalog = &view.catalog;
        let last = last_changes(&writing.staged);
        let replaced: u64 =
            last.keys().filter_map(|id| catalog.document(id)).map(|document| document.rows(space)).sum();
        let staged: u64 = last.values().map(|change| change.rows(space)).sum();
        Ok(catalog.live_rows(space) - replaced + staged)
    }

    pub(super) fn commit(&self, checkpoint: Position) -> Result<(), IndexError> {
        let writing = &mut *self.writing()?;
        if writing.staged.is_empty() {
            return self.advance(writing, checkpoint);
        }
        let mark = writing.store.mark();
        let next = match self.make_durable(writing, checkpoint) {
            Ok(next) => next,
            Err(error) => {
                // The staged changes stay for the next commit, which begins where this one began.
                writing.writer = None;
                writing.store.rewind(mark);
                return Err(error);
            }
        };
        self.publish(writing, next, checkpoint)
    }

    /// Writes and syncs everything, then commits tantivy: the one step after which the changes are there.
    fn make_durable(&self, writing: &mut Writing, checkpoint: Position) -> Result<Next, IndexError> {
        let view = self.view()?;
        let written = writing.store.map()?;
        let mut compacted = None;
        if view.catalog.wants_compaction(&writing.staged) {
            let (store, catalog) = writing.store.compacted(&written, &view.catalog, &writing.staged)?;
            compacted = Some((store, catalog));
        } else {
            writing.store.record(&writing.staged)?;
        }
        let store = compacted.as_mut().map_or(&mut writing.store, |(store, _)| store);
        store.sync()?;
        let maps = store.map()?;
        let store = compacted.as_ref().map_or(&writing.store, |(store, _)| store);
        let payload = writing.payload(store, checkpoint)?;
        let writer = open_writer(&self.text, &mut writing.writer)?;
        // In the order of their entries, not of a map: the same changes make the same segments.
        let mut changes: Vec<_> = last_changes(&writing.staged).into_iter().collect();
        changes.sort_unstable_by_key(|(id, change)| match change {
            Change::Put(document, _) => (document.entry, *id),
            Change::Delete(_) => (0, *id),
        });
        for (id, change) in changes {
            if let Some(replaced) = view.catalog.document(&id) {
                writer.remove(replaced.entry);
            }
            if let Change::Put(document, _) = change {
                for number in 0..document.chunks.len() {
                    writer.add(document, number, &written.passage(document, number)?)?;
                }
            }
        }
        writer.commit(&payload)?;
        Ok(Next { maps, compacted })
    }

    /// Shows what is durable.
    fn publish(&self, writing: &mut Writing, next: Next, checkpoint: Position) -> Result<(), IndexError> {
        let staged = std::mem::take(&mut writing.staged);
        writing.saved = checkpoint;
        // Until this has worked, the keyword leg misses new passages; it never shows what is gone, for the catalog decides.
        // Nor is the checkpoint reached: whoever feeds the index comes again from where it was.
        let reloaded = self.text.reload();
        writing.stale = reloaded.is_err();
        self.reach(self.checkpoint().min(checkpoint));
        let compacted = next.compacted.map(|(store, catalog)| {
            writing.store = store;
            catalog
        });
        self.show(|view| {
            let searcher = self.text.searcher();
            match compacted {
                Some(catalog) => (view.catalog, view.text) = (catalog, searcher),
                None => {
                    staged.iter().for_each(|change| view.catalog.apply(change));
                    view.text = view.text.followed_by(searcher);
                }
            }
            view.maps = next.maps.into();
            view.models.clone_from(&writing.models);
        })?;
        writing.store.sweep();
        reloaded?;
        let view = self.view()?;
        view.text.prepare(&view.catalog);
        self.reach(checkpoint);
        Ok(())
    }

    /// A commit that has nothing to write, without waiting for anybody; `false` when it is not one.
    pub(super) fn advanced(&self, checkpoint: Position) -> bool {
        let nothing = |writing: &Writing| writing.staged.is_empty() && !writing.stale;
        let Some(_writing) = self.idle_writing().filter(|writing| nothing(writing)) else { return false };
        self.reach(checkpoint);
        true
    }

    /// A commit without changes.
    fn advance(&self, writing: &mut Writing, checkpoint: Position) -> Result<(), IndexError> {
        if writing.stale {
            self.text.reload()?;
            self.show(|view| view.text = view.text.followed_by(self.text.searcher()))?;
            writing.stale = false;
        }
        self.reach(checkpoint);
        Ok(())
    }

    /// Writes the checkpoint down. Not while changes are staged: their commit names it, and what they have written so far is
    /// nothing yet.
    pub(super) fn save(&self) -> Result<(), IndexError> {
        let writing = &mut *self.writing()?;
        let checkpoint = self.checkpoint();
        if checkpoint <= writing.saved || !writing.staged.is_empty() {
            return Ok(());
        }
        self.keep(writing)
    }

    /// Writes down what is known in memory only, while nothing is staged.
    fn keep(&self, writing: &mut Writing) -> Result<(), IndexError> {
        let checkpoint = self.checkpoint();
        writing.store.sync()?;
        let payload = writing.payload(&writing.store, checkpoint)?;
        let saved = open_writer(&self.text, &mut writing.writer).and_then(|writer| writer.commit(&payload));
        if saved.is_err() {
            writing.writer = None;
        }
        saved?;
        writing.saved = checkpoint;
        Ok(())
    }

    pub(super) fn reset(&self) -> Result<(), IndexError> {
        let writing = &mut *self.writing()?;
        let mut store = Store::create(&writing.rows, writing.store.next_number())?;
        store.sync()?;
        writing.staged.clear();
        writing.models = BySpace::default();
        writing.log = None;
        let payload = writing.payload(&store, Position::default())?;
        let cleared = open_writer(&self.text, &mut writing.writer).and_then(|writer| {
            writer.clear()?;
            writer.commit(&payload)
        });
        if cleared.is_err() {
            writing.writer = None;
        }
        cleared?;
        let next = Next { maps: store.map()?, compacted: Some((store, Catalog::default())) };
        self.publish(writing, next, Position::default())
    }
}

/// The last change of each document: what came before it in the same commit was never seen.
fn last_changes(staged: &[Change]) -> HashMap<Uuid, &Change> {
    staged.iter().map(|change| (change.document_id(), change)).collect()
}

fn open_writer<'a>(text: &TextIndex, writer: &'a mut Option<TextWriter>) -> Result<&'a mut TextWriter, IndexError> {
    match writer {
        Some(writer) => Ok(writer),
        None => Ok(writer.insert(text.writer()?)),
    }
}
