//! The log as a source: its partitions are those of the topic, its positions are kept by group.

use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use riverrun_engine::table::Table;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::block::Record;
use super::config::Config;
use super::reader::Reader;
use super::store::Log;
use super::topic::Topic;
use crate::connector::{group, on_bad_record};
use crate::format::{Decoder, Decoding, Header, RawRecord};

/// A topic that is read.
pub(super) struct LogSource {
    log: Arc<Log>,
    topic: Arc<Topic>,
    table: Table,
    decoding: Decoding,
    config: Config,
    group: String,
    bad_records: OnBadRecord,
}

impl LogSource {
    /// Opens the log; makes the topic if it is missing, since its producer may come later.
    pub fn new(node: &SourceNode, context: &Context) -> Result<Self> {
        let config = Config::of(&node.table)?;
        let log = Log::open(&config.directory(&context.data_dir))?;
        let topic = log.create_topic(&config.topic, config.partitions, config.retention)?;
        let group = group(&node.table.options, &context.pipeline);
        let bad_records = on_bad_record(&node.table.options)?;
        let decoding = Decoding::of(&node.table, context)?;
        Ok(Self { log, topic, table: node.table.clone(), decoding, config, group, bad_records })
    }
}

impl Source for LogSource {
    fn partitions(&self) -> Result<u32> {
        Ok(self.topic.partitions())
    }

    fn start(&self, partition: u32) -> Start {
        self.config.start.of(partition)
    }

    fn resolve(&self, partition: u32, start: Start) -> Result<i64> {
        self.topic.check_partition(partition)?;
        match start {
            Start::Earliest => Ok(self.topic.start(partition)),
            Start::Latest => Ok(self.topic.end(partition)),
            Start::Offset(offset) => Ok(offset),
            Start::Time(time) => self.log.offset_at(&self.topic, partition, time),
        }
    }

    fn end_offset(&self, partition: u32) -> Result<Option<i64>> {
        self.topic.check_partition(partition)?;
        Ok(Some(self.topic.end(partition)))
    }

    fn open(&self, partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let (log, topic) = (Arc::clone(&self.log), Arc::clone(&self.topic));
        let reader = Reader::open(log, topic, partition, offset, self.config.fail_on_data_loss)?;
        let decoder = self.decoding.decoder(&self.table, &self.config.topic, partition)?;
        Ok(Box::new(LogReader { next: reader.position(), reader, decoder, stop, waits: false }))
    }

    fn committed(&self, partition: u32) -> Result<Option<i64>> {
        self.log.committed(&self.group, &self.topic, partition)
    }

    fn commit(&self, positions: &[(u32, i64)]) -> Result<()> {
        self.log.commit(&self.group, &self.topic, positions)
    }

    fn bad_records(&self) -> OnBadRecord {
        self.bad_records
    }
}

/// Reads and decodes one partition.
struct LogReader {
    reader: Reader,
    decoder: Decoder,
    /// The position as it was told. The reader may be ahead of it where records were lost.
    next: i64,
    stop: Option<i64>,
    /// Whether the next record's schema is not known yet.
    waits: bool,
}

impl PartitionReader for LogReader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        let stop = self.stop.unwrap_or(i64::MAX);
        if (limit.until..stop).contains(&self.next) {
            return Ok(Poll::Pending);
        }
        let end = limit.until.min(stop);
        let with_headers = self.decoder.wants_headers();
        // Where it stopped, and whether by an error: a record's schema is on its way, or nobody can be asked for it.
        let mut stopped: Option<(i64, Option<Error>)> = None;
        let mut read = self.reader.read(limit.rows, limit.bytes, end, |record| {
            if stopped.is_none() {
                match self.decoder.ready(record.value).and_then(|ready| match ready {
                    true => decode(&mut self.decoder, &record, with_headers).map(|()| true),
                    false => Ok(false),
                }) {
                    Ok(true) => {}
                    Ok(false) => stopped = Some((record.offset, None)),
                    Err(error) => stopped = Some((record.offset, Some(error))),
                }
            }
        })?;
        self.waits = stopped.is_some();
        if let Some((offset, error)) = stopped {
            match error {
                Some(error) if !error.is_transient() || self.decoder.is_empty() => {
                    self.reader.seek(offset);
                    return Err(error);
                }
                // What came before goes out first.
                _ => self.reader.seek(offset),
            }
            read.records = self.decoder.len();
        }
        let next = self.reader.position().min(end);
        // A range whose last records were lost ends without them.
        let passed = limit.until < i64::MAX && next > self.next;
        if read.records == 0 && !passed {
            return Ok(if self.reader.position() >= stop { Poll::End } else { Poll::Pending });
        }
        self.next = next;
        self.decoder.finish(next)?.into_fetch(clock).map(Poll::Ready)
    }

    fn holds(&self) -> bool {
        self.waits
    }

    fn lag(&self) -> Option<u64> {
        Some(self.reader.lag())
    }
}

fn decode(decoder: &mut Decoder, record: &Record<'_>, with_headers: bool) -> Result<()> {
    let headers: Vec<Header<'_>> = if with_headers { record.headers.iter().collect() } else { Vec::new() };
    let Record { offset, timestamp, key, value, .. } = *record;
    decoder.push(&RawRecord { offset, timestamp: Some(timestamp), key, payload: value, headers: &headers })
}
