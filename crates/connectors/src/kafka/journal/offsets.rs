//! Adds offsets to transactions, on a thread of its own.
//!
//! librdkafka's call does not heed its timeout while it waits for the group's coordinator: for one whose broker has left the cluster
//! it may wait until some other broker comes or goes (librdkafka 2.10 to 2.14 at least, its issues 5456 and 5511), minutes or
//! hours. So who asks waits as long as it wants to, and uses that producer no more if no answer came.
//!
//! Invariant: the thread ends when nobody asks any more, or, if it hangs in a call, once that returns; till then the producer lives.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, Producer};
use riverrun_engine::{Error, Result};

use super::reports::Reports;

/// How much longer than it is told to take a call may take.
const GRACE: Duration = Duration::from_millis(500);

type Question = (TopicPartitionList, Arc<ConsumerGroupMetadata>);

/// The thread that adds offsets to a producer's transactions.
pub(super) struct OffsetsThread {
    questions: Sender<Question>,
    answers: Receiver<KafkaResult<()>>,
    patience: Duration,
}

impl OffsetsThread {
    /// Starts it for a producer; each call is told to take so long at most.
    pub fn start(producer: &Arc<BaseProducer<Reports>>, patience: Duration) -> Result<Self> {
        let (questions, asked) = channel::<Question>();
        let (answer, answers) = channel();
        let producer = Arc::clone(producer);
        let work = move || {
            for (offsets, member) in asked {
                if answer.send(producer.send_offsets_to_transaction(&offsets, &member, patience)).is_err() {
                    return;
                }
            }
        };
        let started = thread::Builder::new().name("kafka-offsets".into()).spawn(work);
        started.map_err(|e| Error::transient(format!("no thread to add offsets to transactions: {e}")))?;
        Ok(Self { questions, answers, patience })
    }

    /// Adds offsets of a group to the transaction; `None`: no answer came, and none must be waited for any more.
    pub fn add(&self, offsets: &TopicPartitionList, member: &Arc<ConsumerGroupMetadata>) -> Option<KafkaResult<()>> {
        self.questions.send((offsets.clone(), Arc::clone(member))).ok()?;
        self.answers.recv_timeout(self.patience + GRACE).ok()
    }
}
