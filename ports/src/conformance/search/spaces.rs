//! Two spaces of vectors side by side, and several legs at once.

use lmao_events::Position;
use uuid::Uuid;

use super::{ALICE, DIMENSIONS, document, fill, manifest, places, sorted, vector};
use crate::{IndexError, IndexedDocument, Leg, SearchFilter, SearchIndex, Space, Vectors};

/// Dimensions of the domain's vectors here: not those of the general ones.
const DOMAIN: usize = 16;

fn with(document: &IndexedDocument, general: &[Option<u64>], domain: &[Option<u64>]) -> IndexedDocument {
    let vectors = |seeds: &[Option<u64>], dims| seeds.iter().map(|seed| seed.map(|seed| vector(seed, dims))).collect();
    let vectors = Vectors { general: vectors(general, DIMENSIONS), domain: vectors(domain, DOMAIN) };
    IndexedDocument { vectors, ..document.clone() }
}

/// A passage is near in the spaces that it has a vector in, and in no other; each space has its own model.
pub(super) async fn spaces_stand_apart(index: &dyn SearchIndex) {
    let all = SearchFilter::all_of(ALICE);
    let texts = ["quorvex", "plimbo", "zandrel", "vostrik"];
    let bare = document(1, ALICE, &texts);
    let one = with(&bare, &[Some(1), Some(2), None, None], &[None, Some(3), Some(4), None]);
    let two = with(&document(2, ALICE, &texts[..1]), &[], &[Some(5)]);
    let prose = with(&document(3, ALICE, &texts[..2]), &[Some(6), Some(7)], &[None, None]);
    fill(index, &[], 1).await;
    let refused = index.put(two.clone()).await;
    assert!(matches!(refused, Err(IndexError::Invalid(_))), "vectors of the domain without a model: {refused:?}");
    index.use_model(Space::Domain, &manifest("code", DOMAIN)).await.expect("use_model");
    assert_eq!(index.model(Space::Domain).await.expect("model"), None, "there are no vectors yet");
    fill(index, &[one.clone(), two.clone(), prose.clone()], 2).await;
    let near = async |space, seed, dims| {
        let hits = index.nearest(space, &vector(seed, dims), &all, 99).await.expect("nearest");
        assert!((hits[0].score - 1.0).abs() < 1e-5, "{space:?}: {hits:?}");
        (places(&hits)[0], sorted(places(&hits)))
    };
    assert_eq!(near(Space::General, 2, DIMENSIONS).await, ((1, 1), vec![(1, 0), (1, 1), (3, 0), (3, 1)]));
    assert_eq!(near(Space::Domain, 4, DOMAIN).await, ((1, 2), vec![(1, 1), (1, 2), (2, 0)]));
    assert_eq!(index.without_vectors().await.expect("without"), 1);
    let wrong = index.nearest(Space::Domain, &vector(1, DIMENSIONS), &all, 9).await;
    assert!(matches!(wrong, Err(IndexError::Invalid(_))), "a vector of the other space: {wrong:?}");
    let id = Uuid::from_u128;
    let wanted = [(id(2), 0), (id(1), 3), (id(1), 2), (id(9), 0), (id(1), 9), (id(1), 1), (id(1), 2)];
    let vectors = index.vectors(Space::Domain, &wanted).await.expect("vectors");
    let exact = |seed| Some(vector(seed, DOMAIN));
    assert_eq!(vectors, [exact(5), None, exact(4), None, None, exact(3), exact(4)]);
    assert_eq!(index.vectors(Space::General, &wanted[..1]).await.expect("vectors"), [None]);
    assert_eq!(index.vectors(Space::General, &[]).await.expect("vectors"), Vec::<Option<Vec<f32>>>::new());
    let models = async || {
        let mut ids = vec![];
        for space in Space::ALL {
            ids.push(index.model(space).await.expect("model").map(|model| model.id));
        }
        ids
    };
    assert_eq!(models().await, [Some("suite".to_owned()), Some("code".to_owned())]);

    // One space goes empty and takes another model, of other dimensions; the other one does not notice.
    let other = manifest("other", 8);
    assert!(matches!(index.use_model(Space::Domain, &other).await, Err(IndexError::OtherModel { .. })));
    let one = with(&one, &[Some(1), Some(2), None, None], &[]);
    index.put(one).await.expect("put");
    index.delete(two.document_id).await.expect("delete");
    index.commit(Position(3)).await.expect("commit");
    assert_eq!(models().await, [Some("suite".to_owned()), None]);
    assert_eq!(index.nearest(Space::Domain, &vector(1, DOMAIN), &all, 9).await.expect("nearest"), []);
    index.use_model(Space::Domain, &other).await.expect("another model, once no vectors are held");
    let again = IndexedDocument { vectors: Vectors { general: vec![], domain: vec![Some(vector(1, 8))] }, ..two };
    index.put(again).await.expect("put");
    index.commit(Position(4)).await.expect("commit");
    assert_eq!(places(&index.nearest(Space::Domain, &vector(1, 8), &all, 9).await.expect("nearest")), [(2, 0)]);
    assert_eq!(near(Space::General, 7, DIMENSIONS).await, ((3, 1), vec![(1, 0), (1, 1), (3, 0), (3, 1)]));
    assert_eq!(index.without_vectors().await.expect("without"), 2);
}

/// Legs that are asked at once answer as they do one by one; one that makes no sense does not take the others with it.
pub(super) async fn legs_answer_as_one_by_one(index: &dyn SearchIndex) {
    let all = SearchFilter::all_of(ALICE);
    let documents: Vec<_> = (1..30).map(|id| document(id, ALICE, &["quorvex plimbo", "quorvex"])).collect();
    assert!(index.legs(&[], &all, 5).await.is_empty());
    let legs = [
        Leg::Keyword("plimbo".into()),
        Leg::Nearest(Space::General, vector(5, DIMENSIONS)),
        Leg::Nearest(Space::Domain, vector(5, DOMAIN)),
        Leg::Nearest(Space::General, vec![f32::NAN; DIMENSIONS]),
        Leg::Keyword("".into()),
        Leg::Keyword("\"quorvex plimbo\"".into()),
        Leg::Nearest(Space::General, vector(5, 3)),
    ];
    fill(index, &[], 1).await;
    for answer in &index.legs(&legs[..3], &all, 5).await {
        assert_eq!(*answer.as_ref().expect("a leg of an empty index"), []);
    }
    fill(index, &documents, 2).await;
    let answers = index.legs(&legs, &all, 5).await;
    assert_eq!(answers.len(), legs.len());
    for (leg, answer) in legs.iter().zip(&answers) {
        let alone = match leg {
            Leg::Keyword(query) => index.keyword(query, &all, 5).await,
            Leg::Nearest(space, vector) => index.nearest(*space, vector, &all, 5).await,
        };
        match (answer, alone) {
            (Ok(together), Ok(alone)) => assert_eq!(*together, alone, "{leg:?}"),
            (Err(IndexError::Invalid(_)), Err(IndexError::Invalid(_))) => {}
            other => panic!("{leg:?}: {other:?}"),
        }
    }
    let lengths: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_or(99, Vec::len)).collect();
    assert_eq!(lengths, [5, 5, 0, 99, 0, 5, 99]);
}
