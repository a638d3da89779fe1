//! Reads the dead letters of a source from where they are: a topic, a topic of the log, a file or a folder.

use std::time::Duration;

use riverrun_connectors::registry::Registry;
use riverrun_engine::Result;
use riverrun_engine::connect::{Connectors, Context};
use riverrun_engine::dead_letter::{self, DeadLetter};
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Limit, Poll, Start};
use riverrun_engine::table::Table;
use riverrun_engine::time::{Clock, SystemClock};

/// What is read at once.
const READ: Limit = Limit::new(1024, 4 << 20);

/// How long to wait where there is nothing yet.
const WAIT: Duration = Duration::from_millis(2);

/// Gives `take` all letters that are there now, partition by partition, until it wants no more. Gives the number of records
/// there that are no dead letters.
pub(super) fn each(
    registry: &Registry,
    context: &Context,
    letters: Table,
    take: &mut dyn FnMut(DeadLetter) -> Result<bool>,
) -> Result<u64> {
    let mut foreign = 0;
    if !registry.is_there(&letters, context)? {
        return Ok(foreign);
    }
    let source = registry.source(&SourceNode { schema: letters.schema(), table: letters }, context)?;
    for partition in 0..source.partitions()? {
        let (start, end) = (source.resolve(partition, Start::Earliest)?, source.end_offset(partition)?);
        let mut reader = source.open(partition, start, end)?;
        loop {
            match reader.poll(READ, context.clock.now())? {
                Poll::End => break,
                Poll::Pending => SystemClock.sleep(WAIT),
                Poll::Ready(fetch) => {
                    foreign += fetch.bad.len() as u64;
                    for letter in dead_letter::letters(&fetch.rows)? {
                        if !take(letter)? {
                            return Ok(foreign);
                        }
                    }
                }
            }
        }
    }
    Ok(foreign)
}
