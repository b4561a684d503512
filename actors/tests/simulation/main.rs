//! A deterministic simulation of the core: two nodes over one log, under a virtual clock and a seeded generator, with
//! crashes between any two steps, pauses, lost and delayed appends, conflicts, repeated and late commands.
//!
//! `LMAO_SIM_SEEDS` says how many seeds to run (2,000 if unset), `LMAO_SIM_SEED` replays one of them;
//! `LMAO_SIM_PLACED_SEEDS` (500) and `LMAO_SIM_PLACED_SEED` do so where nodes share the streams by leases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that meets what it did not expect fails"
)]

mod attempts;
mod conversation;
mod deadly;
mod meeting;
mod node;
mod parked;
mod placed;
mod script;
mod spaces;
mod stores;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use lmao_events::Hash;

use self::node::Sharing;

/// Runs one seed to its end; the digest of the log that it led to.
fn run(seed: u64, sharing: Sharing) -> Hash {
    in_virtual_time(script::play(seed, sharing))
}

fn in_virtual_time<T>(play: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(play)
}

/// Both nodes believe that every stream is theirs: the fence alone keeps them correct.
#[test]
fn every_accepted_request_ends_exactly_once() {
    storm(Sharing::Nothing, "LMAO_SIM_SEED", "LMAO_SIM_SEEDS", 2000);
}

/// The nodes share the streams by leases that are lost, renewed late and given up, and requests that are lost and late.
#[test]
fn every_accepted_request_ends_exactly_once_wherever_its_stream_is() {
    storm(Sharing::Leases, "LMAO_SIM_PLACED_SEED", "LMAO_SIM_PLACED_SEEDS", 500);
}

fn storm(sharing: Sharing, one: &str, many: &str, seeds: u64) {
    if let Ok(seed) = std::env::var(one) {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().init();
        run(seed.parse().expect("a seed is a number"), sharing);
        return;
    }
    let seeds = std::env::var(many).map_or(seeds, |n| n.parse().expect("seeds are counted by a number"));
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds {
                            return failed;
                        }
                        if catch_unwind(AssertUnwindSafe(|| run(seed, sharing))).is_err() {
                            eprintln!("the simulation failed; replay it with {one}={seed}");
                            failed.push(seed);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("workers catch panics")).collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}

#[test]
fn a_seed_is_replayed_exactly() {
    for sharing in [Sharing::Nothing, Sharing::Leases] {
        for seed in [1, 7, 42] {
            assert_eq!(run(seed, sharing), run(seed, sharing), "seed {seed} led to two different logs");
        }
    }
}
