//! A running pipeline: its threads, how they are started, stopped and joined.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::checkpoint::{Checkpoint, Checkpoints, Position};
use super::dataflow::Dataflow;
use super::feed::{self, Feed};
use super::keeper::Keeper;
use super::positions::{Place, Positions};
use super::queue::SinkQueue;
use super::settings::Settings;
use super::stats::PipelineStats;
use super::task::{Input, Shared, Task};
use super::watermark::Watermark;
use super::worker::Worker;
use crate::connect::{Connectors, Context};
use crate::graph::{Graph, NodeId, Parallelism, SourceNode};
use crate::sink::Sink;
use crate::source::{Source, Start};
use crate::time::{Clock, MIN_TIME};
use crate::{Error, Result};

/// How often a waiting caller looks whether the workers are done.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The sources and sinks that a graph's nodes stand for, connected.
#[derive(Default)]
pub struct Bindings {
    /// By node.
    pub sources: BTreeMap<NodeId, Arc<dyn Source>>,
    /// By node.
    pub sinks: BTreeMap<NodeId, Box<dyn Sink>>,
}

impl Bindings {
    /// Connects all of them; a program's `own` sinks stand for the tables of their names.
    pub fn open(
        graph: &Graph,
        connectors: &dyn Connectors,
        context: &Context,
        own: &mut BTreeMap<String, Box<dyn Sink>>,
    ) -> Result<Self> {
        let mut bindings = Self::default();
        for (id, sink) in graph.sinks() {
            let opened = match own.remove(&sink.table.name) {
                Some(own) => own,
                None => connectors.sink(sink, context)?,
            };
            bindings.sinks.insert(id, opened);
        }
        for (id, source) in graph.sources() {
            let opened = connectors.source(source, context)?;
            bindings.sources.insert(id, opened);
        }
        Ok(bindings)
    }
}

/// Stops a pipeline in order: epochs end, sinks are flushed, positions kept.
#[derive(Debug, Clone)]
pub struct StopHandle(Arc<AtomicBool>);

impl StopHandle {
    /// Asks it to stop; [`Pipeline::wait`] returns when it has.
    pub fn stop(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it was asked to, or failed.
    pub fn stopped(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A pipeline that runs.
pub struct Pipeline {
    stats: Arc<PipelineStats>,
    stop: Arc<AtomicBool>,
    failure: Arc<Mutex<Option<Error>>>,
    workers: Vec<JoinHandle<()>>,
    feeds: Vec<JoinHandle<()>>,
    queues: Vec<Arc<SinkQueue>>,
    keeper: Arc<Keeper>,
    keeping: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
}

impl Pipeline {
    /// Makes tasks and threads, and starts them.
    pub fn start(graph: &Graph, bindings: Bindings, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let sources: Vec<(NodeId, &SourceNode, Arc<dyn Source>)> = graph
            .sources()
            .map(|(id, node)| {
                let source = bindings.sources.get(&id).cloned();
                source
                    .map(|s| (id, node, s))
                    .ok_or_else(|| Error::invalid(format!("source {} is not connected", node.table.name)))
            })
            .collect::<Result<_>>()?;
        let places = cut_into_tasks(graph, &sources)?;
        let tasks = places.len();
        let stats = Arc::new(PipelineStats::new(graph, tasks));
        let sink_count = graph.sinks().count();
        let shared = Arc::new(Shared {
            queues: (0..sink_count).map(|_| Arc::new(SinkQueue::new(settings.queue_bytes))).collect(),
            positions: Arc::new(Positions::new(tasks, sink_count)),
            stats: stats.clone(),
            clock: clock.clone(),
            checkpoints: (0..tasks).map(|_| Mutex::default()).collect(),
            settings,
        });
        let parts = parts_of(&sources)?;
        let checkpoints = shared.settings.checkpoint_dir.clone().map(|dir| Checkpoints::new(dir, &graph.explain(), tasks, parts));
        let newest: Vec<Arc<AtomicI64>> = sources.iter().map(|_| Arc::new(AtomicI64::new(MIN_TIME))).collect();
        let mut made = Vec::with_capacity(tasks);
        for (number, places) in places.into_iter().enumerate() {
            let checkpoint = checkpoints.as_ref().map(|c| c.newest(number)).transpose()?.flatten();
            let open = |place| open_input(&sources, place, checkpoint.as_ref(), &newest, &shared);
            let inputs = places.into_iter().map(open).collect::<Result<Vec<_>>>()?;
            let mut task = Task::new(number as u32, inputs, Dataflow::new(graph, number, stats.clone())?, shared.clone());
            if let Some(checkpoint) = checkpoint {
                task.resume(checkpoint).map_err(|e| e.within(format!("task {number}: its checkpoint")))?;
            }
            made.push(task);
        }
        let mut pipeline = Self {
            stats,
            stop: Arc::default(),
            failure: Arc::default(),
            workers: Vec::new(),
            feeds: Vec::new(),
            queues: shared.queues.clone(),
            keeper: Arc::new(Keeper {
                sources: sources.into_iter().map(|(_, node, s)| (node.table.name.clone(), s)).collect(),
                checkpoints,
                shared: shared.clone(),
            }),
            keeping: None,
            over: Arc::default(),
            clock,
        };
        pipeline.start_feeds(graph, bindings.sinks, &shared)?;
        pipeline.start_workers(made, &shared)?;
        let (keeper, over) = (pipeline.keeper.clone(), pipeline.over.clone());
        pipeline.keeping = Some(pipeline.spawn("keeper", move || keeper.run(&over))?);
        Ok(pipeline)
    }

    fn start_feeds(&mut self, graph: &Graph, mut sinks: BTreeMap<NodeId, Box<dyn Sink>>, shared: &Arc<Shared>) -> Result<()> {
        for (index, (id, plan)) in graph.sinks().enumerate() {
            let sink = sinks.remove(&id).ok_or_else(|| Error::invalid(format!("sink {} is not connected", plan.table.name)))?;
            let shared = feed::Shared {
                queue: shared.queues[index].clone(),
                positions: shared.positions.clone(),
                stats: shared.stats.clone(),
                clock: shared.clock.clone(),
                stop_deadline: shared.settings.stop_deadline,
            };
            let feed = Feed::new(index, id, plan, sink, shared)?;
            let thread = self.spawn(&format!("sink-{}", plan.table.name), move || feed.run())?;
            self.feeds.push(thread);
        }
        Ok(())
    }

    fn start_workers(&mut self, tasks: Vec<Task>, shared: &Arc<Shared>) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = shared.settings.workers.unwrap_or(cores).clamp(1, tasks.len().max(1));
        let mut shares: Vec<Vec<Task>> = (0..count).map(|_| Vec::new()).collect();
        for (i, task) in tasks.into_iter().enumerate() {
            shares[i % count].push(task);
        }
        for (i, share) in shares.into_iter().enumerate() {
            let worker = Worker::new(share, shared.clone(), self.stop.clone());
            let thread = self.spawn(&format!("worker-{i}"), move || worker.run())?;
            self.workers.push(thread);
        }
        Ok(())
    }

    /// A thread whose first error stops the pipeline.
    fn spawn(&self, name: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Result<JoinHandle<()>> {
        let (stop, failure, name) = (self.stop.clone(), self.failure.clone(), name.to_owned());
        let queues = self.queues.clone();
        let thread_name = name.clone();
        let body = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            let error = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(e)) => e,
                Err(_) => {
                    Error::permanent(format!("{name} panicked; this is a fault of riverrun, please report the message above"))
                }
            };
            failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            stop.store(true, Relaxed);
            queues.iter().for_each(|q| q.close());
        };
        std::thread::Builder::new()
            .name(thread_name)
            .spawn(body)
            .map_err(|e| Error::permanent(format!("no thread could be started: {e}")))
    }

    /// The counts.
    pub fn stats(&self) -> Arc<PipelineStats> {
        self.stats.clone()
    }

    /// What stops it.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone())
    }

    /// Waits until it ends: a bounded input is done, it was asked to stop, or it failed.
    ///
    /// # Errors
    /// The first error that stopped it.
    pub fn wait(mut self) -> Result<()> {
        while self.workers.iter().any(|w| !w.is_finished()) {
            self.clock.sleep(LOOK_INTERVAL);
        }
        self.workers.drain(..).for_each(|w| drop(w.join()));
        self.queues.iter().for_each(|q| q.close());
        while self.feeds.iter().any(|f| !f.is_finished()) {
            self.clock.sleep(Duration::from_millis(5));
        }
        self.feeds.drain(..).for_each(|f| drop(f.join()));
        self.over.store(true, Relaxed);
        self.keeping.take().into_iter().for_each(|k| drop(k.join()));
        let kept = self.keeper.keep();
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => kept,
        }
    }
}

/// The places that each task reads.
fn cut_into_tasks(graph: &Graph, sources: &[(NodeId, &SourceNode, Arc<dyn Source>)]) -> Result<Vec<Vec<Place>>> {
    let mut tasks: Vec<Vec<Place>> = Vec::new();
    for (index, (_, node, source)) in sources.iter().enumerate() {
        let partitions = source.partitions().map_err(|e| e.within(format!("source {}", node.table.name)))?;
        for partition in 0..partitions {
            let number = source.part(partition).map_or(partition, |part| part.partition) as usize;
            let task = if graph.parallelism == Parallelism::Partitioned { number } else { 0 };
            if tasks.len() <= task {
                tasks.resize_with(task + 1, Vec::new);
            }
            tasks[task].push((index, partition));
        }
    }
    Ok(tasks)
}

/// What the partition numbers of sources with several topics stand for, topic by topic.
fn parts_of(sources: &[(NodeId, &SourceNode, Arc<dyn Source>)]) -> Result<Vec<String>> {
    let mut counts: BTreeMap<(&str, String), u32> = BTreeMap::new();
    for (_, node, source) in sources {
        for part in (0..source.partitions()?).filter_map(|partition| source.part(partition)) {
            *counts.entry((&node.table.name, part.topic)).or_default() += 1;
        }
    }
    Ok(counts.into_iter().map(|((table, topic), count)| format!("{table}: {topic} ({count} partitions)")).collect())
}

/// Opens one partition where it must go on: where the checkpoint was, else at the kept position, else at the table's start.
fn open_input(
    sources: &[(NodeId, &SourceNode, Arc<dyn Source>)],
    place: Place,
    checkpoint: Option<&Checkpoint>,
    newest: &[Arc<AtomicI64>],
    shared: &Shared,
) -> Result<Input> {
    let (id, node, source) = &sources[place.0];
    let bounded = shared.settings.bounded;
    let same = |p: &&Position| p.source == node.table.name && p.partition == place.1;
    let resumed = checkpoint.and_then(|c| c.positions.iter().find(same));
    let open = || {
        let kept = match resumed {
            Some(position) => Some(position.offset),
            None if bounded => None,
            None => source.committed(place.1)?.inspect(|offset| tell_lost_state(shared, node, place.1, *offset)),
        };
        let offset = match kept {
            Some(offset) => offset,
            // The state is that of all records before: a partition that came since then has all its records before it.
            None if checkpoint.is_some() => source.resolve(place.1, Start::Earliest)?,
            None => match source.start(place.1) {
                Start::Latest if bounded => source.resolve(place.1, Start::Earliest)?,
                start => source.resolve(place.1, start)?,
            },
        };
        let stop = if bounded { source.end_offset(place.1)? } else { None };
        Ok((offset, source.open(place.1, offset, stop)?))
    };
    let (offset, reader) = open().map_err(|e: Error| e.within(format!("source {}", node.table.name)))?;
    let per_trigger = node.table.options.parse::<usize>("max_offsets_per_trigger", "a number of records")?;
    let partitions = source.partitions()?.max(1) as usize;
    let idle = node.table.options.duration("idle_timeout")?.unwrap_or(shared.settings.idle_timeout);
    let mut watermark = node.table.watermark.as_ref().map(|w| Watermark::new(w.column, w.delay));
    if let (Some(watermark), Some(position)) = (&mut watermark, resumed) {
        watermark.resume((position.newest, position.floor));
    }
    Ok(Input {
        node: *id,
        place,
        name: node.table.name.clone(),
        part: source.part(place.1),
        reader,
        offset,
        watermark,
        on_bad: source.bad_records(),
        newest: newest[place.0].clone(),
        round_rows: per_trigger.map_or(usize::MAX, |n| n.div_ceil(partitions).max(1)),
        idle: idle.as_micros() as i64,
        last_data: shared.clock.now(),
        ended: false,
        backoff: Default::default(),
    })
}

/// A position without a checkpoint: reading goes on, but the state up to there is not known.
fn tell_lost_state(shared: &Shared, node: &SourceNode, partition: u32, offset: i64) {
    if shared.settings.checkpoint_dir.is_some() {
        let name = &node.table.name;
        tracing::warn!(
            "source {name}, partition {partition}: goes on at offset {offset} with empty state: its checkpoint is missing"
        );
    }
}
