//! `riverrun log`: topics and records of the embedded log, through the running process or, at rest, directly.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use riverrun_connectors::log::Log as Store;
use riverrun_engine::time::{Clock, SystemClock};
use riverrun_engine::{Error, Result};
use riverrun_serve::client::Client;
use riverrun_serve::discovery;
use riverrun_serve::protocol::{LogRange, LogRecord, TopicInfo};

use super::serving::client;
use super::{backend, runtime};

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun log list
  riverrun log tail fraud-alerts
  riverrun log tail financial-transactions --partition 3 --from 0 --count 10")]
pub struct Log {
    /// The data directory.
    #[arg(long, global = true, default_value = "./riverrun-data")]
    data: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Topics, their partitions and how many records they hold.
    List,
    /// Records of a topic as they come, one line each: partition, offset, key, value.
    Tail {
        /// The topic.
        topic: String,
        /// One partition only.
        #[arg(long)]
        partition: Option<u32>,
        /// Begin at this offset; default: the last 10 of each partition.
        #[arg(long)]
        from: Option<i64>,
        /// Stop after so many records; default: until Ctrl-C.
        #[arg(long)]
        count: Option<usize>,
    },
}

impl Log {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let reader = Reader::open(&self.data)?;
        match self.what {
            What::List => list(&reader),
            What::Tail { topic, partition, from, count } => tail(&reader, &topic, partition, from, count),
        }
    }
}

/// Whoever can read the log: the running process, or this one.
enum Reader {
    Running(Client, tokio::runtime::Runtime),
    Here(Arc<Store>),
}

impl Reader {
    fn open(data: &Path) -> Result<Self> {
        if let Some(running) = discovery::find(data) {
            let (client, runtime) = (client(&running)?, runtime()?);
            match runtime.block_on(client.topics()) {
                Ok(_) => return Ok(Self::Running(client, runtime)),
                // It is there, and refuses.
                Err(e) if !e.is_transient() => return Err(e),
                Err(_) => {}
            }
        }
        let dir = data.join("log");
        if !Store::exists(&dir) {
            return Err(
                Error::invalid(format!("there is no log in {}", dir.display())).hint("name another data directory with --data")
            );
        }
        Ok(Self::Here(Store::open(&dir)?))
    }

    fn topics(&self) -> Result<Vec<TopicInfo>> {
        match self {
            Self::Running(client, runtime) => runtime.block_on(client.topics()),
            Self::Here(log) => Ok(backend::topics(log)),
        }
    }

    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        match self {
            Self::Running(client, runtime) => runtime.block_on(client.records(topic, range)),
            Self::Here(log) => backend::records(log, topic, range),
        }
    }
}

fn list(reader: &Reader) -> Result<()> {
    for topic in reader.topics()? {
        let records: i64 = topic.partitions.iter().map(|(start, end)| end - start).sum();
        println!(
            "{:<36} {:>3} partitions {:>14} records",
            topic.topic,
            topic.partitions.len(),
            super::summary::grouped(records.unsigned_abs())
        );
    }
    Ok(())
}

fn tail(reader: &Reader, topic: &str, only: Option<u32>, from: Option<i64>, count: Option<usize>) -> Result<()> {
    let topics = reader.topics()?;
    let info = topics.iter().find(|t| t.topic == topic).ok_or_else(|| {
        let names: Vec<_> = topics.iter().map(|t| t.topic.as_str()).collect();
        Error::invalid(format!("there is no topic {topic}")).hint(format!("there are {}", names.join(", ")))
    })?;
    let start = |(first, end): (i64, i64)| from.unwrap_or(end - 10).max(first);
    let mut next: Vec<(u32, i64)> = (0..).zip(info.partitions.iter().map(|p| start(*p))).collect();
    if let Some(partition) = only {
        next.retain(|(p, _)| *p == partition);
    }
    let mut left = count.unwrap_or(usize::MAX);
    while left > 0 {
        let mut came = false;
        for (partition, offset) in &mut next {
            let range = LogRange { partition: *partition, offset: *offset, limit: left.min(1000) };
            for record in reader.records(topic, range)? {
                println!("{}", line(&record));
                *offset = record.offset + 1;
                left -= 1;
                came = true;
            }
        }
        if !came {
            if matches!(reader, Reader::Here(_)) {
                return Ok(());
            }
            SystemClock.sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn line(record: &LogRecord) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "NULL".into());
    format!("{}:{} {} {}", record.partition, record.offset, text(&record.key), text(&record.value))
}
