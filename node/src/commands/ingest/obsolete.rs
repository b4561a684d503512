//! Documents that their files no longer hold: older versions of what was sent, and what is not there any more. They go only
//! once the files have been sent, so that nothing is missing meanwhile; whatever a run leaves behind, the next one finds.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use futures::StreamExt as _;
use reqwest::StatusCode;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    AT_ONCE, concerns_all,
    origin::Origins,
    summary::{Failed, Summary, shown},
    walk::{self, Walk},
};
use crate::{
    cli::Ingest,
    client::{Client, Document, Documents},
    exit::{Code, Stop},
    output::{count, note},
};

const ROUTE: &str = "/api/v1/documents";
/// Documents of one page of the list.
const PAGE: &str = "200";

/// A file that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// Its path, in the words of the command line.
    pub path: PathBuf,
    /// Where it comes from, where that can be told.
    pub origin: Option<String>,
    /// The document that holds its content, where there is one.
    pub document_id: Option<Uuid>,
    /// Whether that can be found.
    pub is_ready: bool,
}

/// A document whose file is not there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Pruned {
    pub path: String,
    pub document_id: Uuid,
}

/// Which documents go.
#[derive(Debug)]
pub(super) struct Rules {
    origins: Origins,
    /// Whether older versions of files stay.
    keeps_old: bool,
    /// Folders of which those documents go whose file is gone, and what the origins of all their files begin with.
    pruned: Vec<(PathBuf, String)>,
    /// Whether folders may be empty.
    forced: bool,
}

impl Rules {
    /// As the command line says; `paths` are left to it that are there.
    ///
    /// # Errors
    /// [`Code::Usage`] when a folder to prune is missing, unless that is forced.
    pub(super) fn new(ingest: &Ingest, paths: &mut Vec<PathBuf>) -> Result<Self, Stop> {
        let origins = Origins::new(ingest.machine.as_deref())?;
        let mut pruned = vec![];
        if ingest.prune {
            let missing = |path: &Path| fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
            for root in paths.iter().map(|path| walk::root(path)) {
                if missing(&root) && !ingest.force {
                    return Err(unseen(&root, "is not there"));
                }
                if root.is_dir() || missing(&root) {
                    pruned.extend(origins.below(&root).map(|origin| (root, origin)));
                }
            }
            paths.retain(|path| !missing(&walk::root(path)));
        }
        Ok(Self { origins, keeps_old: ingest.keep_old, pruned, forced: ingest.force })
    }

    /// Where a file comes from.
    pub(super) fn origin(&self, path: &Path) -> Option<String> {
        self.origins.of_file(path)
    }

    /// Refuses to prune what looks as if its disk were not mounted.
    ///
    /// # Errors
    /// [`Code::Usage`] when nothing was found in a folder to prune.
    pub(super) fn check(&self, found: &Walk) -> Result<(), Stop> {
        if self.pruned.is_empty() {
            return Ok(());
        }
        let origins: Vec<String> = found.files.iter().filter_map(|file| self.origin(&file.path)).collect();
        let is_bare = |(_, root): &&(PathBuf, String)| !origins.iter().any(|origin| origin.starts_with(root));
        let bare = self.pruned.iter().find(is_bare);
        bare.map_or(Ok(()), |(folder, _)| Err(unseen(folder, "has no file in it that could be sent")))
    }

    /// Whether there may be anything to do when no file is sent.
    pub(super) const fn prunes(&self) -> bool {
        !self.pruned.is_empty()
    }

    /// Whether a document's file was below a folder to prune, and is not there any more.
    fn is_gone(&self, origin: &str) -> bool {
        // What was named and is missing may have been a file.
        let is_below = |root: &str| origin.starts_with(root) || root.strip_suffix('/') == Some(origin);
        let below = self.pruned.iter().any(|(_, root)| is_below(root));
        let path = self.origins.path(origin).filter(|_| below);
        let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
        path.is_some_and(|path| fs::symlink_metadata(path).is_err_and(|error| gone.contains(&error.kind())))
    }

    /// Whether the folder that a missing file would be in is there and empty, as where a disk is mounted at other times.
    fn looks_unmounted(&self, origin: &str) -> bool {
        let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        let folder = self.origins.path(origin).filter(|_| !self.forced);
        folder.is_some_and(|path| path.ancestors().skip(1).find(|above| above.exists()).is_some_and(is_empty))
    }

    /// Those of documents whose files are gone that may go; says how many may not.
    fn parted(&self, gone: Vec<Document>) -> Vec<Document> {
        let all = gone.len();
        let going: Vec<_> =
            gone.into_iter().filter(|document| !document.origin().is_some_and(|o| self.looks_unmounted(o))).collect();
        if going.len() < all {
            let kept = count((all - going.len()) as u64, "document");
            note(format_args!(
                "{kept} stay whose files would be in folders that are empty, as if a disk were not mounted; --force deletes them"
            ));
        }
        going
    }

    /// Deletes what has been replaced or is gone, and counts it.
    ///
    /// # Errors
    /// What would meet every other document too: nobody answers, or nobody lets us in.
    pub(super) async fn settle(&self, client: &Client, sent: &[Sent], summary: &mut Summary) -> Result<(), Stop> {
        if self.keeps_old && !self.prunes() {
            return Ok(());
        }
        let held: HashSet<Uuid> = sent.iter().filter_map(|sent| sent.document_id).collect();
        let by_origin: HashMap<&str, &Sent> =
            sent.iter().filter_map(|sent| Some((sent.origin.as_deref()?, sent))).collect();
        let others = listed(client, |document, origin| {
            !held.contains(&document.document_id) && (by_origin.contains_key(origin) || self.is_gone(origin))
        });
        let is_sent = |document: &Document| document.origin().is_some_and(|origin| by_origin.contains_key(origin));
        let (versions, gone): (Vec<_>, Vec<_>) = others.await?.into_iter().partition(is_sent);
        let mut obsolete: Vec<_> = self.parted(gone).into_iter().map(|document| (Obsolete::Gone, document)).collect();
        for document in versions {
            let sent = document.origin().and_then(|origin| by_origin.get(origin));
            let Some(sent) = sent.filter(|_| !self.keeps_old) else { continue };
            if sent.is_ready {
                obsolete.push((Obsolete::Older, document));
            } else if document.status == "ready" {
                // What has failed itself is no version to fall back on.
                summary.stays(&shown(&sent.path));
            }
        }
        let deleted = futures::stream::iter(obsolete).map(async |(kind, document)| {
            // Thousands take a while, in which a file may have become again what it was.
            let is_still = match (kind, document.origin()) {
                (Obsolete::Gone, Some(origin)) => self.is_gone(origin) && !self.looks_unmounted(origin),
                (Obsolete::Older, Some(origin)) => match by_origin.get(origin) {
                    Some(sent) => hash(&sent.path).await.is_ok_and(|hash| hash != document.content_hash),
                    None => false,
                },
                (_, None) => false,
            };
            if !is_still {
                return (kind, document, Ok(Deletion::Needless));
            }
            let deleted = client.delete(&format!("{ROUTE}/{}", document.document_id)).await;
            (kind, document, deleted.map(|()| Deletion::Done))
        });
        let mut deleted = deleted.buffer_unordered(AT_ONCE);
        while let Some((kind, document, deleted)) = deleted.next().await {
            let pruned = Pruned { path: document.file().to_owned(), document_id: document.document_id };
            match (deleted, kind) {
                (Ok(Deletion::Needless), _) => {}
                (Ok(Deletion::Done), Obsolete::Older) => summary.replaced += 1,
                (Ok(Deletion::Done), Obsolete::Gone) => summary.pruned.push(pruned),
                (Err(stop), _) if concerns_all(&stop) => return Err(stop),
                // Somebody else was faster.
                (Err(stop), _) if is_absence(&stop) => {}
                (Err(stop), _) => summary.undeleted.push(Failed {
                    reason: stop.api.as_ref().map_or_else(String::new, |api| api.reason.clone()),
                    message: stop.to_string(),
                    path: pruned.path,
                    document_id: Some(pruned.document_id),
                    older_stays: false,
                }),
            }
        }
        summary.pruned.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// What pruning would delete.
    ///
    /// # Errors
    /// Those of the server and of reaching it.
    pub(super) async fn foretell(&self, client: &Client) -> Result<Vec<Pruned>, Stop> {
        let gone = self.parted(listed(client, |_, origin| self.is_gone(origin)).await?);
        let pruned =
            |document: Document| Pruned { path: document.file().to_owned(), document_id: document.document_id };
        let mut pruned: Vec<_> = gone.into_iter().map(pruned).collect();
        pruned.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(pruned)
    }
}

/// Why a document goes.
#[derive(Debug, Clone, Copy)]
enum Obsolete {
    /// Its file holds something else now.
    Older,
    /// Its file is not there.
    Gone,
}

/// What became of a document that was to be deleted.
#[derive(Debug, Clone, Copy)]
enum Deletion {
    Done,
    Needless,
}

fn unseen(path: &Path, what: &str) -> Stop {
    let text = format!("nothing is pruned: {} {what}, as if its disk were not mounted", path.display());
    Stop::new(Code::Usage, text).hint("--force deletes the documents of all its files that are not there any more")
}

fn is_absence(stop: &Stop) -> bool {
    stop.api.as_ref().is_some_and(|api| api.status == StatusCode::NOT_FOUND)
}

/// The documents that are wanted among those with an origin, page by page.
async fn listed(client: &Client, wanted: impl Fn(&Document, &str) -> bool) -> Result<Vec<Document>, Stop> {
    let mut found = vec![];
    let mut cursor = None;
    loop {
        let mut query = vec![("limit", PAGE.to_owned())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Documents = client.get(ROUTE, &query).await?;
        let is_last = page.documents.is_empty() || page.next.is_none();
        for document in page.documents {
            let document: Document = crate::client::read(&document)?;
            if document.origin().is_some_and(|origin| wanted(&document, origin)) {
                found.push(document);
            }
        }
        cursor = page.next;
        if is_last {
            return Ok(found);
        }
    }
}

/// SHA-256 of a file, hexadecimal.
async fn hash(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let (mut file, mut hasher, mut piece) = (File::open(path)?, Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match file.read(&mut piece)? {
                0 => break,
                count => hasher.update(&piece[..count]),
            }
        }
        Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    });
    hashed.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
