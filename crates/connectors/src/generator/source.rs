//! `connector = 'generator'`: a table of made-up transactions. They take the road of all records, as JSON through the
//! decoder, so that what holds for a generated table holds for a topic.
//!
//! Invariant: the record at an offset of a partition is always the same, so a position can be taken up again.

use std::sync::Arc;

use riverrun_engine::connect::Context;
use riverrun_engine::graph::SourceNode;
use riverrun_engine::source::{Limit, OnBadRecord, PartitionReader, Poll, Source, Start};
use riverrun_engine::table::{Capabilities, Options, Table};
use riverrun_engine::time::{Clock, Micros};
use riverrun_engine::{Error, Result};

use super::model::{Generator, users_by_partition};
use super::record::Record;
use super::settings::{FraudRates, Settings};
use crate::connector::{Connector, Description, on_bad_record, option};
use crate::format::{self, Decoder, RawRecord};

/// What people and the registry read about the generator.
pub static DESCRIPTION: Description = Description {
    name: "generator",
    feature: None,
    docs: "Made-up transactions with users, habits and fraud. The same options give the same rows.",
    options: &[
        option("rate", "", "records per second of wall time; without it as fast as they are read"),
        option("count", "", "how many records there are; without it the table has no end"),
        option("seed", "1", "another seed gives other rows"),
        option("users", "10000", "how many users there are"),
        option("partitions", "1", "how many partitions there are"),
        option("events_per_second", "500", "records per second of event time; the rate, where that is given"),
        option("start", "2026-01-01T00:00:00Z", "event time of the first record; 'now' = when the table is opened"),
        option("out_of_order", "0.02", "share of the transactions that come behind younger ones"),
        option("max_lateness", "5 minutes", "the most that such a transaction comes too late"),
        option("malformed", "0", "share of the records that cannot be decoded"),
        option("fraud", "0.01", "share of the transactions that are fraud, all kinds alike"),
        option("uniform", "false", "every field at random from its range, without users' habits and fraud"),
    ],
    pass_through: None,
};

/// The generator as a connector.
pub fn connector() -> Option<Box<dyn Connector>> {
    Some(Box::new(GeneratorConnector))
}

struct GeneratorConnector;

impl Connector for GeneratorConnector {
    fn check(&self, table: &Table) -> Result<Capabilities> {
        Config::of(&table.options, 0)?;
        format::check_source(table)?;
        Ok(Capabilities { source: true, ..Capabilities::default() })
    }

    fn source(&self, node: &SourceNode, context: &Context) -> Result<Arc<dyn Source>> {
        let config = Config::of(&node.table.options, context.clock.now())?;
        let users = users_by_partition(&config.settings, config.partitions);
        let share = |before: &mut f64, users: &u32| {
            let share = *before / f64::from(config.settings.users);
            *before += f64::from(*users);
            Some(share)
        };
        let share_before = users.iter().chain(&[0]).scan(0.0, share).collect();
        Ok(Arc::new(GeneratorSource { config, share_before, table: node.table.clone(), clock: Arc::clone(&context.clock) }))
    }
}

#[derive(Debug, Clone)]
struct Config {
    settings: Settings,
    partitions: u32,
    rate: Option<f64>,
    count: Option<u64>,
    bad_records: OnBadRecord,
}

impl Config {
    fn of(options: &Options, now: Micros) -> Result<Self> {
        let default = Settings::default();
        let rate = options.parse::<f64>("rate", "a number of records per second")?.filter(|r| *r != 0.0);
        if rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err(options.error("rate", "must be more than 0, or left out: as fast as they are read"));
        }
        let uniform = options.parse("uniform", "true or false")?.unwrap_or(false);
        let fraud = options.parse("fraud", "a share between 0 and 1")?;
        let start = match options.get("start") {
            None => default.start,
            Some(text) if text == "now" => now,
            Some(text) => match chrono::DateTime::parse_from_rfc3339(&text) {
                Ok(time) => time.timestamp_micros(),
                Err(e) => return Err(options.error("start", &format!("'{text}' is neither 'now' nor a time ({e})"))),
            },
        };
        let settings = Settings {
            seed: options.parse("seed", "a number")?.unwrap_or(default.seed),
            users: options.parse("users", "a number of users")?.unwrap_or(default.users),
            events_per_second: options.parse("events_per_second", "a number")?.or(rate).unwrap_or(default.events_per_second),
            start,
            out_of_order: options.parse("out_of_order", "a share between 0 and 1")?.unwrap_or(default.out_of_order),
            max_lateness: options.duration("max_lateness")?.unwrap_or(default.max_lateness),
            malformed: options.parse("malformed", "a share between 0 and 1")?.unwrap_or(default.malformed),
            fraud: FraudRates::evenly(fraud.unwrap_or(if uniform { 0.0 } else { 0.01 })),
            uniform,
        };
        settings.check()?;
        let partitions = options.parse("partitions", "a number of partitions")?.unwrap_or(1);
        if partitions == 0 {
            return Err(options.error("partitions", "there must be at least one"));
        }
        let count = options.parse("count", "a number of records")?;
        Ok(Self { settings, partitions, rate, count, bad_records: on_bad_record(options)? })
    }
}

struct GeneratorSource {
    config: Config,
    table: Table,
    clock: Arc<dyn Clock>,
    /// For each partition, and for the end: the share of the users, so of the records, that comes before it.
    share_before: Vec<f64>,
}

impl GeneratorSource {
    /// How many records a partition has, if there is an end.
    fn records(&self, partition: u32) -> Option<i64> {
        let count = self.config.count? as f64;
        let before = |partition: usize| (count * self.share_before[partition]).round() as i64;
        Some(before(partition as usize + 1) - before(partition as usize))
    }

    /// Records per second of wall time in a partition.
    fn rate(&self, partition: u32) -> Option<f64> {
        let partition = partition as usize;
        self.config.rate.map(|rate| rate * (self.share_before[partition + 1] - self.share_before[partition]))
    }
}

impl Source for GeneratorSource {
    fn partitions(&self) -> Result<u32> {
        Ok(self.config.partitions)
    }

    fn resolve(&self, partition: u32, start: Start) -> Result<i64> {
        match start {
            Start::Earliest | Start::Latest => Ok(0),
            Start::Offset(offset) if offset >= 0 && self.records(partition).is_none_or(|end| offset <= end) => Ok(offset),
            Start::Offset(offset) => Err(Error::permanent(format!("partition {partition} has no offset {offset}"))),
            Start::Time(_) => Err(Error::invalid("a generated table cannot be started at a time").hint("set the option 'start'")),
        }
    }

    fn end_offset(&self, partition: u32) -> Result<Option<i64>> {
        Ok(self.records(partition))
    }

    fn open(&self, partition: u32, offset: i64, stop: Option<i64>) -> Result<Box<dyn PartitionReader>> {
        let mut generator = Generator::of_partition(self.config.settings.clone(), partition, self.config.partitions)?;
        let mut record = Record::default();
        if let Some(generator) = &mut generator {
            (0..offset).for_each(|_| generator.next(&mut record));
        }
        let ends = [stop, self.records(partition)];
        Ok(Box::new(Reader {
            end: if generator.is_some() { ends.into_iter().flatten().min() } else { Some(offset) },
            generator,
            record,
            offset,
            paced_from: (self.clock.now(), offset),
            clock: Arc::clone(&self.clock),
            rate: self.rate(partition),
            decoder: Decoder::new(&self.table, &self.table.name, partition)?,
        }))
    }

    fn bad_records(&self) -> OnBadRecord {
        self.config.bad_records
    }
}

struct Reader {
    /// `None`: no user's records belong here.
    generator: Option<Generator>,
    record: Record,
    offset: i64,
    end: Option<i64>,
    /// Since when it keeps to the rate, and the offset then.
    paced_from: (Micros, i64),
    clock: Arc<dyn Clock>,
    rate: Option<f64>,
    decoder: Decoder,
}

impl Reader {
    /// How far it may read by now. What is repeated was due before.
    fn due(&self, limit: Limit) -> i64 {
        let (time, offset) = self.paced_from;
        let seconds = (self.clock.now() - time) as f64 / 1e6;
        let paced = self.rate.map_or(i64::MAX, |rate| offset.saturating_add((seconds * rate) as i64 + 1));
        let most = self.offset.saturating_add(i64::try_from(limit.rows).unwrap_or(i64::MAX));
        let paced = if limit.until < i64::MAX { limit.until } else { paced };
        most.min(paced).min(self.end.unwrap_or(i64::MAX))
    }
}

impl PartitionReader for Reader {
    fn poll(&mut self, limit: Limit, clock: Micros) -> Result<Poll> {
        let due = self.due(limit);
        let Some(generator) = self.generator.as_mut().filter(|_| self.end.is_none_or(|end| self.offset < end)) else {
            return Ok(Poll::End);
        };
        if self.offset >= due {
            return Ok(Poll::Pending);
        }
        while self.offset < due && self.decoder.bytes() < limit.bytes.max(1) {
            generator.next(&mut self.record);
            self.decoder.push(&RawRecord {
                offset: self.offset,
                timestamp: Some(self.record.timestamp),
                key: Some(&self.record.key),
                payload: Some(&self.record.payload),
                headers: &[],
            })?;
            self.offset += 1;
        }
        if limit.until < i64::MAX {
            self.paced_from = (self.clock.now(), self.offset);
        }
        Ok(Poll::Ready(self.decoder.finish(self.offset)?.into_fetch(clock)?))
    }

    fn lag(&self) -> Option<u64> {
        self.end.map(|end| (end - self.offset).max(0).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{AsArray, RecordBatch};
    use arrow::compute::concat_batches;
    use arrow::datatypes::{DataType, Field, Int64Type};
    use riverrun_engine::table::{Column, Location, Metadata};
    use riverrun_engine::time::ManualClock;

    use super::*;

    fn table(options: &[(&str, &str)]) -> Table {
        let column = |name: &str, data_type: DataType, metadata: Option<Metadata>| Column {
            field: Arc::new(Field::new(name, data_type, false)),
            metadata,
            location: Location::default(),
        };
        Table {
            name: "transactions".into(),
            columns: vec![
                column("transaction_id", DataType::Utf8, None),
                column("user_id", DataType::Utf8, None),
                column("amount", DataType::Float64, None),
                column("at", DataType::Int64, Some(Metadata::Offset)),
            ],
            watermark: None,
            partitioned_by: vec![1],
            primary_key: Vec::new(),
            options: Options::of(options),
            location: Location::default(),
        }
    }

    fn open(options: &[(&str, &str)]) -> (Arc<dyn Source>, Arc<ManualClock>) {
        let table = table(options);
        GeneratorConnector.check(&table).unwrap();
        let clock = Arc::new(ManualClock::at(0));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let context = Context::new("test", "unused", shared);
        let node = SourceNode { schema: table.schema(), table };
        (GeneratorConnector.source(&node, &context).unwrap(), clock)
    }

    /// All rows from an offset on, and the count of bad records.
    fn read(source: &dyn Source, partition: u32, offset: i64) -> (RecordBatch, usize) {
        let mut reader = source.open(partition, offset, None).unwrap();
        let (mut batches, mut bad) = (Vec::new(), 0);
        loop {
            match reader.poll(Limit::new(777, 1 << 20), 5).unwrap() {
                Poll::Ready(fetch) => {
                    bad += fetch.bad.len();
                    batches.push(fetch.rows);
                }
                Poll::Pending => panic!("nothing to wait for"),
                Poll::End => return (concat_batches(&batches[0].schema(), &batches).unwrap(), bad),
            }
        }
    }

    #[test]
    fn all_records_of_the_count_arrive_as_rows_or_bad_records() {
        let (source, _) = open(&[("count", "20000"), ("partitions", "4"), ("malformed", "0.05"), ("bad_records", "drop")]);
        let parts: Vec<_> = (0..4).map(|p| read(source.as_ref(), p, 0)).collect();
        let (rows, bad): (usize, usize) = parts.iter().fold((0, 0), |(r, b), (rows, bad)| (r + rows.num_rows(), b + bad));
        assert_eq!(rows + bad, 20_000);
        assert!((800..1200).contains(&bad), "{bad}");
        for (partition, (rows, _)) in parts.iter().enumerate() {
            let users = rows.column(1).as_string::<i32>();
            let of = |user: &str| crate::partitioner::partition_of(user.as_bytes(), 4) as usize;
            assert!(users.iter().flatten().all(|user| of(user) == partition));
        }
    }

    #[test]
    fn reading_on_from_an_offset_gives_the_same_rows() {
        let (source, _) = open(&[("count", "5000"), ("partitions", "2")]);
        let (all, _) = read(source.as_ref(), 1, 0);
        let (rest, _) = read(source.as_ref(), 1, 1234);
        assert_eq!(rest, all.slice(1234, all.num_rows() - 1234));
        assert_eq!(rest.column(3).as_primitive::<Int64Type>().value(0), 1234);
    }

    #[test]
    fn a_range_is_repeated_in_other_pieces_and_without_waiting() {
        let (source, clock) = open(&[("rate", "10"), ("count", "2000"), ("malformed", "0.1"), ("bad_records", "drop")]);
        let mut reader = source.open(0, 100, None).unwrap();
        let mut take = |rows: usize, until: i64| match reader.poll(Limit { until, ..Limit::new(rows, 1 << 20) }, 5).unwrap() {
            Poll::Ready(fetch) => (fetch.next_offset, fetch.rows.column(3).as_primitive::<Int64Type>().values().to_vec()),
            Poll::Pending => (-1, Vec::new()),
            Poll::End => (-2, Vec::new()),
        };
        let (next, whole) = take(5000, 700);
        assert_eq!((next, take(10, 700).0, take(10, 650).0), (700, -1, -1));
        assert_eq!((take(5000, i64::MAX).0, take(5000, i64::MAX).0), (701, -1), "from here on it keeps to the rate");
        clock.advance(Duration::from_secs(1));
        assert_eq!(take(5000, i64::MAX).0, 711);

        let mut reader = source.open(0, 100, None).unwrap();
        let mut pieces = Vec::new();
        for until in [100, 101, 350, 352, 700] {
            while let Poll::Ready(fetch) = reader.poll(Limit { until, ..Limit::new(33, 1 << 20) }, 5).unwrap() {
                assert!(fetch.next_offset <= until);
                pieces.extend_from_slice(fetch.rows.column(3).as_primitive::<Int64Type>().values());
            }
        }
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_rate_is_kept_to_and_a_stop_offset_ends_it() {
        let (source, clock) = open(&[("rate", "100")]);
        assert_eq!(source.end_offset(0).unwrap(), None);
        let mut reader = source.open(0, 0, Some(60)).unwrap();
        let limit = Limit::new(1000, 1 << 20);
        let mut rows = || match reader.poll(limit, 0).unwrap() {
            Poll::Ready(fetch) => fetch.rows.num_rows() as i64,
            Poll::Pending => 0,
            Poll::End => -1,
        };
        assert_eq!((rows(), rows()), (1, 0));
        clock.advance(Duration::from_millis(500));
        assert_eq!((rows(), rows()), (50, 0));
        clock.advance(Duration::from_secs(5));
        assert_eq!((rows(), rows()), (9, -1));
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (name, value) in
            [("rate", "-1"), ("partitions", "0"), ("users", "0"), ("start", "soon"), ("malformed", "2"), ("count", "x")]
        {
            let error = GeneratorConnector.check(&table(&[(name, value)])).unwrap_err();
            assert!(error.message().contains(name), "{error}");
        }
    }
}
