//! What has to be looked up to be measured: how far the projections are behind the log, and what was set aside.

use std::{sync::Arc, time::Duration};

use lmao_events::Position;
use lmao_ports::{Commands, EventLog};
use opentelemetry::{
    KeyValue, global,
    metrics::{Gauge, Meter},
};

use super::duties::Projectors;

/// How often it is looked up.
const EVERY: Duration = Duration::from_secs(5);

/// Measures, without end.
pub(super) async fn run(log: Arc<dyn EventLog>, projectors: Arc<Projectors>, commands: Arc<dyn Commands>) {
    let gauges = Gauges::new(&global::meter("lmao"));
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        gauges.measure(log.as_ref(), &projectors, commands.as_ref()).await;
    }
}

struct Gauges {
    position: Gauge<u64>,
    lag: Gauge<u64>,
    stopped: Gauge<u64>,
    unprojected: Gauge<u64>,
    parked: Gauge<u64>,
}

impl Gauges {
    fn new(meter: &Meter) -> Self {
        let gauge = |name, unit, what| meter.u64_gauge(name).with_unit(unit).with_description(what).build();
        Self {
            position: gauge("lmao.log.position", "{commit}", "The log's last position."),
            lag: gauge("lmao.projection.lag", "{commit}", "Positions between a projection and the log's end."),
            stopped: gauge(
                "lmao.projection.stopped",
                "{projection}",
                "1 while something keeps a projection from going on.",
            ),
            unprojected: gauge("lmao.projection.parked", "{stream}", "Streams that a projection cannot take in."),
            parked: gauge("lmao.streams.parked", "{stream}", "Streams whose actors keep failing."),
        }
    }

    /// What cannot be told now stays as it was.
    async fn measure(&self, log: &dyn EventLog, projectors: &Projectors, commands: &dyn Commands) {
        let tail = log.tail().await.ok();
        if let Some(tail) = tail {
            self.position.record(tail.0, &[]);
        }
        for (projection, error) in projectors.errors() {
            let name = [KeyValue::new("lmao.projection", projection.name().to_owned())];
            self.stopped.record(u64::from(error.is_some()), &name);
            if let (Some(Position(tail)), Ok(Position(reached))) = (tail, projection.checkpoint().await) {
                self.lag.record(tail.saturating_sub(reached), &name);
            }
            if let Ok(parked) = projection.parked().await {
                self.unprojected.record(parked.len() as u64, &name);
            }
        }
        if let Ok(parked) = commands.parked().await {
            self.parked.record(parked.len() as u64, &[]);
        }
    }
}
