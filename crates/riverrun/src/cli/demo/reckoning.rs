//! The sum at the end: what was sent, read, aggregated, alerted and stored must come out even.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use riverrun_connectors::generator::Summary;
use riverrun_connectors::log::Log;
use riverrun_engine::runtime::stats::PipelineStats;
use riverrun_engine::{Error, Result};

use super::alerts;
use crate::cli::runtime;
use crate::cli::summary::grouped;
use crate::{Program, Tables};

const LATE: &str = "financial-transactions-late";
const AGGREGATED: &str = "SELECT coalesce(sum(transaction_count), 0) FROM transaction_aggregates";
const STORED: &str = "SELECT count(*) FROM lake";
const DISTINCT: &str = "SELECT count(DISTINCT transaction_id) FROM lake";

/// What was there before the demo began, so that a second start on the same directory is reckoned by itself.
pub struct Reckoning {
    unread: u64,
    alerts: i64,
    stored: i64,
}

/// One line of the sum.
struct Line {
    what: &'static str,
    count: i64,
    must_be: i64,
}

impl Reckoning {
    /// Counts what is there.
    pub fn before(program: &Program, log: &Arc<Log>) -> Result<Self> {
        let tables = Tables::open(program)?;
        let [stored] = if tables.missing.iter().any(|(name, _)| name == "lake") { [0] } else { ask(&tables, [STORED])? };
        Ok(Self { unread: unread(program, log)?, alerts: records(log, alerts::TOPIC), stored })
    }

    /// What a restart on the same directory says.
    pub fn carried_on(&self) -> Option<String> {
        (self.stored > 0).then(|| {
            format!(
                "carrying on: {} transactions are in the lake already, {} wait to be read. After a stop in order nothing is repeated; \
                 after a crash the records since the last checkpoint are read again: windows come out right, alerts and rows of the \
                 lake may be there twice",
                grouped(self.stored.unsigned_abs()),
                grouped(self.unread)
            )
        })
    }

    /// Prints the sum.
    ///
    /// # Errors
    /// It does not come out even.
    pub fn settle(
        &self,
        program: &Program,
        log: &Arc<Log>,
        stats: &PipelineStats,
        sent: &Summary,
        seen: u64,
        data: &Path,
    ) -> Result<()> {
        let source = stats.node("transactions").ok_or_else(|| Error::permanent("the source transactions is missing"))?;
        let bad: i64 = source.bad().into_values().sum::<u64>() as i64;
        let (read, late) = (source.rows_in.load(Relaxed) as i64, source.late.load(Relaxed) as i64);
        let malformed: i64 = sent.malformed.values().sum::<u64>() as i64;
        let [aggregated, stored, distinct] = ask(&Tables::open(program)?, [AGGREGATED, STORED, DISTINCT])?;
        // Over all runs on this directory: what a crash made to be read again is in the lake twice, in the windows once.
        let late_ever = records(log, LATE);
        let alerts = records(log, alerts::TOPIC) - self.alerts;
        let lines = [
            Line { what: "sent and acknowledged", count: sent.deliveries.acknowledged() as i64, must_be: sent.sent as i64 },
            Line { what: "read", count: read, must_be: sent.sent as i64 + self.unread as i64 },
            Line { what: "undecodable, in dead letters", count: bad, must_be: if self.unread == 0 { malformed } else { bad } },
            Line { what: "stored in the lake", count: stored - self.stored, must_be: read - bad },
            Line { what: "counted in windows, ever", count: aggregated, must_be: distinct - late_ever },
            Line { what: "alerts in their topic", count: alerts, must_be: seen as i64 },
        ];
        let mut text = String::new();
        for line in &lines {
            let mark = if line.count == line.must_be { "ok".to_owned() } else { format!("MUST BE {}", line.must_be) };
            let _ = writeln!(text, "  {:<30} {:>12}  {mark}", line.what, grouped(line.count.unsigned_abs()));
        }
        println!("{text}  {:<30} {:>12}", "late (more than 10 minutes)", grouped(late.unsigned_abs()));
        println!("  the truth about the fraud is in {}", data.join("labels.jsonl").display());
        match lines.iter().find(|l| l.count != l.must_be) {
            None => Ok(()),
            Some(line) => Err(Error::permanent(format!("the sum does not come out even: {}", line.what))),
        }
    }
}

/// The number that each query gives.
fn ask<const N: usize>(tables: &Tables, queries: [&str; N]) -> Result<[i64; N]> {
    let runtime = runtime()?;
    let mut numbers = [0; N];
    for (number, query) in numbers.iter_mut().zip(queries) {
        let (_, rows) = runtime.block_on(tables.query(query))?;
        let first = rows.first().filter(|r| r.num_rows() == 1).map(|r| r.column(0).as_primitive::<Int64Type>());
        *number = first
            .filter(|c| c.is_valid(0))
            .map(|c| c.value(0))
            .ok_or_else(|| Error::permanent(format!("no answer to {query}")))?;
    }
    Ok(numbers)
}

/// Records of a topic.
fn records(log: &Arc<Log>, topic: &str) -> i64 {
    log.topic(topic).map_or(0, |t| (0..t.partitions()).map(|p| t.end(p) - t.start(p)).sum())
}

/// Records of the input that the pipeline has not read yet.
fn unread(program: &Program, log: &Arc<Log>) -> Result<u64> {
    let Some(topic) = log.topic(super::INPUT) else { return Ok(0) };
    let mut unread = 0;
    for partition in 0..topic.partitions() {
        let position = log.committed(&program.context.pipeline, &topic, partition)?.unwrap_or_else(|| topic.start(partition));
        unread += topic.end(partition) - position;
    }
    Ok(unread.unsigned_abs())
}
