//! Thousands of seeds are clean, every planted fault is found, and a seed is the same each time.
//!
//! `RIVERRUN_SIM_SEEDS=from..to` runs other seeds.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use riverrun_engine::planted::Fault;
use riverrun_sim::{Outcome, run};

/// The first of the seeds that is found to fail, on all cores.
fn first_failure(seeds: Range<u64>, fault: Option<Fault>) -> Option<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Relaxed)).filter(|seed| *seed < seeds.end) {
            let outcome = run(seed, fault, false);
            if outcome.breach.is_some() {
                next.store(seeds.end, Relaxed);
                return Some(outcome);
            }
        }
        None
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let outcomes = running.into_iter().filter_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
        outcomes.min_by_key(|outcome| outcome.seed)
    })
}

fn replay(outcome: &Outcome) -> String {
    let trace = run(outcome.seed, None, true).trace;
    let last = trace[trace.len().saturating_sub(40)..].join("\n");
    format!("{last}\n{outcome}\nreplay it: cargo run --release -p riverrun-sim -- --seed {}", outcome.seed)
}

#[test]
fn thousands_of_seeds_are_clean() {
    let asked = std::env::var("RIVERRUN_SIM_SEEDS").ok();
    let asked = asked.and_then(|text| text.split_once("..").map(|(from, to)| from.parse().unwrap()..to.parse().unwrap()));
    if let Some(outcome) = first_failure(asked.unwrap_or(0..3_000), None) {
        panic!("{}", replay(&outcome));
    }
}

#[test]
fn every_planted_fault_is_found() {
    for fault in Fault::ALL {
        let found = first_failure(0..1_000, Some(fault));
        println!("{fault:?}: {}", found.as_ref().map_or("not found".to_owned(), ToString::to_string));
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

#[test]
fn a_seed_is_the_same_each_time() {
    for seed in 0..100 {
        let (one, other) = (run(seed, None, true), run(seed, None, true));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert!(!one.trace.is_empty());
    }
}
