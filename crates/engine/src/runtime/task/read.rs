//! Reading: what the inputs of a task have goes into its dataflow, chunk by chunk, and watermarks move.

use std::sync::atomic::Ordering::Relaxed;

use super::{CHUNK_BYTES, Task};
use crate::batch::{Batch, Change, Port};
use crate::dead_letter;
use crate::graph::NodeId;
use crate::journal::Stop;
use crate::runtime::events::{BadRecords, Event, Idle, LateRows, SourceFailed, SourceWorks};
use crate::runtime::input::Input;
use crate::runtime::stats::Phase;
use crate::runtime::watermark::Watermark;
use crate::source::{Fetch, Limit, OnBadRecord, Poll};
use crate::time::{MAX_TIME, MIN_TIME, Micros, Stopwatch};
use crate::{Error, Result};

impl Task {
    /// Reads chunk by chunk until there is nothing more, or the epoch's bound; returns records read.
    pub(super) fn read(&mut self, clock: Micros) -> Result<usize> {
        let (began, bound) = (self.shared.clock.now(), self.shared.settings.epoch_interval.as_micros() as Micros);
        let mut left: Vec<usize> = self.inputs.iter().map(|i| i.round_rows.min(self.shared.settings.epoch_rows)).collect();
        let mut total = 0;
        loop {
            let mut read = 0;
            let mut chunk = Vec::new();
            for (i, left) in left.iter_mut().enumerate() {
                let rows = (*left).min(self.shared.settings.chunk_rows);
                let got = if rows > 0 { self.poll(i, Limit::new(rows, CHUNK_BYTES), clock)? } else { 0 };
                *left = left.saturating_sub(got);
                read += got;
                if got > 0 {
                    let Input { place: (source, partition), offset, .. } = self.inputs[i];
                    chunk.push(Stop { source, partition, offset });
                }
            }
            if read == 0 {
                return Ok(total);
            }
            total += read;
            self.decided.chunks.push(chunk);
            self.move_watermarks(MIN_TIME, false);
            self.pass(false)?;
            if total >= self.shared.settings.epoch_rows || self.shared.clock.now() - began >= bound {
                return Ok(total);
            }
        }
    }

    /// Runs what the inputs gave through the operators; `end`: the epoch ends.
    pub(super) fn pass(&mut self, end: bool) -> Result<()> {
        let stopwatch = Stopwatch::start();
        let passed = self.dataflow.pass(end);
        self.times.add(Phase::Operators, stopwatch.nanos());
        passed
    }

    /// Polls one input and gives what it has to the dataflow; returns records read.
    pub(super) fn poll(&mut self, i: usize, limit: Limit, clock: Micros) -> Result<usize> {
        let input = &mut self.inputs[i];
        let now = self.shared.clock.now();
        if input.ended || !input.backoff.ready(now) {
            return Ok(0);
        }
        let stopwatch = Stopwatch::start();
        let poll = input.reader.poll(limit, clock);
        let nanos = stopwatch.nanos();
        self.times.add(Phase::Read, nanos);
        let stats = input.stats(&self.shared.stats);
        match poll {
            Ok(Poll::Pending) => {
                stats.polled.store(true, Relaxed);
                Ok(0)
            }
            Ok(Poll::End) => {
                input.ended = true;
                self.decided.ended.push((self.decided.chunks.len(), input.place.0, input.place.1));
                stats.polled.store(true, Relaxed);
                stats.ended.store(true, Relaxed);
                Ok(0)
            }
            Ok(Poll::Ready(fetch)) => {
                self.shared.stats.nodes[input.node].add_work(nanos, 0);
                SourceWorks { source: &input.name, stats, again: input.backoff.worked() }.emit();
                let stopwatch = Stopwatch::start();
                let taken = self.take(i, fetch, clock);
                self.times.add(Phase::Read, stopwatch.nanos());
                taken
            }
            Err(e) if e.is_transient() => {
                let first = input.backoff.failed(now);
                SourceFailed { source: &input.name, stats, error: &e, now, first }.emit();
                Ok(0)
            }
            Err(e) => Err(e.within(format!("source {}", input.name))),
        }
    }

    /// Takes what a poll gave: counts it, parts late rows from the others, and gives all to the dataflow.
    fn take(&mut self, i: usize, fetch: Fetch, clock: Micros) -> Result<usize> {
        let input = &mut self.inputs[i];
        let stats = &self.shared.stats.nodes[input.node];
        let records = fetch.rows.num_rows() + fetch.bad.len();
        stats.rows_in.fetch_add(records as u64, Relaxed);
        stats.bytes.fetch_add(fetch.bytes as u64, Relaxed);
        stats.batches.fetch_add(1, Relaxed);
        let partition = input.stats(&self.shared.stats);
        partition.read(records as u64, fetch.bytes as u64, fetch.next_offset, clock);
        input.offset = fetch.next_offset;
        input.last_data = clock;
        self.record_time = self.record_time.max(fetch.newest_record_time);
        if !fetch.bad.is_empty() {
            let (first, (source, partition)) = (stats.bad().is_empty(), input.origin());
            let origin = (source.as_str(), partition);
            BadRecords { node: stats, origin, clock, records: &fetch.bad, fate: input.on_bad, first }.emit();
        }
        if let (OnBadRecord::Fail, Some(bad)) = (input.on_bad, fetch.bad.first()) {
            let (source, partition) = input.origin();
            let place = format!("source {source}: record at partition {partition}, offset {}", bad.offset);
            return Err(Error::permanent(format!("{place}: {}: {}", bad.reason, bad.detail))
                .hint("bad_records = 'drop' or 'dead_letter' (with dead_letter_topic or dead_letter_path) lets the rest go on"));
        }
        let letters = match input.on_bad {
            OnBadRecord::DeadLetter if !fetch.bad.is_empty() => {
                let (source, partition) = input.origin();
                Some(dead_letter::rows(&source, partition, clock, &fetch.bad)?)
            }
            _ => None,
        };
        let (rows, late) = match &mut input.watermark {
            Some(watermark) => watermark.observe(fetch.rows)?,
            None => (fetch.rows, None),
        };
        if let Some(spread) = input.watermark.as_mut().and_then(Watermark::take_spread) {
            partition.event_times.add(spread);
        }
        let node = input.node;
        self.dataflow.push(node, Port::Rows, Batch::insert(rows));
        if let Some(late) = late {
            let first = partition.late.load(Relaxed) == 0;
            LateRows { node: stats, stats: partition, rows: late.num_rows() as u64, first }.emit();
            stats.late_rows.push(Change::Late, clock, &late);
            self.dataflow.push(node, Port::Late, Batch::insert(late.clone()));
            self.dataflow.push(node, Port::Rows, Batch { rows: late, change: Change::Late });
        }
        if let Some(letters) = letters {
            self.dataflow.push(node, Port::DeadLetters, Batch::insert(letters));
        }
        Ok(records)
    }

    /// Tells the dataflow each source's watermark, the minimum over its partitions; `now` lifts idle ones. Whether one moved.
    pub(super) fn move_watermarks(&mut self, now: Micros, ended: bool) -> bool {
        let mut sources: Vec<(NodeId, Micros)> = Vec::new();
        let mut lifted = false;
        for input in &mut self.inputs {
            let watermark = match &mut input.watermark {
                _ if ended || input.ended => MAX_TIME,
                None => {
                    let (least, greatest) = self.dataflow.gathered(input.node);
                    // Idle partitions here may lag behind those that other instances read.
                    for newest in &input.behind {
                        newest.fetch_max(greatest, Relaxed);
                    }
                    least
                }
                Some(watermark) => {
                    let idle = now.saturating_sub(input.last_data) > input.idle && !input.reader.holds();
                    let before = watermark.current();
                    if idle {
                        watermark.lift(input.newest.load(Relaxed));
                    }
                    let current = watermark.current();
                    if current > before {
                        self.decided.lifts.push((input.place.0, input.place.1, current));
                        lifted = true;
                    }
                    let stats = &self.shared.stats.partitions[input.index];
                    if now != MIN_TIME && idle != stats.idle.load(Relaxed) {
                        Idle { source: &input.name, stats, watermark: current, idle }.emit();
                    } else {
                        stats.set_watermark(current);
                    }
                    input.newest.fetch_max(current, Relaxed);
                    current
                }
            };
            match sources.iter_mut().find(|(node, _)| *node == input.node) {
                Some((_, least)) => *least = watermark.min(*least),
                None => sources.push((input.node, watermark)),
            }
        }
        let least = sources.iter().map(|(_, w)| *w).min().unwrap_or(MIN_TIME);
        for (node, watermark) in sources {
            self.dataflow.set_watermark(node, watermark);
        }
        let told = &self.shared.stats.tasks[self.number as usize].watermark;
        if least == MAX_TIME {
            return true;
        }
        told.fetch_max(least, Relaxed) < least || lifted
    }

    /// Tells how far the inputs are behind.
    pub(super) fn tell_lag(&self) {
        let mut lag = 0;
        for input in &self.inputs {
            let behind = input.reader.lag();
            input.stats(&self.shared.stats).at(input.offset, behind);
            lag += behind.unwrap_or(0);
        }
        self.shared.stats.tasks[self.number as usize].lag.store(lag, Relaxed);
    }
}
