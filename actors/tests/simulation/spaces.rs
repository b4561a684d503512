//! Two spaces of vectors, each with a model of its own: what the projection takes of a document when one of them is not in use.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use lmao_actors::{Feeder, Projector, SearchProjection};
use lmao_ports::{
    EmbedError, Embedder, Journal, ModelManifest, Pooling, Projection, SemanticState, Semantics, Snapshots, Space,
    TokenSpan,
};

use crate::{
    in_virtual_time,
    node::Running,
    parked::{Scene, Shelf, hand_in, opened},
};

/// A model of which only the name matters here.
#[derive(Debug)]
struct Named(ModelManifest);

#[async_trait]
impl Embedder for Named {
    fn manifest(&self) -> &ModelManifest {
        &self.0
    }
    async fn passages(&self, _: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        unreachable!("a projection embeds nothing")
    }
    async fn query(&self, _: &str) -> Result<Vec<f32>, EmbedError> {
        unreachable!("a projection asks nothing")
    }
    fn tokens(&self, _: &str) -> Vec<TokenSpan> {
        vec![]
    }
}

/// The models in use: the general one, and that for code.
#[derive(Debug)]
struct InUse([Option<&'static str>; 2]);

#[async_trait]
impl Semantics for InUse {
    fn state(&self, space: Space) -> SemanticState {
        let Some(id) = self.0[usize::from(space == Space::Domain)] else {
            return SemanticState::Off("none is configured".to_owned());
        };
        SemanticState::Ready(Arc::new(Named(ModelManifest {
            id: id.to_owned(),
            dimensions: 1,
            pooling: Pooling::Mean,
            normalize: true,
            max_tokens: 512,
            query_prefix: String::new(),
            passage_prefix: String::new(),
        })))
    }
    async fn settled(&self, space: Space) -> SemanticState {
        self.state(space)
    }
}

/// Takes the whole log into the index with these models in use; the spaces of the document in it, and of the index.
async fn taken(
    models: [Option<&'static str>; 2],
    shelf: &Arc<Shelf>,
    scene: &Scene,
    node: &Running,
) -> [Vec<Space>; 2] {
    let steps = scene.world.of(&node.node).steps;
    let snapshots: Arc<dyn Snapshots> = Arc::new(node.reached.clone());
    let (index, log) = (Arc::clone(shelf) as _, opened(node));
    let search = SearchProjection::open(index, steps, Arc::new(InUse(models)), log.clone(), snapshots, Feeder::Here);
    let search: Arc<dyn Projection> = Arc::new(search.await.expect("it opens"));
    search.reset().await.expect("it begins anew");
    let projector = Projector::new(Arc::clone(&search), log.clone(), SearchProjection::wants).spawn();
    let end = log.tail().await.expect("it is read");
    assert!(search.wait_for(end, Duration::from_secs(60)).await, "{:?}", projector.status());
    projector.stop().await;
    let held = shelf.held();
    [held.spaces.clone(), held.models.keys().copied().collect()]
}

#[test]
fn a_space_whose_model_is_not_in_use_loses_its_own_vectors_only() {
    in_virtual_time(async {
        let scene = Scene::new();
        scene.world.in_both.store(true, Ordering::Relaxed);
        let node = scene.start().await;
        hand_in(&node, 400).await;
        let shelf = Arc::new(Shelf::default());
        let both = || [Space::ALL.to_vec(), Space::ALL.to_vec()];
        let only = |space| [vec![space], vec![space]];
        // Never seen, a model that is turned off leaves nothing behind.
        assert_eq!(taken([Some("m"), None], &shelf, &scene, &node).await, only(Space::General));
        assert_eq!(taken([Some("m"), Some("other")], &shelf, &scene, &node).await, only(Space::General));
        assert_eq!(taken([Some("m"), Some("d")], &shelf, &scene, &node).await, both());
        assert_eq!(taken([Some("other"), Some("d")], &shelf, &scene, &node).await, only(Space::Domain));
        // Turned off and perhaps back soon, the vectors of each stay those of the model that was in use last.
        assert_eq!(taken([Some("m"), None], &shelf, &scene, &node).await, both());
        assert_eq!(taken([None, None], &shelf, &scene, &node).await, both());
    });
}
