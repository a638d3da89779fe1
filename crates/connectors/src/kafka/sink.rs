//! Writes rows to a topic: idempotent, acks=all, by key as Java clients do.
//!
//! Invariants: a record is safe when its delivery report came back good, and only then is anything called flushed. A record
//! whose delivery failed for the time being is kept and sent again (librdkafka itself repeats, in order, whatever may be
//! repeated: only what it gave up comes here, and then stands behind what was on its way); one that can never be delivered
//! stops the pipeline. `write` remembers how far it got, so that a second call repeats nothing.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use riverrun_engine::batch::Batch;
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify, lock, remind};
use super::config::Config;
use super::key::Key;
use super::rows::{Row, Writer};
use super::topic;
use crate::format::RowEncoder;

/// How long one wait for room or for delivery reports lasts (a poll of the producer lasts as long as it is told to, whatever
/// comes).
const WAIT: Duration = Duration::from_millis(5);

/// As many looks without an answer (a feed looks each 20 ms or so) are more than a broker's usual delay.
const STALLED: u32 = 50;

/// After as many looks without an answer, about 20 s, it is told the brokers again.
const REMIND: u32 = 1000;

/// A record to send again.
struct Lost {
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
}

/// What delivery reports say.
#[derive(Default)]
pub(super) struct Reports {
    callbacks: Callbacks,
    /// Reports that came, good or bad.
    come: AtomicU64,
    /// To send again.
    lost: Mutex<VecDeque<Lost>>,
    /// The last failure that may pass, for the message.
    trouble: Mutex<Option<Error>>,
    /// The first failure that will not.
    refused: Mutex<Option<Error>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.callbacks.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.callbacks.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.come.fetch_add(1, Ordering::Relaxed);
        let Err((error, record)) = result else { return };
        let key = record.key().map(String::from_utf8_lossy).unwrap_or_default();
        let error = classify(error, &format!("record with key '{key}' for topic '{}' was not delivered", record.topic()));
        if error.is_transient() {
            let lost = Lost { key: record.key().map(<[u8]>::to_vec), payload: record.payload().map(<[u8]>::to_vec) };
            lock(&self.lost).push_back(lost);
            *lock(&self.trouble) = Some(error);
        } else {
            lock(&self.refused).get_or_insert(error);
        }
    }
}

/// A topic as a sink.
pub(super) struct KafkaSink {
    producer: BaseProducer<Reports>,
    writer: Writer,
    brokers: String,
    /// Looks for acknowledgements in a row that found none, while records waited.
    stalled: u32,
    /// Whether it was told that the brokers are away.
    told_away: bool,
    /// Waits without any progress before the trouble is told (and the caller tries again).
    waits: u32,
    /// Records that librdkafka took.
    sent: u64,
    /// How far the write of (task, epoch) got: (batch, row).
    partly: Option<((u32, u64), (usize, usize))>,
}

impl KafkaSink {
    /// Finds the topic, or creates it.
    pub fn connect(config: &Config, key: Key, rows: RowEncoder) -> Result<Self> {
        config.check()?;
        let topic = topic::create_if_missing(config)?;
        let what = format!("producer for topic '{topic}'");
        let producer: BaseProducer<Reports> =
            config.producer().create_with_context(Reports::default()).map_err(|e| classify(&e, &what))?;
        let waits = (config.patience.as_millis() / WAIT.as_millis()).clamp(1, 100_000) as u32;
        let (brokers, writer) = (config.brokers.clone(), Writer::new(topic, key, rows));
        Ok(Self { producer, writer, brokers, stalled: 0, told_away: false, waits, sent: 0, partly: None })
    }

    fn outstanding(&self) -> u64 {
        self.sent - self.producer.context().come.load(Ordering::Relaxed)
    }

    /// Takes in the reports that have come.
    fn serve(&self, wait: Duration) -> Result<()> {
        self.producer.poll(wait);
        // A poll without a wait takes one event: the reports of one partition.
        let mut before = self.outstanding() + 1;
        while self.outstanding() < before {
            before = self.outstanding();
            self.producer.poll(Duration::ZERO);
        }
        match lock(&self.producer.context().refused).as_ref() {
            Some(refused) => Err(refused.clone()),
            None => Ok(()),
        }
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    fn send(&mut self, key: Option<&[u8]>, payload: Option<&[u8]>) -> Result<()> {
        for _ in 0..self.waits {
            let record = BaseRecord::<[u8], [u8]> { key, payload, ..BaseRecord::to(&self.writer.topic) };
            match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((error, _)) if error.rdkafka_error_code() == Some(Code::QueueFull) => self.serve(WAIT)?,
                Err((error, _)) => {
                    let bytes = payload.map_or(0, <[u8]>::len);
                    return Err(classify(&error, &format!("a record of {bytes} bytes for topic '{}'", self.writer.topic)));
                }
            }
        }
        Err(self.stuck("takes no more records"))
    }

    /// Sends again what was lost. A record leaves the list when librdkafka has it.
    fn send_lost(&mut self) -> Result<()> {
        loop {
            let Some(lost) = lock(&self.producer.context().lost).pop_front() else { return Ok(()) };
            if let Err(error) = self.send(lost.key.as_deref(), lost.payload.as_deref()) {
                lock(&self.producer.context().lost).push_front(lost);
                return Err(error);
            }
        }
    }

    /// Tells once that the brokers are away while records wait for them, and once that they are back. The records are
    /// librdkafka's to send: nothing is tried again here, so nothing is lost to a pause between tries.
    fn tell_away(&mut self, progress: bool) {
        let waiting = self.outstanding();
        let callbacks = &self.producer.context().callbacks;
        if progress {
            callbacks.down.store(false, Ordering::Relaxed);
            self.stalled = 0;
            if std::mem::take(&mut self.told_away) {
                tracing::info!("topic '{}': works again", self.writer.topic);
            }
            return;
        }
        self.stalled = if waiting == 0 { 0 } else { self.stalled + 1 };
        if self.stalled > 0 && self.stalled.is_multiple_of(REMIND) {
            remind(self.producer.client(), &self.brokers);
        }
        // That they were away once says nothing of now: only with records that get no answer.
        if self.stalled >= STALLED && !self.told_away && callbacks.down.load(Ordering::Relaxed) {
            self.told_away = true;
            let (topic, brokers, because) = (&self.writer.topic, &self.brokers, callbacks.because());
            tracing::warn!(
                "topic '{topic}': Kafka at {brokers} cannot be reached{because}; {waiting} records wait until it is back"
            );
        }
    }

    fn stuck(&self, what: &str) -> Error {
        let because = self.producer.context().callbacks.because();
        Error::transient(format!("Kafka {what}: {} records for topic '{}' wait{because}", self.outstanding(), self.writer.topic))
    }

    /// Sends the rows of a batch from `row` on; `done` is told each that was taken.
    fn send_rows(&mut self, batch: &Batch, from: usize, mut done: impl FnMut(usize)) -> Result<()> {
        let records = self.writer.records(batch)?;
        for row in from..batch.rows.num_rows() {
            let Row { key, payload, .. } = records.row(row);
            self.send(key, payload).map_err(|e| e.within(records.place(row)))?;
            done(row + 1);
        }
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        self.serve(Duration::ZERO)?;
        self.send_lost()?;
        let this = (output.task, output.epoch);
        let (first, mut from) = self.partly.filter(|(of, _)| *of == this).map_or((0, 0), |(_, got)| got);
        for (number, batch) in output.batches.iter().enumerate().skip(first) {
            let mut got = from;
            if let Err(error) = self.send_rows(batch, from, |row| got = row) {
                self.partly = Some((this, (number, got)));
                return Err(error.within(format!("task {}, epoch {}", output.task, output.epoch)));
            }
            from = 0;
        }
        self.partly = None;
        self.serve(Duration::ZERO)
    }

    fn flush(&mut self, _: Micros, force: bool) -> Result<Flushed> {
        let before = self.outstanding();
        self.serve(Duration::ZERO)?;
        self.tell_away(self.outstanding() < before);
        let mut idle = 0;
        loop {
            self.send_lost()?;
            if let Some(trouble) = lock(&self.producer.context().trouble).take() {
                return Err(trouble);
            }
            let before = self.outstanding();
            if before == 0 {
                return Ok(Flushed::All);
            }
            if !force {
                return Ok(Flushed::Pending);
            }
            if idle >= self.waits {
                return Err(self.stuck("does not acknowledge"));
            }
            self.serve(WAIT)?;
            idle = if self.outstanding() < before { 0 } else { idle + 1 };
        }
    }
}
