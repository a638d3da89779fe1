//! Runs seeds: `riverrun-sim --seed 7` replays one with its trace, `riverrun-sim --seeds 0..10000` runs many.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use clap::Parser;
use riverrun_engine::planted::Fault;
use riverrun_engine::time::Stopwatch;
use riverrun_sim::{Outcome, run};

/// The real engine on a simulated world.
#[derive(Parser)]
struct Arguments {
    /// Replays one seed, and prints what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Runs these seeds, `from..to`, on all cores, and stops at the first that fails.
    #[arg(long, default_value = "0..1000")]
    seeds: String,
    /// A fault to plant in the engine, by its name.
    #[arg(long)]
    fault: Option<String>,
    /// How many of the last lines of a trace are printed; 0: all.
    #[arg(long, default_value_t = 0)]
    last: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let fault = match &arguments.fault {
        None => None,
        Some(name) => match Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == *name) {
            Some(fault) => Some(fault),
            None => return failed(&format!("there is no fault {name}; there are {:?}", Fault::ALL)),
        },
    };
    if let Some(seed) = arguments.seed {
        return replay(seed, fault, arguments.last);
    }
    let range = arguments.seeds.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let Some((from, to)) = range else { return failed("--seeds takes from..to, such as 0..10000") };
    match run_all(from, to, fault) {
        None => ExitCode::SUCCESS,
        Some(outcome) => replay(outcome.seed, fault, if arguments.last == 0 { 60 } else { arguments.last }),
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(2)
}

/// Runs a seed again, with its trace.
fn replay(seed: u64, fault: Option<Fault>, last: usize) -> ExitCode {
    let outcome = run(seed, fault, true);
    let skipped = if last == 0 { 0 } else { outcome.trace.len().saturating_sub(last) };
    outcome.trace[skipped..].iter().for_each(|line| println!("{line}"));
    println!("{outcome}");
    if outcome.breach.is_none() {
        return ExitCode::SUCCESS;
    }
    println!("replay it: riverrun-sim --seed {seed}{}", fault.map(|f| format!(" --fault {f:?}")).unwrap_or_default());
    ExitCode::FAILURE
}

/// The first of the seeds that fails.
fn run_all(from: u64, to: u64, fault: Option<Fault>) -> Option<Outcome> {
    let (next, stopwatch) = (AtomicU64::new(from), Stopwatch::start());
    let (steps, epochs, lives) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut failure: Option<Outcome> = None;
        while failure.is_none() {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= to {
                break;
            }
            let outcome = run(seed, fault, false);
            steps.fetch_add(outcome.steps, Relaxed);
            epochs.fetch_add(outcome.epochs, Relaxed);
            lives.fetch_add(outcome.lives, Relaxed);
            if outcome.breach.is_some() {
                println!("{outcome}");
                next.store(to, Relaxed);
                failure = Some(outcome);
            }
            if (seed + 1 - from).is_multiple_of(1000) {
                let rate = (seed + 1 - from) as f64 * 1e9 / stopwatch.nanos() as f64;
                println!("seed {seed}: {rate:.0} seeds/s");
            }
        }
        failure
    };
    let failure = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let failures = running.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
        failures.min_by_key(|outcome| outcome.seed)
    });
    let seconds = stopwatch.nanos() as f64 / 1e9;
    let (steps, epochs, lives) = (steps.into_inner(), epochs.into_inner(), lives.into_inner());
    println!("seeds {from}..{to}: {seconds:.1} s, {steps} steps, {lives} lives, {epochs} epochs");
    failure
}
