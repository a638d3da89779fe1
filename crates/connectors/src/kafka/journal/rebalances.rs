//! What the member's consumer hears of its group, kept until somebody asks.
//!
//! Invariants: what is lost is shut off within the callback, before anything else is heard of it; a consumer that another one
//! has replaced changes nothing any more.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaRespErr;

use super::fence::Fence;
use crate::kafka::client::{Callbacks, lock};

/// What the group said, by partition of the lead topic.
pub(super) enum Told {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
}

/// Hears of rebalances.
pub(super) struct Rebalances {
    pub callbacks: Callbacks,
    fence: Arc<Fence>,
    pub told: Mutex<Vec<Told>>,
    /// Whether nobody answers any more: what is revoked is given up at once.
    pub closing: AtomicBool,
    /// Whether another consumer is the member by now.
    pub replaced: AtomicBool,
}

impl Rebalances {
    /// Nothing was heard yet; what is lost will be shut off at `fence`.
    pub fn new(fence: Arc<Fence>) -> Self {
        let (closing, replaced) = (AtomicBool::default(), AtomicBool::default());
        Self { callbacks: Callbacks::default(), fence, told: Mutex::default(), closing, replaced }
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.callbacks.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.callbacks.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.callbacks.stats(statistics);
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> = list.elements().iter().map(|p| p.partition()).collect();
        let replaced = self.replaced.load(Relaxed);
        let outcome = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                if !replaced {
                    self.fence.renew(consumer.group_metadata());
                    lock(&self.told).push(Told::Assigned(partitions));
                }
                // From the end: there is time to pause it before anything is fetched.
                let at_end = list.set_all_offsets(Offset::End);
                at_end.and_then(|()| consumer.incremental_assign(list)).and_then(|()| consumer.pause(list))
            }
            _ if replaced => consumer.incremental_unassign(list),
            _ if consumer.assignment_lost() => {
                self.fence.close();
                lock(&self.told).push(Told::Lost(partitions));
                consumer.incremental_unassign(list)
            }
            _ if self.closing.load(Relaxed) => {
                self.fence.close();
                consumer.incremental_unassign(list)
            }
            _ => {
                // The group has a new generation in which what is revoked is still ours, until it is released.
                self.fence.renew(consumer.group_metadata());
                lock(&self.told).push(Told::Revoked(partitions));
                Ok(())
            }
        };
        if let Err(error) = outcome {
            tracing::warn!("a rebalance was not followed: {error}");
        }
    }
}
