//! The loop behind `riverrun generate`: records at a rate into a [`RecordSink`], until a count or a stop flag; every record
//! accounted for.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use riverrun_engine::time::{Clock, Micros};
use riverrun_engine::{Error, Result};

use super::labels::Labels;
use super::model::Generator;
use super::record::{Malformed, Record};

/// Records between two looks at the clock, the stop flag and the delivery reports.
const CHUNK: u64 = 512;
/// The longest wait between two looks.
const LONGEST_WAIT: Micros = 20_000;
/// Time between two reports of progress.
const PROGRESS: Micros = 200_000;

/// Where records go: a log, Kafka, a file.
pub trait RecordSink {
    /// Takes a record, waiting while there is no room for it. A record that is lost later is counted in
    /// [`Deliveries::failed`]; an error means that no further record can be sent.
    fn send(&mut self, record: &Record) -> Result<()>;

    /// Takes in the delivery reports that have come.
    fn poll(&mut self) -> Result<()> {
        Ok(())
    }

    /// Waits until every record has its report, however late it comes.
    fn flush(&mut self) -> Result<()>;

    /// What became of the records so far.
    fn deliveries(&self) -> Deliveries;
}

/// What became of the records that were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Acknowledged records by partition.
    pub partitions: BTreeMap<u32, PartitionDeliveries>,
    /// Records that were lost, by the error.
    pub failed: BTreeMap<String, u64>,
}

/// The acknowledged records of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionDeliveries {
    /// How many.
    pub records: u64,
    /// Offset of the first.
    pub first_offset: i64,
    /// Offset of the last.
    pub last_offset: i64,
}

impl Deliveries {
    /// Counts an acknowledged record.
    pub fn acknowledge(&mut self, partition: u32, offset: i64) {
        let new = PartitionDeliveries { records: 0, first_offset: offset, last_offset: offset };
        let entry = self.partitions.entry(partition).or_insert(new);
        entry.records += 1;
        entry.first_offset = entry.first_offset.min(offset);
        entry.last_offset = entry.last_offset.max(offset);
    }

    /// Counts a lost record.
    pub fn fail(&mut self, error: &str) {
        match self.failed.get_mut(error) {
            Some(count) => *count += 1,
            None => drop(self.failed.insert(error.to_owned(), 1)),
        }
    }

    /// Acknowledged records.
    pub fn acknowledged(&self) -> u64 {
        self.partitions.values().map(|p| p.records).sum()
    }

    /// Lost records.
    pub fn lost(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// How much to send, and how fast.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProduceSettings {
    /// Records per second of wall time; `None`: as fast as the sink takes them.
    pub rate: Option<f64>,
    /// Records in all; `None`: until stopped.
    pub count: Option<u64>,
    /// Wall time in all; `None`: until stopped.
    pub duration: Option<Duration>,
    /// Event time follows the clock. Otherwise it is simulated from the generator's start.
    pub live: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Records handed to the sink.
    pub sent: u64,
    /// Records per second since the beginning.
    pub rate: f64,
    /// Wall time since the beginning.
    pub elapsed: Duration,
}

/// What was sent, and what became of it. `sent` = acknowledged + lost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Records handed to the sink.
    pub sent: u64,
    /// Those that cannot be decoded, by the way of their fault.
    pub malformed: BTreeMap<Malformed, u64>,
    /// What became of the records.
    pub deliveries: Deliveries,
    /// Wall time from the first record to the last delivery report.
    pub elapsed: Duration,
}

/// Sends records until `count`, `duration` or `stop`, whichever comes first, then waits for their delivery reports.
///
/// Records carry the wall time at which they were sent. `progress` is called a few times a second and at the end.
pub fn produce<W: Write>(
    (generator, sink): (&mut Generator, &mut dyn RecordSink),
    settings: &ProduceSettings,
    mut labels: Option<&mut Labels<W>>,
    clock: &dyn Clock,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Summary> {
    let begun = clock.now();
    let mut summary = Summary::default();
    let mut record = Record::default();
    let mut next_report = begun + PROGRESS;
    while !stop.load(Ordering::Relaxed) {
        let now = clock.now();
        if now >= next_report {
            progress(&progress_of(summary.sent, now - begun));
            next_report = now + PROGRESS;
        }
        let Some(due) = due(settings, summary.sent, now - begun) else { break };
        if due == 0 {
            sink.poll()?;
            clock.sleep(until_next(settings, summary.sent, now - begun));
            continue;
        }
        if settings.live {
            generator.advance_to(now);
        }
        for _ in 0..due.min(CHUNK) {
            generator.next(&mut record);
            record.timestamp = now;
            sink.send(&record)?;
            summary.sent += 1;
            if let Some(kind) = record.malformed {
                *summary.malformed.entry(kind).or_default() += 1;
            }
            if let Some(labels) = labels.as_deref_mut() {
                labels.write(&record).map_err(|e| Error::permanent(format!("labels cannot be written: {e}")))?;
            }
        }
        sink.poll()?;
    }
    sink.flush()?;
    let elapsed = clock.now() - begun;
    progress(&progress_of(summary.sent, elapsed));
    Ok(Summary { deliveries: sink.deliveries(), elapsed: duration(elapsed), ..summary })
}

/// How many records should have been sent by now but were not; `None`: it is over.
fn due(settings: &ProduceSettings, sent: u64, elapsed: Micros) -> Option<u64> {
    let left = settings.count.map_or(u64::MAX, |count| count.saturating_sub(sent));
    if left == 0 || settings.duration.is_some_and(|d| duration(elapsed) >= d) {
        return None;
    }
    let due = settings.rate.map_or(CHUNK, |rate| ((rate * elapsed as f64 / 1e6) as u64 + 1).saturating_sub(sent));
    Some(due.min(left))
}

fn until_next(settings: &ProduceSettings, sent: u64, elapsed: Micros) -> Duration {
    let next = settings.rate.map_or(0.0, |rate| sent as f64 / rate * 1e6);
    duration((next as Micros - elapsed).clamp(100, LONGEST_WAIT))
}

fn progress_of(sent: u64, elapsed: Micros) -> Progress {
    let rate = if elapsed > 0 { sent as f64 / (elapsed as f64 / 1e6) } else { 0.0 };
    Progress { sent, rate, elapsed: duration(elapsed) }
}

fn duration(micros: Micros) -> Duration {
    Duration::from_micros(micros.max(0).unsigned_abs())
}

/// Writes payloads as JSON lines. A record is acknowledged when its bytes are with the operating system.
pub struct LineSink<W: Write> {
    out: W,
    lines: i64,
    acknowledged: i64,
}

impl<W: Write> LineSink<W> {
    /// Lines into `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { out, lines: 0, acknowledged: 0 }
    }
}

impl<W: Write> RecordSink for LineSink<W> {
    fn send(&mut self, record: &Record) -> Result<()> {
        let written = self.out.write_all(&record.payload).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(|e| Error::permanent(format!("line {} cannot be written: {e}", self.lines + 1)))?;
        self.lines += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(|e| Error::permanent(format!("lines cannot be written: {e}")))?;
        self.acknowledged = self.lines;
        Ok(())
    }

    fn deliveries(&self) -> Deliveries {
        let mut deliveries = Deliveries::default();
        if let Ok(records @ 1..) = u64::try_from(self.acknowledged) {
            let last_offset = self.acknowledged - 1;
            deliveries.partitions.insert(0, PartitionDeliveries { records, first_offset: 0, last_offset });
        }
        deliveries
    }
}

#[cfg(test)]
mod tests {
    use riverrun_engine::time::ManualClock;

    use super::super::Settings;
    use super::*;

    fn run(settings: ProduceSettings, clock: &ManualClock, stop: &AtomicBool) -> (Summary, Vec<u8>, Vec<Progress>) {
        let mut generator = Generator::new(Settings { malformed: 0.1, ..Settings::default() }).unwrap();
        let (mut text, mut reports) = (Vec::new(), Vec::new());
        let mut sink = LineSink::new(&mut text);
        let mut report = |p: &Progress| reports.push(*p);
        let labels: Option<&mut Labels<Vec<u8>>> = None;
        let summary = produce((&mut generator, &mut sink), &settings, labels, clock, stop, &mut report).unwrap();
        (summary, text, reports)
    }

    #[test]
    fn every_record_is_sent_and_accounted_for() {
        let settings = ProduceSettings { count: Some(3_000), ..ProduceSettings::default() };
        let (summary, text, reports) = run(settings, &ManualClock::at(0), &AtomicBool::new(false));
        assert_eq!((summary.sent, summary.deliveries.acknowledged(), summary.deliveries.lost()), (3_000, 3_000, 0));
        assert_eq!(text.iter().filter(|b| **b == b'\n').count(), 3_000);
        assert_eq!(reports.last().map(|p| p.sent), Some(3_000));
        let good = text.split(|b| *b == b'\n').filter(|l| serde_json::from_slice::<serde_json::Value>(l).is_ok());
        let malformed: u64 = summary.malformed.values().sum();
        // Wrong types and missing fields are JSON all the same.
        let json = summary.malformed[&Malformed::WrongType] + summary.malformed[&Malformed::MissingField];
        assert_eq!(good.count() as u64, 3_000 - malformed + json);
    }

    #[test]
    fn records_go_at_the_rate_that_was_asked_for() {
        let settings = ProduceSettings { rate: Some(1_000.0), count: Some(5_001), ..ProduceSettings::default() };
        let (summary, _, reports) = run(settings, &ManualClock::at(7), &AtomicBool::new(false));
        let seconds = summary.elapsed.as_secs_f64();
        assert!((seconds - 5.0).abs() < 0.05, "{seconds}");
        assert!(reports.len() > 10 && reports.windows(2).all(|w| w[0].sent <= w[1].sent));
    }

    #[test]
    fn a_duration_and_a_stop_flag_end_it() {
        let settings =
            ProduceSettings { rate: Some(100.0), duration: Some(Duration::from_secs(2)), ..ProduceSettings::default() };
        let (summary, ..) = run(settings, &ManualClock::at(0), &AtomicBool::new(false));
        assert!((199..=202).contains(&summary.sent), "{}", summary.sent);
        let (summary, ..) = run(ProduceSettings::default(), &ManualClock::at(0), &AtomicBool::new(true));
        assert_eq!(summary, Summary::default());
    }

    #[test]
    fn a_live_stream_has_the_time_of_the_clock() {
        let now = 1_800_000_000_000_000;
        let settings = ProduceSettings { rate: Some(500.0), count: Some(2_000), live: true, ..ProduceSettings::default() };
        let (_, text, _) = run(settings, &ManualClock::at(now), &AtomicBool::new(false));
        let rows = text.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<serde_json::Value>(l).ok());
        let times = rows.filter_map(|r| chrono::DateTime::parse_from_rfc3339(r["timestamp"].as_str()?).ok());
        let times: Vec<_> = times.map(|t| t.timestamp_micros()).collect();
        assert!(times.len() > 1_500);
        assert!(times.iter().all(|t| (now..now + 5_000_000).contains(t)));
    }
}
