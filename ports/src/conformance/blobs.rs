//! What every [`Blobs`] promises.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use lmao_events::{BlobRef, ContentHash};
use uuid::Uuid;

use crate::{Blobs, Folder};

/// The whole suite; `new` opens a store. Folders are fresh in each run, so that a shared server does.
pub async fn all(new: impl AsyncFn() -> Arc<dyn Blobs>) {
    what_is_put_is_got(&*new().await).await;
    names_are_sha256_of_the_content(&*new().await).await;
    pieces_become_one_blob(&*new().await).await;
    a_dropped_blob_is_nowhere(&*new().await).await;
    folders_are_apart_and_deleted_whole(&*new().await).await;
    folders_are_listed_until_they_are_deleted(&*new().await).await;
    putting_twice_is_fine(new().await).await;
}

fn folder() -> Folder {
    Folder { owner: Uuid::new_v4(), document: Uuid::new_v4(), attempt: Some(Uuid::new_v4()) }
}

/// Empty, small and large contents come back as they were.
pub async fn what_is_put_is_got(blobs: &dyn Blobs) {
    let folder = folder();
    let large: Bytes = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    for content in [Bytes::new(), Bytes::from_static(b"\0\xff small"), large] {
        let blob = blobs.put(folder, content.clone()).await.expect("put");
        assert_eq!(blob.size, content.len() as u64);
        assert_eq!(blobs.get(folder, &blob).await.expect("get"), Some(content.clone()));
        let path = blobs.local(folder, &blob).await.expect("local").expect("a file");
        assert_eq!(std::fs::read(path).expect("a readable file"), content);
    }
    let unknown = BlobRef { sha256: ContentHash([7; 32]), size: 1 };
    assert_eq!(blobs.get(folder, &unknown).await.expect("get"), None);
    assert_eq!(blobs.local(folder, &unknown).await.expect("local"), None);
}

/// The name follows from the content alone (FIPS 180-4, the example `abc`).
pub async fn names_are_sha256_of_the_content(blobs: &dyn Blobs) {
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let blob = blobs.put(folder(), Bytes::from_static(b"abc")).await.expect("put");
    assert_eq!(blob.sha256.to_string(), ABC);
}

/// A blob written in pieces is the blob put in one.
pub async fn pieces_become_one_blob(blobs: &dyn Blobs) {
    let (folder, piece) = (folder(), Bytes::from(vec![42_u8; 100_000]));
    let mut pending = blobs.begin().await.expect("begin");
    for n in 0..20 {
        assert_eq!(pending.blob().size, n * 100_000);
        pending.write(piece.clone()).await.expect("write");
    }
    pending.write(Bytes::new()).await.expect("an empty piece");
    let announced = pending.blob();
    let kept = pending.keep(folder).await.expect("keep");
    assert_eq!(kept, announced);
    let whole = Bytes::from(vec![42_u8; 2_000_000]);
    assert_eq!(blobs.put(folder, whole.clone()).await.expect("put"), kept);
    assert_eq!(blobs.get(folder, &kept).await.expect("get"), Some(whole));
    let empty = blobs.begin().await.expect("begin").keep(folder).await.expect("keep nothing");
    assert_eq!(blobs.get(folder, &empty).await.expect("get"), Some(Bytes::new()));
}

/// What was never kept is in no folder.
pub async fn a_dropped_blob_is_nowhere(blobs: &dyn Blobs) {
    let mut pending = blobs.begin().await.expect("begin");
    pending.write(Bytes::from_static(b"never kept")).await.expect("write");
    let blob = pending.blob();
    drop(pending);
    assert_eq!(blobs.get(folder(), &blob).await.expect("get"), None);
}

/// The same content in two folders is two blobs, and a folder goes with all of its own.
pub async fn folders_are_apart_and_deleted_whole(blobs: &dyn Blobs) {
    let one = folder();
    // The next attempt to hand in the same document.
    let two = Folder { attempt: Some(Uuid::new_v4()), ..one };
    let content = Bytes::from_static(b"the same");
    let blob = blobs.put(one, content.clone()).await.expect("put");
    assert_eq!(blobs.get(two, &blob).await.expect("get"), None, "blobs are never shared across folders");
    blobs.put(two, content.clone()).await.expect("put");
    let more = blobs.put(one, Bytes::from_static(b"more")).await.expect("put");
    blobs.delete(one).await.expect("delete");
    assert_eq!(blobs.get(one, &blob).await.expect("get"), None);
    assert_eq!(blobs.get(one, &more).await.expect("get"), None);
    assert_eq!(blobs.get(two, &blob).await.expect("get"), Some(content.clone()));
    blobs.delete(one).await.expect("deleting nothing is fine");
    blobs.put(one, content.clone()).await.expect("a deleted folder can be used again");
    assert_eq!(blobs.get(one, &blob).await.expect("get"), Some(content));
}

/// Each once, whatever lies in it, and also those of documents of before there were attempts.
pub async fn folders_are_listed_until_they_are_deleted(blobs: &dyn Blobs) {
    let listed = async || blobs.folders().try_collect::<Vec<Folder>>().await.expect("folders");
    let one = folder();
    let ours = [one, Folder { attempt: Some(Uuid::new_v4()), ..one }, Folder { attempt: None, ..one }, folder()];
    // Never kept, so in no folder.
    let _pending = blobs.begin().await.expect("begin");
    for folder in ours {
        for content in ["some", "more"] {
            blobs.put(folder, Bytes::from(content)).await.expect("put");
        }
    }
    let mut blobs_of_one = blobs.list(one).await.expect("list");
    let contents = ["more", "some"].map(|content| blobs.put(one, Bytes::from(content)));
    let mut put = futures::future::try_join_all(contents).await.expect("put");
    put.sort_unstable_by_key(|blob| blob.sha256);
    blobs_of_one.sort_unstable_by_key(|blob| blob.sha256);
    assert_eq!(blobs_of_one, put);
    assert_eq!(blobs.list(folder()).await.expect("list"), []);
    let found = listed().await;
    assert!(ours.iter().all(|folder| found.iter().filter(|found| *found == folder).count() == 1), "{found:?}");
    for folder in ours {
        blobs.delete(folder).await.expect("delete");
    }
    let found = listed().await;
    assert!(ours.iter().all(|folder| !found.contains(folder)), "{found:?}");
}

/// A retry, and two writers at once, leave one whole blob.
pub async fn putting_twice_is_fine(blobs: Arc<dyn Blobs>) {
    let (folder, content) = (folder(), Bytes::from(vec![9_u8; 200_000]));
    let tasks = (0..8).map(|_| {
        let (blobs, content) = (Arc::clone(&blobs), content.clone());
        tokio::spawn(async move { blobs.put(folder, content).await.expect("put") })
    });
    let kept: Vec<BlobRef> = futures::future::join_all(tasks).await.into_iter().map(|b| b.expect("task")).collect();
    assert!(kept.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(blobs.get(folder, &kept[0]).await.expect("get"), Some(content));
}
