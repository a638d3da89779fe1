//! What the brokers report of the records of a transaction.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use riverrun_engine::Error;

use crate::kafka::client::{Callbacks, classify, lock};

/// What delivery reports say.
pub(super) struct Reports {
    pub callbacks: Callbacks,
    /// The topic whose offsets are kept.
    topic: String,
    /// Reports that came, good or bad.
    pub come: AtomicU64,
    /// Where records of the topic stand, by partition in order.
    pub offsets: Mutex<Vec<(i32, i64)>>,
    /// The first failure since the transaction began; one that will not pass comes before others.
    pub failed: Mutex<Option<Error>>,
}

impl Reports {
    /// Nothing yet; offsets will be kept of records of this topic.
    pub fn of(topic: &str) -> Self {
        let (come, offsets, failed) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        Self { callbacks: Callbacks::default(), topic: topic.to_owned(), come, offsets, failed }
    }

    /// A transaction begins.
    pub fn clear(&self) {
        *lock(&self.failed) = None;
        lock(&self.offsets).clear();
    }
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
        match result {
            Ok(record) if record.topic() == self.topic => lock(&self.offsets).push((record.partition(), record.offset())),
            Ok(_) => {}
            Err((error, record)) => {
                let key = record.key().map(String::from_utf8_lossy).unwrap_or_default();
                let error = classify(error, &format!("record with key '{key}' for topic '{}' was not delivered", record.topic()));
                let mut failed = lock(&self.failed);
                if failed.as_ref().is_none_or(|first| first.is_transient() && !error.is_transient()) {
                    *failed = Some(error);
                }
            }
        }
    }
}
