//! What the running process answers to others: its tables, its logs, its counts.

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use riverrun_connectors::log::{Log, Reader};
use riverrun_engine::progress::{Progress, Recent};
use riverrun_engine::runtime::Pipeline;
use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::PipelineStats;
use riverrun_engine::time::Clock;
use riverrun_engine::{Error, Result};
use riverrun_serve::discovery::{self, Announcement};
use riverrun_serve::metrics::declared::Declared;
use riverrun_serve::metrics::family::Family;
use riverrun_serve::metrics::{self, Observed};
use riverrun_serve::protocol::{LogRange, LogRecord, Stats, TopicInfo};
use riverrun_serve::server::{Backend, Server};

use crate::{Program, Tables};

/// A program, to be asked: whether it lives from its start on, the rest once it runs.
struct Live {
    pipeline: String,
    clock: Arc<dyn Clock>,
    declared: Vec<Declared>,
    running: OnceLock<Running>,
}

/// What there is once the pipeline has been started.
struct Running {
    tables: Tables,
    log: Option<Arc<Log>>,
    stats: Arc<PipelineStats>,
    progress: Arc<Recent>,
}

/// The endpoint of a program; ends when dropped.
pub struct Endpoint {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    live: Arc<Live>,
    server: Server,
    announcement: Option<Announcement>,
}

impl Endpoint {
    /// Starts to answer for `program` on a port of loopback: a pipeline may take a while to open its sources and to restore
    /// its state, and must not be taken for dead meanwhile.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(program: &Program, port: u16) -> Result<Self> {
        let live = Arc::new(Live {
            pipeline: program.context.pipeline.clone(),
            clock: program.clock(),
            declared: program.metrics.clone(),
            running: OnceLock::new(),
        });
        let server = Server::start(port, live.clone())?;
        Ok(Self { address: server.address(), live, server, announcement: None })
    }

    /// The pipeline runs: from now on everything is answered. Leaves the address in the data directory.
    pub fn runs(&mut self, program: &Program, pipeline: &Pipeline) -> Result<()> {
        let log_dir = program.context.data_dir.join("log");
        let running = Running {
            tables: Tables::open(program)?,
            log: if Log::exists(&log_dir) { Some(Log::open(&log_dir)?) } else { None },
            stats: pipeline.stats(),
            progress: pipeline.progress(),
        };
        // Called once: a second pipeline would get an endpoint of its own.
        let _ = self.live.running.set(running);
        let pipeline = program.context.pipeline.clone();
        let found = discovery::Running { address: self.address.to_string(), pid: std::process::id(), pipeline };
        self.announcement = Some(Announcement::write(&program.context.data_dir, &found)?);
        Ok(())
    }
}

impl Endpoint {
    /// The pipeline has ended: those who watch are told how, before the process goes.
    pub fn tell_end<T>(&self, outcome: &Result<T>) {
        self.server.tell_end(outcome.as_ref().err().map(ToString::to_string));
    }
}

impl Live {
    fn running(&self) -> Result<&Running> {
        self.running.get().ok_or_else(|| Error::transient("the pipeline is starting: sources are opened, state is restored"))
    }
}

#[async_trait::async_trait]
impl Backend for Live {
    async fn sql(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        self.running()?.tables.query(query).await
    }

    fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(self.running()?.log.as_ref().map(topics).unwrap_or_default())
    }

    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        let log = self.running()?.log.as_ref();
        records(log.ok_or_else(|| Error::invalid("the running pipeline has no embedded log"))?, topic, range)
    }

    fn stats(&self) -> Result<Stats> {
        Ok(Stats::of(&self.pipeline, &self.running()?.stats))
    }

    fn metrics(&self) -> Vec<Family> {
        let Ok(Running { stats, .. }) = self.running() else { return metrics::starting(&self.pipeline) };
        Observed { pipeline: &self.pipeline, stats, now: self.clock.now(), declared: &self.declared }.families()
    }

    fn health(&self) -> Health {
        match self.running() {
            Ok(running) => Health::of(&running.stats, self.clock.now()),
            Err(e) => Health { dead: Vec::new(), not_ready: vec![e.message().to_owned()] },
        }
    }

    fn last_progress(&self) -> Result<Option<Arc<Progress>>> {
        Ok(self.running()?.progress.last())
    }

    fn recent_progress(&self, n: usize) -> Result<Vec<Arc<Progress>>> {
        Ok(self.running()?.progress.reports(n))
    }

    fn live_progress(&self) -> Result<Progress> {
        Ok(self.running()?.progress.live())
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
