mod eval;
mod near;

use std::{fs, sync::Mutex};

use lmao_ports::{ChunkRecord, Space, Vectors, conformance::search as suite};
use tempfile::TempDir;

use super::*;

const OWNER: Uuid = Uuid::from_u128(0xA);

async fn open(dir: &Path) -> EmbeddedIndex {
    EmbeddedIndex::open(dir).await.unwrap()
}

/// What a document of the suite's model takes.
async fn fill(index: &EmbeddedIndex, ids: std::ops::Range<u128>, checkpoint: u64) {
    index.use_model(Space::General, &suite::manifest("suite", suite::DIMENSIONS)).await.unwrap();
    for id in ids {
        index.put(suite::document(id, OWNER, &["quorvex plimbo", "zandrel"])).await.unwrap();
    }
    index.commit(Position(checkpoint)).await.unwrap();
}

fn files(dir: &Path, prefix: &str) -> Vec<std::path::PathBuf> {
    let rows = fs::read_dir(dir.join("rows")).unwrap().flatten().map(|file| file.path());
    rows.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
}

/// A copy of the directory as it is on disk now: what a machine finds that lost its power. Copied in the order of what
/// names what, so that a commit in the meantime does no harm to the copy: `meta.json`, what it names, then the rows.
fn snapshot(dir: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let mut names: Vec<_> = fs::read_dir(from).unwrap().flatten().map(|file| file.file_name()).collect();
        names.sort_by_key(|name| (name != "meta.json", std::cmp::Reverse(name.clone())));
        for name in names {
            let (source, target) = (from.join(&name), to.join(&name));
            // A file that has gone in the meantime is missed when the copy is opened.
            if source.is_dir() { copy(&source, &target) } else { drop(fs::copy(source, target)) }
        }
    }
    let target = tempfile::tempdir().unwrap();
    copy(dir, target.path());
    target
}

fn is_damaged(opened: Result<EmbeddedIndex, IndexError>) -> bool {
    match opened {
        Err(error @ IndexError::Damaged(_)) => error.to_string().contains("lmao projections rebuild search"),
        _ => false,
    }
}

#[tokio::test]
async fn keeps_the_ports_promises() {
    let dirs = Mutex::new(Vec::new());
    let open_at = Mutex::new(std::collections::HashMap::new());
    let remember = |index: Arc<EmbeddedIndex>, dir: std::path::PathBuf| {
        let index = index as Arc<dyn SearchIndex>;
        open_at.lock().unwrap().insert(Arc::as_ptr(&index).cast::<()>() as usize, dir);
        index
    };
    let new = async || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        dirs.lock().unwrap().push(dir);
        remember(Arc::new(open(&path).await), path)
    };
    let reopen = async |index: Arc<dyn SearchIndex>| {
        let path = open_at.lock().unwrap()[&(Arc::as_ptr(&index).cast::<()>() as usize)].clone();
        drop(index);
        remember(Arc::new(open(&path).await), path)
    };
    suite::all(new, reopen).await;
}

/// An empty commit is known at once; after a restart the checkpoint is that of the last change, unless it was saved.
#[tokio::test]
async fn empty_commits_move_the_checkpoint_only() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..3, 4).await;
    for checkpoint in 5..50 {
        index.commit(Position(checkpoint)).await.unwrap();
        assert_eq!(index.checkpoint().await.unwrap(), Position(checkpoint));
    }
    assert_eq!(index.count().await.unwrap(), 4);
    drop(index);
    let index = open(dir.path()).await;
    assert_eq!(index.checkpoint().await.unwrap(), Position(4));
    index.commit(Position(50)).await.unwrap();
    index.save().await.unwrap();
    drop(index);
    let index = open(dir.path()).await;
    assert_eq!((index.checkpoint().await.unwrap(), index.count().await.unwrap()), (Position(50), 4));
}

#[tokio::test]
async fn uncommitted_rows_are_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..5, 9).await;
    let digest = index.digest().await.unwrap();
    let sizes = |dir: &Path| {
        ["journal", "text", "codes", "sketches", "floats"].map(|name| files(dir, name)[0].metadata().unwrap().len())
    };
    let committed = sizes(dir.path());
    index.put(suite::document(7, OWNER, &["never committed"])).await.unwrap();
    let crashed = snapshot(dir.path());
    let garbage = files(crashed.path(), "journal")[0].clone();
    fs::write(&garbage, [fs::read(&garbage).unwrap(), vec![1; 100]].concat()).unwrap();
    fs::write(crashed.path().join("rows/codes-77"), "left over by a crash").unwrap();
    assert_ne!(sizes(crashed.path()), committed);
    let again = open(crashed.path()).await;
    assert_eq!(again.digest().await.unwrap(), digest);
    assert_eq!(again.checkpoint().await.unwrap(), Position(9));
    assert_eq!(sizes(crashed.path()), committed);
    fill(&again, 5..8, 10).await;
    assert_eq!(
        again
            .nearest(Space::General, &suite::vector(1, suite::DIMENSIONS), &SearchFilter::all_of(OWNER), 99)
            .await
            .unwrap()
            .len(),
        14
    );
}

/// A copy taken at any moment of many commits opens, and holds exactly what its checkpoint says.
#[tokio::test]
async fn a_crash_at_any_moment_leaves_a_whole_commit() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..2, 1).await;
    let path = dir.path().to_owned();
    let copies = tokio::task::spawn_blocking(move || (0..25).map(|_| snapshot(&path)).collect::<Vec<_>>());
    let mut next = 2;
    while !copies.is_finished() {
        fill(&index, next..next + 1, u64::try_from(next).unwrap()).await;
        next += 1;
    }
    let mut whole = 0;
    for copy in copies.await.unwrap() {
        // A copy is no atomic picture: a merge may have removed files before they were copied. Then it must say so.
        match EmbeddedIndex::open(copy.path()).await {
            Err(error) => assert!(matches!(error, IndexError::Damaged(_)), "{error}"),
            Ok(index) => {
                let checkpoint = index.checkpoint().await.unwrap().0;
                assert_eq!(index.count().await.unwrap(), checkpoint * 2);
                let all = SearchFilter::all_of(OWNER);
                let found = index.keyword(&"quorvex".into(), &all, 100_000).await.unwrap().len() as u64;
                let near = index
                    .nearest(Space::General, &suite::vector(1, suite::DIMENSIONS), &all, 100_000)
                    .await
                    .unwrap()
                    .len() as u64;
                assert_eq!((found, near), (checkpoint, checkpoint * 2));
                index.digest().await.unwrap();
                whole += 1;
            }
        }
    }
    assert!(whole > 0, "no copy could be opened");
}

#[tokio::test]
async fn damage_is_told_and_can_be_erased() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..40, 1).await;
    drop(index);
    for name in ["journal", "text", "codes", "sketches", "floats"] {
        let truncated = snapshot(dir.path());
        let path = &files(truncated.path(), name)[0];
        let size = path.metadata().unwrap().len();
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(size - 1).unwrap();
        assert!(is_damaged(EmbeddedIndex::open(truncated.path()).await), "{name} was truncated");
        let missing = snapshot(dir.path());
        fs::remove_file(&files(missing.path(), name)[0]).unwrap();
        assert!(is_damaged(EmbeddedIndex::open(missing.path()).await), "{name} is missing");
        let altered = snapshot(dir.path());
        let path = &files(altered.path(), name)[0];
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        fs::write(path, bytes).unwrap();
        match EmbeddedIndex::open(altered.path()).await {
            Ok(index) => assert!(matches!(index.digest().await, Err(IndexError::Damaged(_))), "{name} was altered"),
            opened => assert!(is_damaged(opened), "{name} was altered"),
        }
    }
    let damaged = snapshot(dir.path());
    for file in fs::read_dir(damaged.path().join("text")).unwrap().flatten() {
        if file.path().extension().is_some_and(|extension| extension == "idx" || extension == "term") {
            let mut bytes = fs::read(file.path()).unwrap();
            bytes[1] ^= 1;
            fs::write(file.path(), bytes).unwrap();
        }
    }
    assert!(is_damaged(EmbeddedIndex::open(damaged.path()).await));
    EmbeddedIndex::erase(damaged.path()).await.unwrap();
    EmbeddedIndex::erase(damaged.path()).await.unwrap();
    let index = open(damaged.path()).await;
    assert_eq!((index.count().await.unwrap(), index.checkpoint().await.unwrap()), (0, Position(0)));
}

#[tokio::test]
async fn one_process_at_a_time_and_no_newer_format() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..3, 1).await;
    let error = EmbeddedIndex::open(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("another process has it open"), "{error}");
    drop(index);
    let meta = dir.path().join("text/meta.json");
    let newer = fs::read_to_string(&meta).unwrap().replace("{\\\"format\\\":4", "{\\\"format\\\":5");
    fs::write(&meta, newer).unwrap();
    let error = EmbeddedIndex::open(dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("newer version"), "{error}");
}

/// An index of an older format is empty, so that the log fills it again; nothing of the old one is left.
#[tokio::test]
async fn an_older_format_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..3, 7).await;
    let digest = index.digest().await.unwrap();
    drop(index);
    let meta = dir.path().join("text/meta.json");
    let older = fs::read_to_string(&meta).unwrap().replace("{\\\"format\\\":4", "{\\\"format\\\":1");
    fs::write(&meta, older).unwrap();
    // Its fields are none of ours, and what it says of itself neither.
    let schema = fs::read_to_string(&meta).unwrap().replace("\"headings\"", "\"section\"").replace("models", "model");
    fs::write(&meta, schema).unwrap();
    let index = open(dir.path()).await;
    assert_eq!((index.count().await.unwrap(), index.checkpoint().await.unwrap()), (0, Position(0)));
    assert_eq!(index.model(Space::General).await.unwrap(), None);
    assert_eq!(files(dir.path(), "codes"), Vec::<std::path::PathBuf>::new());
    fill(&index, 1..3, 7).await;
    assert_eq!(index.digest().await.unwrap(), digest);
    drop(index);
    let index = open(dir.path()).await;
    assert_eq!((index.count().await.unwrap(), index.checkpoint().await.unwrap()), (4, Position(7)));
}

/// Passages without a vector in a space take no row there.
#[tokio::test]
async fn only_vectors_take_rows() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    index.use_model(Space::General, &suite::manifest("suite", suite::DIMENSIONS)).await.unwrap();
    index.use_model(Space::Domain, &suite::manifest("code", 8)).await.unwrap();
    for id in 1..41 {
        let mut one = suite::document(id, OWNER, &["quorvex", "plimbo", "zandrel"]);
        if id % 4 == 0 {
            one.vectors.domain = vec![None, Some(suite::vector(1, 8)), None];
        }
        index.put(one).await.unwrap();
    }
    index.commit(Position(1)).await.unwrap();
    let mut sizes: Vec<u64> = files(dir.path(), "codes").iter().map(|file| file.metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [10 * 8, 120 * suite::DIMENSIONS as u64]);
    let near = index.nearest(Space::Domain, &suite::vector(1, 8), &SearchFilter::all_of(OWNER), 99).await.unwrap();
    assert!(near.len() == 10 && near.iter().all(|hit| hit.chunk.ordinal == 1), "{near:?}");
}

#[tokio::test]
async fn compaction_keeps_what_is_alive() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..201, 1).await;
    let digest = index.digest().await.unwrap();
    let before = files(dir.path(), "codes");
    for round in 2..8 {
        fill(&index, 1..201, round).await;
        assert_eq!(index.digest().await.unwrap(), digest);
    }
    let after = files(dir.path(), "codes");
    assert_ne!(before, after, "the dead were never removed");
    assert_eq!(after.len(), 1, "old files are gone");
    let all = SearchFilter::all_of(OWNER);
    let query = suite::vector(3, suite::DIMENSIONS);
    let near = index.nearest(Space::General, &query, &all, 10).await.unwrap();
    assert_eq!(index.keyword(&"zandrel".into(), &all, 999).await.unwrap().len(), 200);
    drop(index);
    let index = open(dir.path()).await;
    assert_eq!(index.digest().await.unwrap(), digest);
    assert_eq!(index.nearest(Space::General, &query, &all, 10).await.unwrap(), near);
    for id in 1..201 {
        index.delete(Uuid::from_u128(id)).await.unwrap();
    }
    index.commit(Position(9)).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 0);
}

/// The writer is lost in the middle of a commit: everything staged is in the next one.
#[tokio::test]
async fn a_failed_commit_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..4, 1).await;
    let expected = {
        let dir = tempfile::tempdir().unwrap();
        let index = open(dir.path()).await;
        fill(&index, 1..7, 1).await;
        index.digest().await.unwrap()
    };
    for id in 4..7 {
        index.put(suite::document(id, OWNER, &["quorvex plimbo", "zandrel"])).await.unwrap();
    }
    // tantivy cannot replace its file while a directory stands in its place.
    let meta = dir.path().join("text/meta.json");
    let committed = fs::read(&meta).unwrap();
    fs::remove_file(&meta).unwrap();
    fs::create_dir(&meta).unwrap();
    index.commit(Position(2)).await.unwrap_err();
    assert_eq!((index.count().await.unwrap(), index.checkpoint().await.unwrap()), (6, Position(1)));
    index.commit(Position(2)).await.unwrap_err();
    fs::remove_dir(&meta).unwrap();
    fs::write(&meta, committed).unwrap();
    index.commit(Position(2)).await.unwrap();
    assert_eq!(index.digest().await.unwrap(), expected);
    drop(index);
    let index = open(dir.path()).await;
    assert_eq!(index.digest().await.unwrap(), expected);
    assert_eq!(index.keyword(&"quorvex".into(), &SearchFilter::all_of(OWNER), 99).await.unwrap().len(), 6);
}

#[tokio::test]
async fn queries_run_beside_commits() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..2, 1).await;
    let reader = index.clone();
    let queries = tokio::spawn(async move {
        let all = SearchFilter::all_of(OWNER);
        for _ in 0..60 {
            let near =
                reader.nearest(Space::General, &suite::vector(5, suite::DIMENSIONS), &all, 10_000).await.unwrap();
            assert_eq!(near.len() % 2, 0, "a document is there with all its passages or not at all");
            let found = reader.keyword(&"zandrel quorvex".into(), &all, 10_000).await.unwrap();
            assert_eq!(found.len() % 2, 0);
        }
    });
    for id in 2..12 {
        fill(&index, id..id + 1, u64::try_from(id).unwrap()).await;
        fill(&index, 1..2, u64::try_from(id).unwrap()).await;
    }
    queries.await.unwrap();
}

#[tokio::test]
async fn identifiers_and_headings_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    let mut one = suite::document(1, OWNER, &["fn parseHttpRequest(input)", "http request parsing explained", "other"]);
    one.vectors = Vectors::default();
    one.chunks[2] = ChunkRecord { section: Some("Borrow Checker".to_owned()), ..one.chunks[2].clone() };
    index.put(one).await.unwrap();
    index.commit(Position(1)).await.unwrap();
    let all = SearchFilter::all_of(OWNER);
    let found = async |query: &str| -> Vec<u32> {
        index.keyword(&query.into(), &all, 9).await.unwrap().iter().map(|hit| hit.chunk.ordinal).collect()
    };
    assert_eq!(found("parseHttpRequest").await[0], 0);
    assert_eq!(found("http requests").await.len(), 2);
    assert_eq!(found("what is the borrow checker?").await, [2]);
    assert_eq!(found("\"parse http request\"").await, [0]);
    assert_eq!(index.model(Space::General).await.unwrap(), None);
}

/// Searches cannot be shown what is durable: the checkpoint is not reached, so that whoever feeds the index comes again.
#[tokio::test]
async fn what_searches_do_not_see_is_not_reached() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..2, 1).await;
    index.put(suite::document(2, OWNER, &["quorvex plimbo"])).await.unwrap();
    // tantivy commits without this lock, and does not reload without it.
    let lock = dir.path().join("text/.tantivy-meta.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    index.commit(Position(2)).await.unwrap_err();
    assert_eq!(index.checkpoint().await.unwrap(), Position(1));
    index.commit(Position(2)).await.unwrap_err();
    index.save().await.unwrap();
    fs::remove_dir(&lock).unwrap();
    index.put(suite::document(2, OWNER, &["quorvex plimbo"])).await.unwrap();
    index.commit(Position(2)).await.unwrap();
    assert_eq!(index.checkpoint().await.unwrap(), Position(2));
    assert_eq!(index.keyword(&"quorvex".into(), &SearchFilter::all_of(OWNER), 9).await.unwrap().len(), 2);
    // A reset is one even when it cannot be shown.
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    index.reset().await.unwrap_err();
    assert_eq!(index.checkpoint().await.unwrap(), Position(0));
    fs::remove_dir(&lock).unwrap();
    index.commit(Position(0)).await.unwrap();
    assert_eq!(index.keyword(&"quorvex".into(), &SearchFilter::all_of(OWNER), 9).await.unwrap(), []);
}

/// Whoever reads the whole index holds up nobody: what it reads stays as it is.
#[tokio::test]
async fn a_reader_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    fill(&index, 1..3, 1).await;
    let read = index.engine.view().unwrap();
    fill(&index, 3..4, 2).await;
    index.commit(Position(3)).await.unwrap();
    assert!(index.holds(Uuid::from_u128(3)).await.unwrap());
    assert_eq!((index.checkpoint().await.unwrap(), index.count().await.unwrap()), (Position(3), 6));
    assert_eq!(read.catalog.passages(), 4);
    let (query, filter) = ("quorvex".into(), SearchFilter::all_of(OWNER));
    let allowed = read.catalog.allowed(&filter).unwrap();
    let (catalog, passages) = (&read.catalog, allowed.passages());
    let found = index.engine.text.search(&read.text, (&query, [].into_iter()), catalog, passages, 9);
    assert_eq!(found.unwrap().len(), 2);
}

/// An index of an older version that was never committed to, so that nothing says its format, is made anew.
#[tokio::test]
async fn an_older_index_without_commits_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::create_dir_all(&text).unwrap();
    let mut schema = tantivy::schema::Schema::builder();
    schema.add_u64_field("entry", tantivy::schema::INDEXED);
    drop(tantivy::Index::create_in_dir(&text, schema.build()).unwrap());
    let index = open(dir.path()).await;
    fill(&index, 1..2, 3).await;
    drop(index);
    assert_eq!(open(dir.path()).await.count().await.unwrap(), 2);
}

/// Of equal passages those that came first are the best, however many are asked for and however they lie in segments.
#[tokio::test]
async fn ties_do_not_depend_on_depth() {
    let dir = tempfile::tempdir().unwrap();
    let index = open(dir.path()).await;
    index.use_model(Space::General, &suite::manifest("suite", suite::DIMENSIONS)).await.unwrap();
    // Ids in no order, several in each commit.
    for (commit, ids) in (0..200_u128).map(|n| 1 + n * 77 % 200).collect::<Vec<_>>().chunks(40).enumerate() {
        for id in ids {
            index.put(suite::document(*id, OWNER, &["quorvex"])).await.unwrap();
        }
        index.commit(Position(commit as u64 + 1)).await.unwrap();
    }
    let all = SearchFilter::all_of(OWNER);
    let places = async |k: usize| {
        let hits = index.keyword(&"quorvex".into(), &all, k).await.unwrap();
        hits.into_iter().map(|hit| (hit.score.to_bits(), hit.document_id)).collect::<Vec<_>>()
    };
    let whole = places(200).await;
    assert_eq!(whole.len(), 200);
    assert_eq!(whole[0].0, whole[199].0, "they are not equal");
    for k in [1, 7, 40, 150] {
        assert_eq!(places(k).await, whole[..k]);
    }
}
