//! What the running process answers to others: its tables, its logs, its counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use riverrun_connectors::connector::on_bad_record;
use riverrun_connectors::log::{Log, Reader};
use riverrun_engine::connect::Connectors;
use riverrun_engine::graph::Graph;
use riverrun_engine::progress::{Progress, Recent};
use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::PipelineStats;
use riverrun_engine::runtime::{Pipeline, Steering};
use riverrun_engine::source::OnBadRecord;
use riverrun_engine::time::Clock;
use riverrun_engine::{Error, Result};
use riverrun_serve::access::Listen;
use riverrun_serve::discovery::{self, Announcement};
use riverrun_serve::limits::Limits;
use riverrun_serve::metrics::declared::Declared;
use riverrun_serve::metrics::family::Family;
use riverrun_serve::metrics::{self, Observed};
use riverrun_serve::protocol::{
    Answer, GraphInfo, LogRange, LogRecord, PipelineInfo, ReplayWanted, Replayed, RowsWanted, Stats, TableInfo, TopicInfo,
};
use riverrun_serve::server::{Backend, Server};

use crate::dead_letters::Replay;
use crate::{Program, Tables};

/// The memory that all queries from outside have together.
const QUERY_MEMORY: usize = 256 << 20;

/// A program, to be asked: whether it lives from its start on, the rest once it runs.
struct Live {
    pipeline: String,
    instance: Option<String>,
    clock: Arc<dyn Clock>,
    declared: Vec<Declared>,
    graph: Graph,
    fates: Vec<(String, String, Option<String>)>,
    replay: Mutex<Replay>,
    running: OnceLock<Running>,
}

/// What there is once the pipeline has been started.
struct Running {
    tables: Arc<Tables>,
    log: Option<Arc<Log>>,
    stats: Arc<PipelineStats>,
    progress: Arc<Recent>,
    steering: Steering,
    keeps_checkpoints: bool,
}

/// The endpoint of a program; ends when dropped.
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it speaks the PostgreSQL protocol, if it does.
    pub postgres: Option<SocketAddr>,
    listen: Listen,
    postgres_port: Option<u16>,
    live: Arc<Live>,
    server: Server,
    announcement: Option<Announcement>,
}

impl Endpoint {
    /// Starts to answer for `program`: a pipeline may take a while to open its sources and to restore its state, and must not be
    /// taken for dead meanwhile. With a port for it, the PostgreSQL protocol is spoken once the pipeline runs.
    ///
    /// # Errors
    /// The port is taken; or this program was built without the PostgreSQL protocol.
    pub fn start(program: &Program, listen: Listen, postgres_port: Option<u16>) -> Result<Self> {
        if postgres_port.is_some() && !cfg!(feature = "postgres") {
            return Err(Error::invalid("this program was built without the PostgreSQL protocol")
                .hint("build it with the feature postgres"));
        }
        let live = Arc::new(Live {
            pipeline: program.context.pipeline.clone(),
            instance: program.context.instance.clone(),
            clock: program.clock(),
            declared: program.metrics.clone(),
            graph: program.graph.clone(),
            fates: fates(program),
            replay: Mutex::new(Replay::of(program)),
            running: OnceLock::new(),
        });
        let server = Server::start(&listen, Limits::default(), live.clone())?;
        Ok(Self { address: server.address(), postgres: None, listen, postgres_port, live, server, announcement: None })
    }

    /// The pipeline runs: from now on everything is answered. Leaves the address in the data directory.
    ///
    /// # Errors
    /// The port of the PostgreSQL protocol is taken; the data directory cannot be written.
    pub fn runs(&mut self, program: &Program, pipeline: &Pipeline) -> Result<()> {
        let log_dir = program.context.data_dir.join("log");
        let tables = Arc::new(Tables::open_bounded(program, QUERY_MEMORY)?);
        self.speak_postgres(&tables)?;
        let steering = pipeline.steering();
        let running = Running {
            tables,
            log: if Log::exists(&log_dir) { Some(Log::open(&log_dir)?) } else { None },
            stats: pipeline.stats(),
            progress: pipeline.progress(),
            keeps_checkpoints: steering.keeps_checkpoints(),
            steering,
        };
        // Called once: a second pipeline would get an endpoint of its own.
        let _ = self.live.running.set(running);
        let pipeline = program.context.pipeline.clone();
        let found = discovery::Running { address: reachable(self.address).to_string(), pid: std::process::id(), pipeline };
        self.announcement = Some(Announcement::write(&program.context.data_dir, &found)?);
        Ok(())
    }

    #[cfg(feature = "postgres")]
    fn speak_postgres(&mut self, tables: &Arc<Tables>) -> Result<()> {
        let (Some(port), Some(threads)) = (self.postgres_port, self.server.query_threads()) else { return Ok(()) };
        self.postgres = Some(crate::postgres::start(&self.listen.with_port(port), tables, &threads)?);
        Ok(())
    }

    #[cfg(not(feature = "postgres"))]
    fn speak_postgres(&mut self, _: &Arc<Tables>) -> Result<()> {
        Ok(())
    }
}

/// The address under which a process on this machine reaches one that listens.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// By source: what becomes of its bad records, and the table that keeps them.
pub fn fates(program: &Program) -> Vec<(String, String, Option<String>)> {
    let fate = |table: &riverrun_engine::table::Table| match on_bad_record(&table.options) {
        Ok(OnBadRecord::Drop) => "drop",
        Ok(OnBadRecord::DeadLetter) => "dead_letter",
        // A wrong option was refused before.
        Ok(OnBadRecord::Fail) | Err(_) => "fail",
    };
    let letters = |table| program.registry.dead_letters(table).ok().flatten().map(|letters| letters.name);
    let sources = program.graph.sources().map(|(_, source)| &source.table);
    sources.map(|table| (table.name.clone(), fate(table).to_owned(), letters(table))).collect()
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
    async fn query(&self, query: &str, limit: usize) -> Result<Answer> {
        self.running()?.tables.ask(query, limit).await
    }

    async fn rows(&self, table: &str, wanted: RowsWanted) -> Result<Answer> {
        self.running()?.tables.rows(table, &wanted).await
    }

    fn tables(&self) -> Result<Vec<TableInfo>> {
        Ok(self.running()?.tables.infos().to_vec())
    }

    fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(self.running()?.log.as_ref().map(topics).unwrap_or_default())
    }

    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        let log = self.running()?.log.as_ref();
        records(log.ok_or_else(|| Error::invalid("the running pipeline has no embedded log"))?, topic, range)
    }

    fn pipeline(&self) -> PipelineInfo {
        let info = PipelineInfo::starting(&self.pipeline, self.instance.clone(), self.clock.now());
        match self.running.get() {
            Some(running) => info.runs(running.steering.state().name(), &running.stats, running.keeps_checkpoints),
            None => info,
        }
    }

    fn graph(&self) -> Result<GraphInfo> {
        let running = self.running()?;
        Ok(GraphInfo::of(&self.graph, &running.stats, &running.progress.live()))
    }

    fn steering(&self) -> Result<Steering> {
        Ok(self.running()?.steering.clone())
    }

    fn observed(&self) -> Result<Arc<PipelineStats>> {
        Ok(self.running()?.stats.clone())
    }

    fn fates(&self) -> Vec<(String, String, Option<String>)> {
        self.fates.clone()
    }

    fn replay(&self, wanted: &ReplayWanted) -> Result<Replayed> {
        self.running()?;
        // One at a time: what one gives, the next must know of.
        let replay = match self.replay.try_lock() {
            Ok(replay) => replay,
            Err(TryLockError::Poisoned(broken)) => broken.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Error::transient("another replay is under way")),
        };
        replay.run(wanted, None)
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
