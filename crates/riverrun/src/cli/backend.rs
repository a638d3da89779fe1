//! What the running process answers to others: its tables, its logs, its counts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use riverrun_connectors::log::{Log, Reader};
use riverrun_engine::progress::{Progress, Recent};
use riverrun_engine::runtime::Pipeline;
use riverrun_engine::runtime::stats::PipelineStats;
use riverrun_engine::{Error, Result};
use riverrun_serve::discovery::{Announcement, Running};
use riverrun_serve::protocol::{LogRange, LogRecord, Stats, TopicInfo};
use riverrun_serve::server::{Backend, Server};

use crate::{Program, Tables};

/// A running program, to be asked.
pub struct Live {
    tables: Tables,
    log: Option<Arc<Log>>,
    stats: Arc<PipelineStats>,
    progress: Arc<Recent>,
    pipeline: String,
}

/// The endpoint of a running program; ends when dropped.
pub struct Endpoint {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    _server: Server,
    _announcement: Announcement,
}

impl Endpoint {
    /// Starts to answer for `program` on a port of loopback, and leaves the address in the data directory.
    pub fn start(program: &Program, pipeline: &Pipeline, port: u16) -> Result<Self> {
        let log_dir = program.context.data_dir.join("log");
        let live = Live {
            tables: Tables::open(program)?,
            log: if Log::exists(&log_dir) { Some(Log::open(&log_dir)?) } else { None },
            stats: pipeline.stats(),
            progress: pipeline.progress(),
            pipeline: program.context.pipeline.clone(),
        };
        let server = Server::start(port, Arc::new(live))?;
        let address = server.address();
        let pipeline = program.context.pipeline.clone();
        let running = Running { address: address.to_string(), pid: std::process::id(), pipeline };
        Ok(Self { address, _server: server, _announcement: Announcement::write(&program.context.data_dir, &running)? })
    }
}

#[async_trait::async_trait]
impl Backend for Live {
    async fn sql(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        self.tables.query(query).await
    }

    fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(self.log.as_ref().map(topics).unwrap_or_default())
    }

    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        let log = self.log.as_ref().ok_or_else(|| Error::invalid("the running pipeline has no embedded log"))?;
        records(log, topic, range)
    }

    fn stats(&self) -> Stats {
        Stats::of(&self.pipeline, &self.stats)
    }

    fn last_progress(&self) -> Option<Arc<Progress>> {
        self.progress.last()
    }

    fn recent_progress(&self, n: usize) -> Vec<Arc<Progress>> {
        self.progress.reports(n)
    }

    fn live_progress(&self) -> Progress {
        self.progress.live()
    }
}

/// The topics of a log and their offsets.
pub fn topics(log: &Arc<Log>) -> Vec<TopicInfo> {
    let offsets =
        |topic: &riverrun_connectors::log::Topic| (0..topic.partitions()).map(|p| (topic.start(p), topic.end(p))).collect();
    log.topics().iter().map(|t| TopicInfo { topic: t.name().to_owned(), partitions: offsets(t) }).collect()
}

/// Records of a topic; from a deleted offset: the first that are there.
pub fn records(log: &Arc<Log>, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
    let found = log.topic(topic).ok_or_else(|| {
        let names: Vec<_> = log.topics().iter().map(|t| t.name().to_owned()).collect();
        Error::invalid(format!("there is no topic {topic}")).hint(format!("there are {}", names.join(", ")))
    })?;
    let mut reader = Reader::open(log.clone(), found, range.partition, range.offset, false)?;
    let mut records = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    reader.read(range.limit.min(10_000), 4 << 20, i64::MAX, |record| {
        records.push(LogRecord {
            partition: range.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(text),
            value: record.value.map(text),
        });
    })?;
    Ok(records)
}
