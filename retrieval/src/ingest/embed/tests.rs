//! What is embedded with which model, and what becomes of vectors that are none.

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;
use lmao_ports::{Pooling, TokenSpan, Unavailable};
use uuid::Uuid;

use super::*;

/// A model of two dimensions, and what it gives for some texts.
#[derive(Debug)]
struct Scripted {
    manifest: ModelManifest,
    /// By a word in the text: a vector, or none, which fails the call.
    odd: Vec<(&'static str, Option<Vec<f32>>)>,
    asked: Mutex<Vec<usize>>,
}

fn scripted(id: &str, odd: Vec<(&'static str, Option<Vec<f32>>)>) -> Arc<Scripted> {
    let manifest = ModelManifest {
        id: id.to_owned(),
        dimensions: 2,
        pooling: Pooling::Mean,
        normalize: true,
        max_tokens: 64,
        query_prefix: String::new(),
        passage_prefix: String::new(),
    };
    Arc::new(Scripted { manifest, odd, asked: Mutex::default() })
}

#[async_trait]
impl Embedder for Scripted {
    fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    async fn passages(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.asked.lock().unwrap().push(texts.len());
        let vector = |text: &String| match self.odd.iter().find(|(word, _)| text.contains(word)) {
            Some((_, odd)) => {
                odd.clone().ok_or_else(|| EmbedError::Model { model: "m".to_owned(), message: "it crashed".to_owned() })
            }
            None => {
                let angle = text.bytes().zip(1_u16..).map(|(byte, at)| f32::from(byte) * f32::from(at)).sum::<f32>();
                Ok(vec![angle.sin(), angle.cos()])
            }
        };
        texts.iter().map(vector).collect()
    }

    async fn query(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
        unreachable!("ingestion asks nothing")
    }

    fn tokens(&self, text: &str) -> Vec<TokenSpan> {
        text.split_whitespace().map(|_| TokenSpan { start: 0, end: 1 }).collect()
    }
}

#[derive(Debug, Default)]
struct Remembered(Mutex<HashMap<EmbeddingKey, Vec<f32>>>);

#[async_trait]
impl EmbeddingCache for Remembered {
    async fn get(&self, keys: &[EmbeddingKey]) -> Result<Vec<Option<Vec<f32>>>, Unavailable> {
        let known = self.0.lock().unwrap();
        Ok(keys.iter().map(|key| known.get(key).cloned()).collect())
    }

    async fn put(&self, entries: &[(EmbeddingKey, Vec<f32>)]) -> Result<(), Unavailable> {
        self.0.lock().unwrap().extend(entries.iter().cloned());
        Ok(())
    }
}

fn passages(contents: &[&str]) -> Vec<ChunkRecord> {
    let record = |(ordinal, content): (u32, &&str)| ChunkRecord {
        chunk_id: Uuid::from_u128(u128::from(ordinal)),
        ordinal,
        content: (*content).to_owned(),
        chunk_type: if content.starts_with("fn ") { "code" } else { "prose" }.to_owned(),
        page_number: None,
        section: None,
        start: 0,
        end: content.len() as u64,
        page_turns: vec![],
        language: None,
        parent: None,
    };
    (0..).zip(contents).map(record).collect()
}

async fn embed(models: &InUse, cache: &Remembered, contents: &[&str]) -> (Result<Embeddings, Failure>, Rejected) {
    let rejected = Rejected::default();
    let made = vectors(models, cache, &rejected, passages(contents)).await;
    (made, rejected)
}

fn one(general: &Arc<Scripted>) -> InUse {
    InUse { general: Arc::clone(general) as _, domain: None }
}

fn has(vectors: &[Option<Vec<f32>>]) -> Vec<bool> {
    vectors.iter().map(Option::is_some).collect()
}

const MIXED: &str = "To add two numbers, call this:\n```\nlet sum = add(1, 2);\n```";

#[tokio::test]
async fn each_passage_goes_to_the_models_that_suit_it() {
    let (general, domain) = (scripted("general", vec![]), scripted("domain", vec![]));
    let both = InUse { general: Arc::clone(&general) as _, domain: Some(Arc::clone(&domain) as _) };
    let contents = ["A crane is a bird.", "fn add(a: i32, b: i32) -> i32 { a + b }", MIXED];
    let cache = Remembered::default();
    let made = embed(&both, &cache, &contents).await.0.unwrap();
    assert_eq!(has(&made.general), [true, false, true]);
    assert_eq!(has(&made.domain.unwrap()), [false, true, true]);
    assert_eq!(made.cached, 0);
    // Each model's vectors are kept apart, and none is made again.
    let again = embed(&both, &cache, &contents).await.0.unwrap();
    assert_eq!((again.cached, again.general == made.general), (4, true));
    assert_eq!((general.asked.lock().unwrap().len(), domain.asked.lock().unwrap().len()), (1, 1));
    // Without the domain model, code is the general model's.
    let alone = embed(&one(&general), &cache, &contents).await.0.unwrap();
    assert_eq!((has(&alone.general), alone.domain, alone.cached), (vec![true; 3], None, 2));
}

#[tokio::test]
async fn prose_alone_asks_nothing_of_the_domain_model_and_names_it_all_the_same() {
    let (general, domain) = (scripted("general", vec![]), scripted("domain", vec![]));
    let both = InUse { general, domain: Some(Arc::clone(&domain) as _) };
    let made = embed(&both, &Remembered::default(), &["A crane is a bird."]).await.0.unwrap();
    assert_eq!(made.domain, Some(vec![None]));
    assert!(domain.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_bad_vector_costs_its_own_passage_only() {
    let cases = [
        ("nan", Some(vec![f32::NAN, 1.0]), "not_finite: 1"),
        ("zero", Some(vec![0.0, 0.0]), "zero: 1"),
        ("long", Some(vec![3.0, 4.0]), "length: 1"),
        ("flat", Some(vec![0.5_f32.sqrt(), 0.5_f32.sqrt()]), "constant: 1"),
        ("more", Some(vec![1.0, 0.0, 0.0]), "dimensions: 1"),
        ("crash", None, "unusable: 1"),
    ];
    for (word, vector, reasons) in cases {
        let model = scripted("m", vec![(word, vector)]);
        let odd = format!("A {word} of birds.");
        let contents = ["A crane is a bird.", odd.as_str(), "A heron is another."];
        let cache = Remembered::default();
        let (made, rejected) = embed(&one(&model), &cache, &contents).await;
        assert_eq!(has(&made.unwrap().general), [true, false, true], "{word}");
        assert_eq!((rejected.total(), rejected.reasons().as_str()), (1, reasons));
        assert_eq!(cache.0.lock().unwrap().len(), 2, "what was refused is not remembered");
    }
}

#[tokio::test]
async fn the_same_vector_for_different_texts_is_none() {
    let same = || Some(vec![0.6_f32, 0.8]);
    let model = scripted("m", vec![("crane", same()), ("heron", same()), ("stork", same())]);
    let (made, rejected) =
        embed(&one(&model), &Remembered::default(), &["a crane", "a heron", "a stork", "an owl"]).await;
    assert_eq!(has(&made.unwrap().general), [false, false, false, true]);
    assert_eq!(rejected.reasons(), "duplicate: 3");
    // Two may be chance, and these differ in nothing that every model sees.
    let few = ["a crane", "a heron", "A  Crane", "a\tcrane"];
    let (made, rejected) = embed(&one(&model), &Remembered::default(), &few).await;
    assert_eq!((has(&made.unwrap().general), rejected.total()), (vec![true; 4], 0));
}

#[tokio::test]
async fn a_model_that_is_broken_fails_the_step_and_is_not_asked_for_each_text() {
    let model = scripted("m", vec![("", None)]);
    let (made, rejected) = embed(&one(&model), &Remembered::default(), &["one", "two", "three"]).await;
    let failure = made.err().unwrap();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("embedding_failed", true));
    assert!(failure.message.contains("it crashed"), "{}", failure.message);
    assert_eq!((rejected.total(), model.asked.lock().unwrap().as_slice()), (0, [3, 1].as_slice()));
}
