//! Seeded simulation: the real engine on simulated sources, sinks, journal, checkpoints, time and scheduling.
//!
//! A seed decides everything: the pipeline, the records, who is when on turn, which calls fail and how, when a life of the
//! pipeline crashes, and whether the dead one goes on for a while. The engine's parts are stepped one by one on one thread, so
//! the same seed gives the same trace. What must hold is checked where it could be broken, and at the end against an
//! uninterrupted run and against the records themselves.

mod check;
mod checkpoints;
mod exchange;
mod group;
mod history;
mod journal;
mod life;
mod member;
mod plan;
mod random;
mod reference;
mod script;
mod sharing;
mod simulation;
mod sink;
mod source;
mod world;

pub use simulation::{Outcome, run};
