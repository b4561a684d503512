//! What the core counts and measures. The names stand here and nowhere else; nothing is kept until the node installs a meter
//! provider, which it does before the first of them is used.

use std::{sync::LazyLock, time::Duration};

use lmao_events::Category;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram, UpDownCounter},
};

/// Seconds, from a write to a fast disk to one that hangs.
const APPEND_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Seconds, from a calculation to a language model's answer.
const WORK_SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

struct Instruments {
    append: Histogram<f64>,
    conflicts: Counter<u64>,
    live: Gauge<u64>,
    restarts: Counter<u64>,
    parked: Counter<u64>,
    waiting: Gauge<u64>,
    in_line: Gauge<u64>,
    refused: Counter<u64>,
    running: UpDownCounter<i64>,
    effect: Histogram<f64>,
    failed: Counter<u64>,
    batch: Histogram<u64>,
    tool: Histogram<f64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| {
    let meter = global::meter("lmao");
    let seconds = |name, what, bounds: &[f64]| {
        meter.f64_histogram(name).with_unit("s").with_description(what).with_boundaries(bounds.to_vec()).build()
    };
    let counter = |name, unit, what| meter.u64_counter(name).with_unit(unit).with_description(what).build();
    let instruments = Instruments {
        append: seconds("lmao.log.append.duration", "From a sealed record to its place in the log.", &APPEND_SECONDS),
        conflicts: counter("lmao.log.conflicts", "{conflict}", "Decisions taken again: the stream had moved on."),
        live: meter.u64_gauge("lmao.actors.live").with_unit("{actor}").with_description("Actors in memory.").build(),
        restarts: counter("lmao.actors.restarts", "{restart}", "Actors that failed and are started again."),
        parked: counter("lmao.actors.parked", "{stream}", "Streams set aside since the start."),
        waiting: meter
            .u64_gauge("lmao.mailbox.waiting")
            .with_unit("{command}")
            .with_description("Clients' commands under way: the depth of the gate.")
            .build(),
        in_line: meter
            .u64_gauge("lmao.debts.waiting")
            .with_unit("{stream}")
            .with_description("Streams that owe something and wait for their turn on this node.")
            .build(),
        refused: counter("lmao.mailbox.refused", "{command}", "Clients' commands refused: too many waited."),
        running: meter
            .i64_up_down_counter("lmao.effects.running")
            .with_unit("{effect}")
            .with_description("Effects at work.")
            .build(),
        effect: seconds("lmao.effects.duration", "From the start of an effect to its outcome.", &WORK_SECONDS),
        failed: counter("lmao.effects.failed", "{failure}", "Effects that panicked, or whose outcome was refused."),
        batch: meter
            .u64_histogram("lmao.projection.batch")
            .with_unit("{commit}")
            .with_description("Commits taken in at once.")
            .with_boundaries(vec![1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 250.0, 500.0])
            .build(),
        tool: seconds("lmao.tool.duration", "From the call of a tool to its result.", &WORK_SECONDS),
    };
    // A series that begins with its first event has no rate for it.
    let Instruments { conflicts, restarts, parked, refused, failed, .. } = &instruments;
    for counter in [conflicts, restarts, parked, refused, failed] {
        Category::ALL.into_iter().for_each(|category| counter.add(0, &of(category)));
    }
    instruments
});

fn of(category: Category) -> [KeyValue; 1] {
    [KeyValue::new("lmao.category", category.as_str())]
}

/// A record was appended, or not.
pub(crate) fn appended(category: Category, took: Duration) {
    INSTRUMENTS.append.record(took.as_secs_f64(), &of(category));
}

/// An append met another one.
pub(crate) fn conflict(category: Category) {
    INSTRUMENTS.conflicts.add(1, &of(category));
}

/// So many actors are in memory.
pub(crate) fn live(category: Category, actors: usize) {
    INSTRUMENTS.live.record(actors as u64, &of(category));
}

/// An actor failed and starts again.
pub(crate) fn restarted(category: Category) {
    INSTRUMENTS.restarts.add(1, &of(category));
}

/// A stream was set aside.
pub(crate) fn parked(category: Category) {
    INSTRUMENTS.parked.add(1, &of(category));
}

/// So many commands of clients are under way.
pub(crate) fn waiting(commands: usize) {
    INSTRUMENTS.waiting.record(commands as u64, &[]);
}

/// So many streams that owe something wait for their turn.
pub(crate) fn in_line(streams: usize) {
    INSTRUMENTS.in_line.record(streams as u64, &[]);
}

/// A command was refused.
pub(crate) fn refused(category: Category) {
    INSTRUMENTS.refused.add(1, &of(category));
}

/// An effect failed.
pub(crate) fn failed(category: Category) {
    INSTRUMENTS.failed.add(1, &of(category));
}

/// A projection took in so many commits.
pub(crate) fn projected(projection: &str, commits: usize) {
    INSTRUMENTS.batch.record(commits as u64, &[KeyValue::new("lmao.projection", projection.to_owned())]);
}

/// A tool was called. `tool` is one of those there are.
pub(crate) fn called(tool: &str, outcome: &'static str, took: Duration) {
    let attributes = [KeyValue::new("gen_ai.tool.name", tool.to_owned()), KeyValue::new("lmao.outcome", outcome)];
    INSTRUMENTS.tool.record(took.as_secs_f64(), &attributes);
}

/// An effect at work: counted until this is dropped, also when it is broken off.
pub(crate) struct AtWork {
    category: Category,
    begun: std::time::Instant,
}

impl AtWork {
    pub(crate) fn begin(category: Category) -> Self {
        INSTRUMENTS.running.add(1, &of(category));
        Self { category, begun: std::time::Instant::now() }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        INSTRUMENTS.running.add(-1, &of(self.category));
        INSTRUMENTS.effect.record(self.begun.elapsed().as_secs_f64(), &of(self.category));
    }
}
