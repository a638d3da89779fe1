//! The transactional producer, and where its transaction stands.
//!
//! Invariants: whatever broke off, the next call goes on from there: a commit that timed out is asked for again and never
//! sent anew, and a transaction that failed before is aborted before the next one begins. What was sent counts only once
//! the commit is known. A producer whose transaction does not come to an end is given up: it is as good as dead.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use riverrun_engine::time::{Clock, Stopwatch, SystemClock};
use riverrun_engine::{Error, Result};

use super::offsets::OffsetsThread;
use super::reports::Reports;
use crate::kafka::client::{classify, lock, remind};
use crate::kafka::config::Config;

/// How long it sleeps before it looks for delivery reports again. A wait within rdkafka's own poll would be spent spinning
/// below a millisecond, and would last as long as it is told to, whatever comes.
const PAUSE: Duration = Duration::from_micros(300);

/// How long one wait for the end of an abort lasts; in between reports are taken in, which it waits for.
const STEP: Duration = Duration::from_millis(50);

/// How many times as long as one call a transaction may take to end. The brokers abort it by themselves before that, unless they
/// were about to commit it.
const LONGEST: u32 = 3;

/// Where the producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not known to the brokers yet.
    New,
    /// Between transactions.
    Idle,
    /// In a transaction whose records are sent.
    Open,
    /// In a transaction whose commit was asked for.
    Committing,
    /// In a transaction that cannot be committed any more.
    Aborting,
}

/// A producer of transactions.
pub(in crate::kafka) struct Transactions {
    producer: Arc<BaseProducer<Reports>>,
    offsets: OffsetsThread,
    brokers: String,
    stage: Stage,
    patience: Duration,
    /// Records that librdkafka took.
    sent: u64,
    /// Since the last transaction began.
    began: Stopwatch,
    /// Whether nothing more is expected of this producer.
    given_up: bool,
}

impl Transactions {
    /// A producer of transactions of this id; offsets are kept of what it sends to `topic`.
    pub fn new(config: &Config, id: &str, topic: &str) -> Result<Self> {
        let created = config.transactional(id).create_with_context(Reports::of(topic));
        let producer = Arc::new(created.map_err(|e| classify(&e, &format!("producer of transactions '{id}'")))?);
        let (brokers, patience) = (config.brokers.clone(), config.patience);
        let offsets = OffsetsThread::start(&producer, patience)?;
        let (stage, began) = (Stage::New, Stopwatch::start());
        Ok(Self { producer, offsets, brokers, stage, patience, sent: 0, began, given_up: false })
    }

    /// Makes this the only producer of its id: earlier ones can commit nothing any more, and what they left open is aborted.
    pub fn init(&mut self) -> Result<()> {
        if self.stage == Stage::New {
            self.producer.init_transactions(self.patience).map_err(|e| self.error(&e, "taking over transactions"))?;
            self.stage = Stage::Idle;
        }
        Ok(())
    }

    /// Whether this producer can do nothing any more: another one took over, the brokers gave up its transaction, or it does not
    /// come to an end.
    pub fn is_dead(&self) -> bool {
        self.given_up || self.producer.client().fatal_error().is_some()
    }

    /// Whether the brokers do not know it yet.
    pub fn is_new(&self) -> bool {
        self.stage == Stage::New
    }

    /// Whether a commit was asked for, and is not known.
    pub fn is_committing(&self) -> bool {
        self.stage == Stage::Committing
    }

    /// Begins a transaction; what an earlier one left is aborted first.
    pub fn begin(&mut self) -> Result<()> {
        self.abort()?;
        self.producer.context().clear();
        self.producer.begin_transaction().map_err(|e| self.error(&e, "beginning a transaction"))?;
        (self.stage, self.began) = (Stage::Open, Stopwatch::start());
        Ok(())
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    pub fn send(&mut self, record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        let stopwatch = Stopwatch::start();
        let (topic, mut record) = (record.topic, record);
        loop {
            let (error, again) = match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(refused) => refused,
            };
            record = again;
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                let bytes = record.payload.map_or(0, <[u8]>::len);
                return Err(self.error(&error, &format!("a record of {bytes} bytes for topic '{topic}'")));
            }
            if elapsed(&stopwatch) >= self.patience {
                return Err(self.stuck("takes no more records"));
            }
            self.serve();
        }
    }

    /// Waits until all records are where they belong.
    pub fn delivered(&mut self) -> Result<()> {
        let stopwatch = Stopwatch::start();
        while self.outstanding() > 0 {
            if elapsed(&stopwatch) >= self.patience {
                return Err(self.stuck("does not acknowledge"));
            }
            self.serve();
        }
        let failed = lock(&self.producer.context().failed).take();
        match (failed, self.producer.client().fatal_error()) {
            (None, _) => Ok(()),
            // Why it died says more than what became of its records.
            (Some(_), Some((_, why))) => Err(Error::transient(format!("transactions at {}: {why}", self.brokers))),
            (Some(error), None) => Err(error),
        }
    }

    /// Adds offsets of a group to what is committed: if the group still knows this member. Records may be on their way.
    ///
    /// # Errors
    /// Transient: the group has moved on. The transaction will be aborted.
    pub fn offsets(&mut self, offsets: &TopicPartitionList, member: &Arc<ConsumerGroupMetadata>) -> Result<()> {
        let stopwatch = Stopwatch::start();
        loop {
            let error = match self.offsets.add(offsets, member) {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => error,
                None => {
                    (self.stage, self.given_up) = (Stage::Aborting, true);
                    return Err(self.told_away("does not answer: adding offsets to a transaction"));
                }
            };
            let again = matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if !again || elapsed(&stopwatch) >= self.patience || self.is_dead() {
                self.stage = Stage::Aborting;
                return Err(match error.rdkafka_error_code() {
                    Some(Code::IllegalGeneration | Code::UnknownMemberId | Code::FencedInstanceId) => {
                        Error::transient(format!("the group has shared out the tasks anew: {error}"))
                    }
                    _ => self.error(&error, "adding offsets to a transaction"),
                });
            }
            self.serve();
        }
    }

    /// Commits. Gives where the records of the kept topic stand, by partition in order. An error while
    /// [`is_committing`](Transactions::is_committing) means: call again; after any other the outcome is not known.
    pub fn commit(&mut self) -> Result<Vec<(i32, i64)>> {
        self.stage = Stage::Committing;
        match self.producer.commit_transaction(self.patience) {
            Ok(()) => {
                self.stage = Stage::Idle;
                let reports = self.producer.context();
                reports.callbacks.down.store(false, Relaxed);
                *lock(&reports.callbacks.trouble) = None;
                Ok(std::mem::take(&mut *lock(&reports.offsets)))
            }
            Err(error) => {
                let again = match &error {
                    KafkaError::Transaction(error) => error.is_retriable(),
                    // Before the commit proper.
                    error => matches!(error, KafkaError::Flush(_)),
                };
                self.give_up_in_time();
                if !again || self.is_dead() {
                    self.stage = Stage::Aborting;
                }
                Err(self.error(&error, "committing a transaction"))
            }
        }
    }

    /// Aborts what is open and not being committed.
    pub fn abort(&mut self) -> Result<()> {
        if self.stage == Stage::Open {
            self.stage = Stage::Aborting;
        }
        let stopwatch = Stopwatch::start();
        while self.stage == Stage::Aborting {
            self.serve();
            match self.producer.abort_transaction(STEP) {
                Ok(()) => self.stage = Stage::Idle,
                Err(KafkaError::Transaction(error)) if error.is_retriable() && elapsed(&stopwatch) < self.patience => {}
                Err(error) => {
                    self.give_up_in_time();
                    return Err(self.error(&error, "aborting a transaction"));
                }
            }
        }
        Ok(())
    }

    /// The end of the transaction failed once more: nothing more is expected of this producer after long enough.
    fn give_up_in_time(&mut self) {
        self.given_up |= elapsed(&self.began) >= self.patience * LONGEST;
    }

    fn outstanding(&self) -> u64 {
        self.sent - self.producer.context().come.load(Relaxed)
    }

    /// Takes in the reports that have come.
    fn serve(&self) {
        // A poll without a wait takes one event: the reports of one partition.
        let begun = self.outstanding();
        let mut before = begun + 1;
        while self.outstanding() < before {
            before = self.outstanding();
            self.producer.poll(Duration::ZERO);
        }
        if self.outstanding() == begun {
            SystemClock.sleep(PAUSE);
        }
    }

    fn stuck(&self, what: &str) -> Error {
        let waiting = self.outstanding();
        self.told_away(&format!("{what}: {waiting} records of a transaction wait"))
    }

    /// An error that may pass, with what is known of the brokers: they gave no answer for as long as we wait for one.
    fn told_away(&self, what: &str) -> Error {
        remind(self.producer.client(), &self.brokers);
        let callbacks = &self.producer.context().callbacks;
        let away = if callbacks.down.load(Relaxed) { "cannot be reached, " } else { "" };
        Error::transient(format!("Kafka at {} {away}{what}{}", self.brokers, callbacks.because()))
    }

    /// An error in our words. That the producer is dead may pass, with another one: unless it may not do what it did.
    fn error(&self, error: &KafkaError, what: &str) -> Error {
        let classified = classify(error, &format!("{what} at {}", self.brokers));
        let denied = [Code::TransactionalIdAuthorizationFailed, Code::ClusterAuthorizationFailed];
        match self.producer.client().fatal_error() {
            Some((code, _)) if denied.contains(&code) => classify(&KafkaError::Global(code), what),
            Some((_, why)) => Error::transient(format!("{what} at {}: {why}", self.brokers)),
            None if !classified.is_transient() => classified,
            None => match error {
                KafkaError::Transaction(error) => self.told_away(&format!("does not answer: {what}: {}", error.string())),
                _ => self.told_away(&format!("does not answer: {}", classified.message())),
            },
        }
    }
}

fn elapsed(stopwatch: &Stopwatch) -> Duration {
    Duration::from_nanos(stopwatch.nanos())
}

impl Drop for Transactions {
    /// What is open hides everyone's later records: it is aborted at once if that can be, else by the brokers in time.
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Open | Stage::Aborting) && !self.is_dead() {
            self.patience = STEP;
            if let Err(error) = self.abort() {
                tracing::debug!(%error, "kafka");
            }
        }
    }
}
