//! The two legs: what the index knows by words, and what it knows by meaning.

use lmao_ports::{
    EmbedError, IndexError, LegHit, SearchError, SearchFilter, SearchIndex, SemanticState, Semantics, Space, Span,
    Unavailable,
};

/// What became of the vector leg.
#[derive(Debug)]
pub(super) enum Vectors {
    /// Passages, nearest first.
    Found(Vec<LegHit>),
    /// The index holds no vectors at all: what the reader should know.
    Absent(String),
    /// It cannot be used: why.
    Off(SearchError),
}

/// The `k` best passages by BM25.
pub(super) async fn keyword(
    index: &dyn SearchIndex,
    text: &str,
    filter: &SearchFilter,
    k: usize,
) -> Result<Vec<LegHit>, SearchError> {
    let span = Span::here(|| "search keyword".into());
    Ok(span.run(index.keyword(&text.into(), filter, k)).await?)
}

/// The `k` nearest passages by meaning.
pub(super) async fn nearest(
    index: &dyn SearchIndex,
    semantics: &dyn Semantics,
    text: &str,
    filter: &SearchFilter,
    k: usize,
) -> Vectors {
    let embedder = match semantics.state(Space::General) {
        SemanticState::Ready(embedder) => embedder,
        SemanticState::Loading(why) | SemanticState::Off(why) => return Vectors::Off(SearchError::SemanticOff(why)),
    };
    let wanted = embedder.manifest().id.clone();
    match index.model(Space::General).await {
        Ok(Some(stored)) if stored.id == wanted => {}
        Ok(Some(stored)) => return Vectors::Off(IndexError::OtherModel { stored: stored.id, wanted }.into()),
        Ok(None) => {
            return Vectors::Absent(
                "the documents have no vectors yet and were searched by keyword only; `lmao models reembed` adds them"
                    .to_owned(),
            );
        }
        Err(error) => return Vectors::Off(error.into()),
    }
    let embedding = Span::here(|| format!("embeddings {wanted}").into());
    let vector = match embedding.run(embedder.query(text)).await {
        Ok(vector) => vector,
        Err(error) => return Vectors::Off(error.into()),
    };
    drop(embedding);
    let span = Span::here(|| "search nearest".into());
    match span.run(index.nearest(Space::General, &vector, filter, k)).await {
        Ok(found) => Vectors::Found(found),
        Err(error) => Vectors::Off(error.into()),
    }
}

/// What the reader of a search that went on without the vector leg should know.
pub(super) fn fallback(error: &SearchError) -> String {
    let why = match error {
        SearchError::SemanticOff(_) => return format!("{error}; searched by keyword only"),
        SearchError::Index(IndexError::OtherModel { .. }) => {
            return format!("{error}; searched by keyword only until `lmao models reembed` has run");
        }
        SearchError::Embed(EmbedError::Model { message, .. }) => format!("the model failed: {message}"),
        SearchError::Index(IndexError::Unavailable(Unavailable { message, .. })) => message.clone(),
        error => error.to_string(),
    };
    format!("the semantic leg is off: {why}; searched by keyword only")
}
