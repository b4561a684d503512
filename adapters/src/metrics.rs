//! What adapters count and measure: models and caches. Nothing is kept until the node installs a meter provider, which it
//! does before the first of them is used.

use std::{sync::LazyLock, time::Duration};

use lmao_events::TokenUsage;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};

/// Seconds, as the semantic conventions for generative models advise.
const LLM_SECONDS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Tokens, as they advise too.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

struct Instruments {
    embeddings: Counter<u64>,
    reranked: Counter<u64>,
    hits: Counter<u64>,
    misses: Counter<u64>,
    tokens: Histogram<u64>,
    completion: Histogram<f64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("lmao");
    let counter = |name, unit, what| meter.u64_counter(name).with_unit(unit).with_description(what).build();
    let instruments = Instruments {
        embeddings: counter("lmao.embeddings", "{text}", "Texts that the embedding model turned into vectors."),
        reranked: counter("lmao.reranked", "{passage}", "Passages that the reranker scored."),
        hits: counter("lmao.cache.hits", "{lookup}", "Lookups that found something."),
        misses: counter("lmao.cache.misses", "{lookup}", "Lookups that found nothing."),
        tokens: meter
            .u64_histogram("gen_ai.client.token.usage")
            .with_unit("{token}")
            .with_description("Tokens of a completion, as the endpoint counted them.")
            .with_boundaries(TOKENS.to_vec())
            .build(),
        completion: meter
            .f64_histogram("gen_ai.client.operation.duration")
            .with_unit("s")
            .with_description("From the request of a completion to its end.")
            .with_boundaries(LLM_SECONDS.to_vec())
            .build(),
    };
    // A series that begins with its first event has no rate for it.
    for kind in ["query", "passage"] {
        instruments.embeddings.add(0, &[KeyValue::new("lmao.kind", kind)]);
    }
    instruments
});

/// What was embedded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Embedded {
    Query,
    Passages(usize),
}

/// Texts were embedded.
pub(crate) fn embedded(what: Embedded) {
    let (kind, texts) = match what {
        Embedded::Query => ("query", 1),
        Embedded::Passages(texts) => ("passage", texts as u64),
    };
    INSTRUMENTS.embeddings.add(texts, &[KeyValue::new("lmao.kind", kind)]);
}

/// Passages were scored.
pub(crate) fn reranked(passages: usize) {
    INSTRUMENTS.reranked.add(passages as u64, &[]);
}

/// A cache was asked so many times, and knew so many of them. `cache` is its name in the metrics.
pub(crate) fn looked_up(cache: &'static str, asked: usize, known: usize) {
    let attributes = [KeyValue::new("lmao.cache", cache)];
    // Both, so that a rate can be had from the first lookup on.
    INSTRUMENTS.hits.add(known as u64, &attributes);
    INSTRUMENTS.misses.add(asked.saturating_sub(known) as u64, &attributes);
}

/// A language model was asked; `usage` is what it cost, if it wrote and said so.
pub(crate) fn completed(model: &str, took: Duration, usage: Option<TokenUsage>, error: Option<&'static str>) {
    let attributes = |more: KeyValue| {
        [KeyValue::new("gen_ai.operation.name", "chat"), KeyValue::new("gen_ai.request.model", model.to_owned()), more]
    };
    let outcome = KeyValue::new("error.type", error.unwrap_or_default());
    let attributes_of_call = attributes(outcome);
    // Without an error there is no such attribute.
    let of_call = if error.is_some() { &attributes_of_call[..] } else { &attributes_of_call[..2] };
    INSTRUMENTS.completion.record(took.as_secs_f64(), of_call);
    if let Some(usage) = usage {
        let kind = |kind| attributes(KeyValue::new("gen_ai.token.type", kind));
        INSTRUMENTS.tokens.record(u64::from(usage.prompt), &kind("input"));
        INSTRUMENTS.tokens.record(u64::from(usage.completion), &kind("output"));
    }
}
