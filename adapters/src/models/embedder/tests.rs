//! The real model at work.

use std::sync::Arc;

use crate::models::tests::model;

const QUERY: &str = "How do I borrow a value mutably in Rust?";
const NEAR: &str = "A mutable reference, written &mut T, lets a function change a value that it does not own.";
const FAR: &str = "The recipe needs two eggs, a cup of flour and a pinch of salt.";

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The figures are those of the same files under the reference implementation; kernels differ a little between CPUs.
#[tokio::test]
async fn vectors_are_those_of_the_reference() {
    let model = model().await;
    let query = model.query(QUERY).await.unwrap();
    let passages = model.passages(texts(&[NEAR, FAR, ""])).await.unwrap();
    for (passage, expected) in passages.iter().zip([0.6848, 0.4799, 0.4800]) {
        let cosine = dot(&query, passage);
        assert!((cosine - expected).abs() < 0.03, "{cosine} instead of {expected}");
        assert!((dot(passage, passage) - 1.0).abs() < 1e-3);
        assert_eq!(passage.len(), 384);
    }
    // The query's prefix is there, and only there.
    assert!(dot(&query, &model.passages(texts(&[QUERY])).await.unwrap()[0]) < 0.999);
}

#[tokio::test]
async fn a_vector_depends_on_its_text_alone_and_keeps_its_place() {
    let model = model().await;
    let long = NEAR.repeat(8);
    let all = texts(&[NEAR, "a", &long, FAR, "", NEAR]);
    let together = model.passages(all.clone()).await.unwrap();
    for (text, vector) in all.into_iter().zip(&together) {
        assert_eq!(&model.passages(vec![text]).await.unwrap()[0], vector);
    }
    assert_eq!(together[0], together[5]);
    assert_ne!(together[0], together[3]);
    assert!(model.passages(vec![]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_text_of_any_length_is_embedded() {
    let model = model().await;
    let long = "word ".repeat(200_000);
    let no_spaces = "ß漢".repeat(200_000);
    let vectors = model.passages(vec![long.clone(), no_spaces, "\0\u{200b}\n".to_owned()]).await.unwrap();
    assert_eq!(vectors.len(), 3);
    // What is behind the 512th token does not count.
    assert_eq!(vectors[0], model.passages(vec!["word ".repeat(600)]).await.unwrap()[0]);
    model.query(&long).await.unwrap();
}

#[tokio::test]
async fn a_query_goes_before_waiting_passages() {
    let model = model().await;
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let model = Arc::clone(&model);
            tokio::spawn(async move { model.passages(vec![NEAR.repeat(10); 20]).await.unwrap().len() })
        })
        .collect();
    tokio::task::yield_now().await;
    model.query(QUERY).await.unwrap();
    assert!(busy.iter().all(|task| !task.is_finished()), "the query waited for all the passages of a call");
    for task in busy {
        assert_eq!(task.await.unwrap(), 20);
    }
}

#[tokio::test]
async fn calls_for_passages_take_turns() {
    let model = model().await;
    let document = {
        let model = Arc::clone(&model);
        tokio::spawn(async move { model.passages(vec![NEAR.repeat(10); 40]).await.unwrap().len() })
    };
    tokio::task::yield_now().await;
    model.passages(texts(&[NEAR, FAR])).await.unwrap();
    assert!(!document.is_finished(), "two sentences waited for a whole document");
    assert_eq!(document.await.unwrap(), 40);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_nothing_behind() {
    let model = model().await;
    for _ in 0..200 {
        // Polled once, so that it is queued, and dropped.
        let call = model.passages(vec![NEAR.repeat(10); 100]);
        assert!(futures::FutureExt::now_or_never(call).is_none());
    }
    assert_eq!(model.passages(texts(&[FAR])).await.unwrap().len(), 1);
}

#[tokio::test]
async fn spans_are_bytes_of_the_text() {
    let model = model().await;
    let spans = |text: &str| -> Vec<String> {
        model.tokens(text).into_iter().map(|span| text[span.start..span.end].to_owned()).collect()
    };
    assert_eq!(spans("Größe naïve 漢字 🙂 ﬁne"), ["Gr", "ö", "ße", "naïve", "漢", "字", "🙂", "ﬁ", "ne"]);
    assert!(spans("").is_empty());
    assert!(spans(" \n\t ").is_empty());

    // Of any length, in order, and the same as in parts.
    let line = "Die Größe des Gefäßes: 42 μm² (naïve Schätzung).\n";
    let of_line = model.tokens(line);
    let found = model.tokens(&line.repeat(2000));
    assert_eq!(found.len(), of_line.len() * 2000);
    for (place, span) in found.iter().enumerate() {
        let (turn, expected) = (place / of_line.len(), of_line[place % of_line.len()]);
        assert_eq!((span.start, span.end), (turn * line.len() + expected.start, turn * line.len() + expected.end));
    }
}
