//! Who does what to whom, and when: drawn from a seed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};
use tokio::time::sleep;

use super::{
    Kind,
    process::{Blow, Process},
    proxy::Proxy,
};

/// Between two blows, in milliseconds.
const BETWEEN: std::ops::Range<u64> = 500..3000;
/// How long a process that was killed stays away, in milliseconds.
const AWAY: std::ops::Range<u64> = 100..4000;

/// Between two kills of the search index's process.
const SELDOM: Duration = Duration::from_secs(150);

/// Everything that can be disturbed.
pub(super) struct Victims {
    pub(super) processes: Vec<Process>,
    pub(super) proxies: Vec<(Kind, Proxy)>,
}

impl Victims {
    /// Those of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| process.kind == kind)
    }

    /// Waits until nothing is disturbed.
    pub(super) async fn calm(&self) {
        for process in &self.processes {
            process.up().await;
        }
        while !self.proxies.iter().all(|(_, proxy)| proxy.is_up()) {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Disturbs them for so long, each pause of this length; how often what was done to whom.
pub(super) async fn disturb(
    victims: &Victims,
    random: &mut StdRng,
    length: Duration,
    pause: Duration,
) -> BTreeMap<String, u32> {
    let mut blows = BTreeMap::new();
    let (begun, mut last_index) = (Instant::now(), None);
    while begun.elapsed() < length {
        sleep(Duration::from_millis(random.random_range(BETWEEN))).await;
        let kind = *Kind::ALL.choose(random).expect("there are kinds");
        // Drawn whether they are used or not: what comes next does not depend on it.
        let (chosen, which, away) = (random.random_range(0..3), random.random::<u32>(), random.random_range(AWAY));
        let away = Duration::from_millis(away);
        let done = match kind {
            // Its process takes half a minute to start: the way to it is cut instead, but for now and then.
            Kind::Elasticsearch if chosen == 2 && last_index.is_none_or(|at: Instant| at.elapsed() > SELDOM) => {
                let index = victims.of(kind).find(|process| process.strike(Blow::Kill(away)));
                if index.is_some() {
                    last_index = Some(Instant::now());
                }
                index.map(|process| (format!("kill {kind:?}"), format!("{} for {away:?} and its start", process.name)))
            }
            Kind::Postgres if chosen == 2 && victims.of(kind).next().is_some() => {
                let blow = [Blow::Kill(away), Blow::Pause(pause), Blow::Restart][which as usize % 3];
                let name = ["kill", "pause", "restart"][which as usize % 3];
                let process = victims.of(kind).find(|process| process.strike(blow));
                process.map(|process| (format!("{name} {kind:?}"), format!("{} {blow:?}", process.name)))
            }
            Kind::Postgres | Kind::Elasticsearch => {
                let found = victims.proxies.iter().find(|(of, proxy)| *of == kind && proxy.is_up());
                found.map(|(_, proxy)| {
                    if chosen == 0 {
                        proxy.hold(pause);
                        (format!("hold {kind:?}"), format!("{kind:?} for {pause:?}"))
                    } else {
                        proxy.cut(away);
                        (format!("cut {kind:?}"), format!("{kind:?} for {away:?}"))
                    }
                })
            }
            // Two of three are what a cluster needs.
            Kind::Nats if !victims.of(kind).all(Process::is_up) => None,
            _ => {
                let all: Vec<&Process> = victims.of(kind).collect();
                let process = all[which as usize % all.len()];
                let (name, blow) = match chosen {
                    0 => ("pause", Blow::Pause(pause)),
                    1 => ("kill", Blow::Kill(away)),
                    _ => ("restart", Blow::Restart),
                };
                process.strike(blow).then(|| (format!("{name} {kind:?}"), format!("{} {blow:?}", process.name)))
            }
        };
        if let Some((name, what)) = done {
            println!("{:>6.1} s  {name:<16} {what}", begun.elapsed().as_secs_f64());
            *blows.entry(name.to_lowercase()).or_default() += 1;
        }
    }
    blows
}
