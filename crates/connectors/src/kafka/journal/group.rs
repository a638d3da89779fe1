//! The consumer group of a pipeline: what its offsets say, and which partitions its instances share.
//!
//! The *lead* topic is the one with the most partitions. Instances share its partitions, and with partition p go the tasks p,
//! p + n, p + 2n …: there are more than n tasks where rows are repartitioned, or a source that is not on Kafka has
//! more partitions.

use std::collections::BTreeMap;

use rdkafka::TopicPartitionList;
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::graph::NodeId;
use riverrun_engine::journal::Stop;
use riverrun_engine::{Error, Result};

use crate::kafka::client::classify;
use crate::kafka::config::Config;
use crate::kafka::topic::{asker, resolve};

/// A pipeline's consumer group.
#[derive(Clone)]
pub(super) struct Group {
    /// The options of the declared source with the most partitions, by which the cluster is reached.
    pub config: Config,
    /// The lead topic.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Sources whose offsets are kept under this group.
    pub sources: Vec<NodeId>,
    /// By the graph's sources: topic and partition of each partition number, if its offsets are kept under this group.
    places: Vec<Vec<(String, i32)>>,
}

impl Group {
    /// Finds the topics of a graph's Kafka sources, given with their places among all sources; `None`: there are none.
    pub fn find(sources: &[(usize, NodeId, Config)]) -> Result<Option<Self>> {
        let mut lead: Option<(String, u32)> = None;
        // What is set for the group is set with a table that the script declares, as most queries read it.
        let mut declared: Option<(&Config, (bool, u32))> = None;
        let mut found = Vec::new();
        for (_, _, config) in sources {
            let topics = resolve(&asker(config)?, config)?;
            for (topic, count) in &topics {
                if lead.as_ref().is_none_or(|(_, most)| count > most) {
                    lead = Some((topic.clone(), *count));
                }
                let rank = (!config.starts_apart, *count);
                if !config.is_repartition && declared.is_none_or(|(_, best)| rank > best) {
                    declared = Some((config, rank));
                }
            }
            found.push(topics);
        }
        let (Some((topic, partitions)), Some((config, _))) = (lead, declared) else { return Ok(None) };
        let config = config.clone();
        let (mut places, mut kept) = (Vec::new(), Vec::new());
        for ((index, node, theirs), topics) in sources.iter().zip(found) {
            // Tasks that read a repartition topic are the group's as all others.
            if theirs.group != config.group && !theirs.is_repartition {
                continue;
            }
            kept.push(*node);
            places.resize_with(places.len().max(index + 1), Vec::new);
            let of_topic = |(topic, count): (String, u32)| (0..count as i32).map(move |partition| (topic.clone(), partition));
            places[*index] = topics.into_iter().flat_map(of_topic).collect();
        }
        Ok(Some(Self { config, topic, partitions, sources: kept, places }))
    }

    /// The tasks that go with a partition of the lead topic.
    pub fn tasks_of(&self, partition: i32, tasks: u32) -> impl Iterator<Item = u32> + use<> {
        (partition.unsigned_abs()..tasks).step_by(self.partitions.max(1) as usize)
    }

    /// The offsets that these ends of epochs are: the last one counts.
    pub fn offsets<'a>(&self, ends: impl Iterator<Item = &'a Stop>) -> Result<TopicPartitionList> {
        let last: BTreeMap<(usize, u32), i64> = ends.map(|end| ((end.source, end.partition), end.offset)).collect();
        let mut list = TopicPartitionList::new();
        for ((source, partition), offset) in last {
            let Some((topic, partition)) = self.places.get(source).and_then(|of| of.get(partition as usize)) else { continue };
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(offset));
            added.map_err(|e| classify(&e, &format!("offset {offset} of topic '{topic}'")))?;
        }
        Ok(list)
    }

    /// The partitions of these places (source, partition), where their offsets are kept under this group.
    pub fn inputs<'a>(&self, places: impl Iterator<Item = &'a (usize, u32)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (source, partition) in places {
            if let Some((topic, partition)) = self.places.get(*source).and_then(|of| of.get(*partition as usize)) {
                list.add_partition(topic, *partition);
            }
        }
        list
    }

    /// An error of the group's.
    pub fn error(&self, error: &rdkafka::error::KafkaError, what: &str) -> Error {
        classify(error, &format!("{what} (group '{}' at {})", self.config.group, self.config.brokers))
    }
}
