//! Generated records into a topic: `riverrun generate … --brokers`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use riverrun_engine::table::Options;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify, lock};
use super::config::Config;
use super::topic;
use crate::generator::{Deliveries, Record, RecordSink};

const WAIT: Duration = Duration::from_millis(5);

/// Counts delivery reports.
#[derive(Default)]
struct Tally {
    callbacks: Callbacks,
    come: AtomicU64,
    deliveries: Mutex<Deliveries>,
}

impl ClientContext for Tally {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.callbacks.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.callbacks.error(error, reason);
    }
}

impl ProducerContext for Tally {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut deliveries = lock(&self.deliveries);
        match result {
            Ok(record) => deliveries.acknowledge(record.partition().unsigned_abs(), record.offset()),
            Err((error, _)) => deliveries.fail(&error.to_string()),
        }
        drop(deliveries);
        self.come.fetch_add(1, Ordering::Release);
    }
}

/// A topic that takes generated records: acks=all, idempotent, order kept per key, a delivery report for each.
pub struct KafkaRecords {
    producer: BaseProducer<Tally>,
    topic: String,
    sent: u64,
}

impl KafkaRecords {
    /// Connects by the options of a Kafka table (`brokers`, `topic`, `partitions`, `kafka.*`, …), and creates the topic if it
    /// is missing.
    pub fn connect(options: &Options) -> Result<Self> {
        let config = Config::of_options(options, "generate")?;
        config.check()?;
        let topic = topic::create_if_missing(&config)?;
        let what = format!("producer for topic '{topic}'");
        let mut client = config.producer();
        // Here nobody waits for ever: what is not delivered within a minute is counted as lost.
        if client.get("message.timeout.ms") == Some("0") {
            client.set("message.timeout.ms", "60000");
        }
        let producer: BaseProducer<Tally> = client.create_with_context(Tally::default()).map_err(|e| classify(&e, &what))?;
        Ok(Self { producer, topic, sent: 0 })
    }

    fn outstanding(&self) -> u64 {
        self.sent - self.producer.context().come.load(Ordering::Acquire)
    }
}

impl RecordSink for KafkaRecords {
    fn send(&mut self, record: &Record) -> Result<()> {
        loop {
            let sent = BaseRecord::<[u8], [u8]>::to(&self.topic).key(&record.key).payload(&record.payload);
            match self.producer.send(sent.timestamp(record.timestamp / 1000)) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((error, _)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                    let before = self.outstanding();
                    self.producer.poll(WAIT);
                    if self.outstanding() == before
                        && let Some(trouble) = lock(&self.producer.context().callbacks.trouble).take()
                    {
                        tracing::warn!("Kafka takes no records: {}; still trying", trouble.reason);
                    }
                }
                Err((error, _)) => return Err(classify(&error, &format!("a record for topic '{}'", self.topic))),
            }
        }
    }

    fn poll(&mut self) -> Result<()> {
        // Each poll takes one event: the reports of one partition.
        let mut before = self.outstanding() + 1;
        while self.outstanding() < before {
            before = self.outstanding();
            self.producer.poll(Duration::ZERO);
        }
        match self.producer.client().fatal_error() {
            Some((code, why)) => Err(Error::permanent(format!("topic '{}': {code}: {why}", self.topic))),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        while self.outstanding() > 0 {
            self.producer.poll(WAIT);
        }
        Ok(())
    }

    fn deliveries(&self) -> Deliveries {
        lock(&self.producer.context().deliveries).clone()
    }
}
