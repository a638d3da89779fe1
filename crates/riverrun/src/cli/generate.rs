//! `riverrun generate`: a seeded stream of records, to the embedded log, Kafka or a file.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use riverrun_connectors::generator::{
    FraudRates, Generator, Labels, LineSink, ProduceSettings, RecordSink, Settings, Summary, produce,
};
use riverrun_connectors::log::{Log, LogRecords};
use riverrun_engine::table::parse_duration;
use riverrun_engine::time::{Clock, SystemClock};
use riverrun_engine::{Error, Result};

use super::stop_flag;
use super::summary::grouped;

/// Arguments.
#[derive(Debug, Args)]
pub struct Generate {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Financial transactions of users with habits, fraud among them.
    Transactions(Box<Transactions>),
}

/// Arguments of `generate transactions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun generate transactions --count 1000000 --out transactions.jsonl --labels truth.jsonl
  riverrun generate transactions --rate 5000                        into ./riverrun-data/log
  riverrun generate transactions --rate 50000 --brokers localhost:9092")]
pub struct Transactions {
    /// Records per second; default: as fast as they are taken.
    #[arg(long)]
    rate: Option<f64>,
    /// Records in all; default: until Ctrl-C.
    #[arg(long)]
    count: Option<u64>,
    /// Same seed and settings, same records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Users.
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// Share of transactions that are fraud, all kinds evenly.
    #[arg(long, default_value_t = 0.01)]
    fraud: f64,
    /// Share of transactions that arrive behind younger ones.
    #[arg(long, default_value_t = 0.02)]
    out_of_order: f64,
    /// Share of records that cannot be decoded.
    #[arg(long, default_value_t = 0.0)]
    malformed: f64,
    /// Transactions per second of event time, where event time is simulated (a file, or no --rate).
    #[arg(long, default_value_t = 500.0)]
    events_per_second: f64,
    /// Every field uniformly at random from the range of the reference, without habits or fraud.
    #[arg(long)]
    uniform: bool,
    /// A file for the truth: one JSON line per transaction with which something is wrong.
    #[arg(long)]
    labels: Option<PathBuf>,
    /// A file for the records, one JSON object a line.
    #[arg(long, conflicts_with = "brokers")]
    out: Option<PathBuf>,
    /// Kafka brokers, such as localhost:9092.
    #[arg(long)]
    brokers: Option<String>,
    /// The topic.
    #[arg(long, default_value = "financial-transactions")]
    topic: String,
    /// Partitions of a topic that is not there yet.
    #[arg(long, default_value_t = 10)]
    partitions: u32,
    /// Directory of the embedded log; without --out and --brokers, records go there.
    #[arg(long, default_value = "./riverrun-data/log")]
    log: PathBuf,
    /// Stop after this long, such as '30 seconds'.
    #[arg(long, value_parser = |text: &str| parse_duration(text).ok_or("write it like '30 seconds'"))]
    duration: Option<Duration>,
}

impl Generate {
    /// Generates.
    pub fn run(self) -> Result<()> {
        let What::Transactions(args) = self.what;
        args.run()
    }
}

impl Transactions {
    fn run(self) -> Result<()> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let live = self.rate.is_some() && self.out.is_none();
        let settings = self.settings(live.then(|| clock.now()));
        let mut generator = Generator::new(settings)?;
        let mut sink = self.sink(&clock)?;
        let mut labels = self.labels.as_deref().map(create).transpose()?.map(Labels::new);
        let pace = ProduceSettings { rate: self.rate, count: self.count, duration: self.duration, live };
        let bar = self.bar()?;
        let stop: Arc<AtomicBool> = stop_flag()?;
        let summary = produce((&mut generator, sink.as_mut()), &pace, labels.as_mut(), clock.as_ref(), &stop, &mut |p| {
            bar.set_position(p.sent);
            bar.set_message(format!("{} / s", grouped(p.rate as u64)));
        })?;
        bar.finish_and_clear();
        let labelled =
            labels.map(Labels::finish).transpose().map_err(|e| Error::permanent(format!("labels cannot be written: {e}")))?;
        self.tell(&summary, labelled)
    }

    fn settings(&self, start: Option<i64>) -> Settings {
        let fraud = FraudRates::evenly(if self.uniform { 0.0 } else { self.fraud });
        let default = Settings::default();
        Settings {
            seed: self.seed,
            users: self.users,
            events_per_second: self.rate.filter(|_| start.is_some()).unwrap_or(self.events_per_second),
            start: start.unwrap_or(default.start),
            out_of_order: self.out_of_order,
            malformed: self.malformed,
            fraud,
            uniform: self.uniform,
            ..default
        }
    }

    fn sink(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn RecordSink>> {
        if let Some(path) = &self.out {
            return Ok(Box::new(LineSink::new(create(path)?)));
        }
        if let Some(brokers) = &self.brokers {
            return kafka(brokers, &self.topic, self.partitions);
        }
        let log = Log::open(&self.log)?;
        Ok(Box::new(LogRecords::new(log, &self.topic, Some(self.partitions), clock.clone())?))
    }

    fn bar(&self) -> Result<ProgressBar> {
        let bar = match self.count {
            Some(count) => ProgressBar::new(count),
            None => ProgressBar::new_spinner(),
        };
        let template = if self.count.is_some() {
            "{wide_bar} {human_pos} of {human_len}, {msg}, {eta} left"
        } else {
            "{spinner} {human_pos} sent, {msg}"
        };
        let style = ProgressStyle::with_template(template).map_err(|e| Error::permanent(e.to_string()))?;
        Ok(bar.with_style(style))
    }

    fn tell(&self, summary: &Summary, labelled: Option<u64>) -> Result<()> {
        let seconds = summary.elapsed.as_secs_f64();
        let rate = summary.sent as f64 / seconds.max(1e-9);
        println!("sent {} records in {seconds:.1} s ({} / s)", grouped(summary.sent), grouped(rate as u64));
        println!("acknowledged {}", grouped(summary.deliveries.acknowledged()));
        for (partition, delivered) in &summary.deliveries.partitions {
            let (first, last) = (delivered.first_offset, delivered.last_offset);
            println!("  partition {partition}: {} (offsets {first} to {last})", grouped(delivered.records));
        }
        for (kind, count) in &summary.malformed {
            println!("malformed on purpose, {kind:?}: {}", grouped(*count));
        }
        if let (Some(count), Some(path)) = (labelled, &self.labels) {
            println!("labelled {} in {}", grouped(count), path.display());
        }
        if summary.deliveries.lost() == 0 {
            return Ok(());
        }
        let failures: Vec<_> = summary.deliveries.failed.iter().map(|(e, n)| format!("{n} x {e}")).collect();
        Err(Error::permanent(format!("{} records were not delivered: {}", summary.deliveries.lost(), failures.join("; "))))
    }
}

fn create(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).map_err(|e| Error::permanent(format!("{} cannot be written: {e}", path.display())))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

#[cfg(feature = "kafka")]
fn kafka(brokers: &str, topic: &str, partitions: u32) -> Result<Box<dyn RecordSink>> {
    use riverrun_connectors::kafka::KafkaRecords;
    let partitions = partitions.to_string();
    let options = riverrun_engine::table::Options::of(&[("brokers", brokers), ("topic", topic), ("partitions", &partitions)]);
    Ok(Box::new(KafkaRecords::connect(&options)?))
}

#[cfg(not(feature = "kafka"))]
fn kafka(_brokers: &str, _topic: &str, _partitions: u32) -> Result<Box<dyn RecordSink>> {
    Err(Error::invalid("this riverrun was built without Kafka").hint("build it with --features kafka"))
}
