//! One partition of one source, as a task reads it.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::backoff::Backoff;
use super::positions::Place;
use super::stats::{PartitionStats, PipelineStats};
use super::watermark::Watermark;
use crate::checkpoint::Position;
use crate::graph::NodeId;
use crate::source::{OnBadRecord, Part, PartitionReader};
use crate::time::{MIN_TIME, Micros};

/// One partition of one source, as a task reads it.
pub struct Input {
    /// The source's node.
    pub node: NodeId,
    /// Its place in the counts of partitions.
    pub index: usize,
    /// Which partition of which source.
    pub place: Place,
    /// The table's name.
    pub name: String,
    /// What the partition number stands for, where the source has several topics.
    pub part: Option<Part>,
    /// The reader.
    pub reader: Box<dyn PartitionReader>,
    /// Where the next epoch begins.
    pub offset: i64,
    /// Event time, if the table has it.
    pub watermark: Option<Watermark>,
    /// What a bad record does.
    pub on_bad: OnBadRecord,
    /// The greatest watermark of any partition of this source, over all tasks.
    pub newest: Arc<AtomicI64>,
    /// Of a repartition topic: the same of the sources that its rows come from.
    pub behind: Vec<Arc<AtomicI64>>,
    /// Most rows of this partition per epoch (the source's `max_offsets_per_trigger`).
    pub round_rows: usize,
    /// After so long without anything it no longer holds back the watermark of the others.
    pub idle: Micros,
    /// When it last gave something.
    pub last_data: Micros,
    /// All was read.
    pub ended: bool,
    /// The trouble that it is in.
    pub backoff: Backoff,
}

impl Input {
    /// Its counts.
    pub fn stats<'a>(&self, stats: &'a PipelineStats) -> &'a PartitionStats {
        &stats.partitions[self.index]
    }

    /// For people: the source, with the topic where it has several, and the partition there.
    pub fn origin(&self) -> (String, u32) {
        match &self.part {
            Some(part) => (format!("{}/{}", self.name, part.topic), part.partition),
            None => (self.name.clone(), self.place.1),
        }
    }

    /// Where it is.
    pub fn position(&self) -> Position {
        let (newest, floor) = self.watermark.as_ref().map_or((None, MIN_TIME), Watermark::position);
        Position { source: self.name.clone(), partition: self.place.1, offset: self.offset, newest, floor }
    }
}
