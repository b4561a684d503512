//! Blobs on a real server: the port's promises, and what crashes and other processes leave behind.

use lmao_ports::conformance;
use tempfile::TempDir;

use super::{super::testing, *};

const OF: Uuid = Uuid::from_u128(4);
const FOLDER: Folder =
    Folder { owner: Uuid::from_u128(1), document: Uuid::from_u128(2), attempt: Some(Uuid::from_u128(3)) };

async fn messages(blobs: &NatsBlobs) -> u64 {
    blobs.stream.handle().get_info().await.unwrap().state.messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_ports_promises() {
    let (nats, dir) = (testing::migrated().await, TempDir::new().unwrap());
    let open = async || Arc::new(NatsBlobs::open(&nats, OF, dir.path()).await.unwrap()) as Arc<dyn Blobs>;
    conformance::blobs::all(open).await;
}

#[tokio::test]
async fn an_altered_blob_is_an_error() {
    let (nats, dir) = (testing::migrated().await, TempDir::new().unwrap());
    let blobs = NatsBlobs::open(&nats, OF, dir.path()).await.unwrap();
    let blob = BlobRef { sha256: ContentHash(Sha256::digest(b"as it was").into()), size: 9 };
    blobs.upload(FOLDER, blob, &mut &b"as it is"[..]).await.unwrap();
    for error in [blobs.get(FOLDER, &blob).await.unwrap_err(), blobs.local(FOLDER, &blob).await.unwrap_err()] {
        assert!(error.message.contains("was altered"), "{error}");
    }
}

#[tokio::test]
async fn nothing_is_left_over() {
    let (nats, dir) = (testing::migrated().await, TempDir::new().unwrap());
    let blobs = NatsBlobs::open(&nats, OF, dir.path()).await.unwrap();
    let before = messages(&blobs).await;
    let incoming = || std::fs::read_dir(dir.path().join("incoming")).unwrap().count();
    let mut pending = blobs.begin().await.unwrap();
    pending.write(Bytes::from_static(b"half")).await.unwrap();
    assert_eq!(incoming(), 1);
    // A crash: the process goes without dropping anything, in the middle of another upload.
    std::mem::forget(pending);
    let place = blobs.place(FOLDER, &BlobRef { sha256: ContentHash([7; 32]), size: 4 });
    blobs.pieces(&place, Uuid::new_v4(), &mut &b"half"[..]).await.unwrap();
    let blobs = NatsBlobs::open(&nats, OF, dir.path()).await.unwrap();
    assert_eq!(incoming(), 0);
    assert_eq!(blobs.folders().try_collect::<Vec<_>>().await.unwrap(), [FOLDER], "so that somebody deletes it");
    blobs.delete(FOLDER).await.unwrap();
    assert_eq!(messages(&blobs).await, before);
    assert!(blobs.folders().try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn another_process_sees_what_is_kept_and_no_longer_what_is_deleted() {
    let (nats, here, there) = (testing::migrated().await, TempDir::new().unwrap(), TempDir::new().unwrap());
    let one = NatsBlobs::open(&nats, OF, here.path()).await.unwrap();
    let two = NatsBlobs::open(&nats, OF, there.path()).await.unwrap();
    let blob = one.put(FOLDER, Bytes::from_static(b"kept")).await.unwrap();
    let path = two.local(FOLDER, &blob).await.unwrap().unwrap();
    assert_eq!(two.local(FOLDER, &blob).await.unwrap().as_ref(), Some(&path));
    one.delete(FOLDER).await.unwrap();
    assert_eq!(two.local(FOLDER, &blob).await.unwrap(), None);
    assert!(!path.exists());
}

#[tokio::test]
async fn another_logs_blobs_are_refused() {
    let (nats, dir) = (testing::migrated().await, TempDir::new().unwrap());
    NatsBlobs::open(&nats, OF, dir.path()).await.unwrap();
    let refused = NatsBlobs::open(&nats, Uuid::from_u128(5), dir.path()).await.unwrap_err();
    assert!(refused.message.contains("restore the log"), "{refused}");
    NatsBlobs::open(&nats, OF, dir.path()).await.unwrap();
}
