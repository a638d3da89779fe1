//! A sink whose cluster cannot be reached when the run begins: connected beside, tried again and again, while the pipeline runs
//! and other sinks get their rows.
//!
//! It may be so since the sink keeps no position: nothing has to be known of the table before an epoch is run again.
//!
//! Invariants: nothing is taken before there is a connection; until then the feed holds what comes, of each key the newest row.
//! An error that will not pass ends the run, whenever it is found.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::sink::CassandraSink;

/// How long one look for the connection takes at most.
const WAIT: Duration = Duration::from_millis(20);

/// Connects a sink: now, or later where its cluster cannot be reached and the run goes on.
///
/// # Errors
/// What will not pass by itself; of a `bounded` run whatever there is.
pub(super) fn open(node: &SinkNode, bounded: bool) -> Result<Box<dyn Sink>> {
    match CassandraSink::open(node) {
        Err(error) if error.is_transient() && !bounded => Ok(Box::new(Late { node: node.clone(), state: State::Failed(error) })),
        opened => Ok(Box::new(opened?)),
    }
}

struct Late {
    node: SinkNode,
    state: State,
}

enum State {
    /// The last try came to this, which was not told yet.
    Failed(Error),
    /// Nobody tries; the next flush begins to.
    Idle,
    /// It is being tried.
    Trying(Receiver<Result<CassandraSink>>),
    Open(Box<CassandraSink>),
}

impl Late {
    /// Looks what has become of the last try, or begins one.
    fn connect(&mut self) -> Result<()> {
        let came = match &self.state {
            State::Open(_) => return Ok(()),
            State::Failed(error) => Err(error.clone()),
            State::Idle => {
                self.state = State::Trying(try_to_open(&self.node)?);
                return Ok(());
            }
            State::Trying(told) => match told.recv_timeout(WAIT) {
                Ok(came) => came,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => Err(Error::permanent("connecting to Cassandra has failed: see the log")),
            },
        };
        // An error is told once; the next flush, when the feed has waited, tries again.
        self.state = State::Idle;
        self.state = State::Open(Box::new(came?));
        Ok(())
    }
}

fn try_to_open(node: &SinkNode) -> Result<Receiver<Result<CassandraSink>>> {
    let (tell, told) = mpsc::channel();
    let node = node.clone();
    let thread = std::thread::Builder::new().name("cassandra-open".to_owned()).spawn(move || {
        // Nobody listens any more: the pipeline has ended meanwhile.
        let _ = tell.send(CassandraSink::open(&node));
    });
    match thread {
        Ok(_) => Ok(told),
        Err(e) => Err(Error::transient(format!("no thread could be started: {e}"))),
    }
}

impl Sink for Late {
    fn is_ready(&self) -> bool {
        matches!(&self.state, State::Open(sink) if sink.is_ready())
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        match &mut self.state {
            State::Open(sink) => sink.write(output),
            _ => Err(Error::transient("Cassandra is not connected yet")),
        }
    }

    fn flush(&mut self, now: Micros, force: bool) -> Result<Flushed> {
        self.connect()?;
        match &mut self.state {
            State::Open(sink) => sink.flush(now, force),
            _ => Ok(Flushed::Trying),
        }
    }
}
