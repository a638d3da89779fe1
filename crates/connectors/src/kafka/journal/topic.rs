//! Topics that are a pipeline's own, the journal's and those of repartitions: created as they must be, looked at before they are
//! used, cut off at their beginning.

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::Offset;
use riverrun_engine::time::Stopwatch;
use riverrun_engine::{Error, Result};

use crate::kafka::client::{Callbacks, classify};
use crate::kafka::config::Config;
use crate::kafka::topic::{admin, asker, await_created, block_on, create, partitions};

/// What such a topic must be set to: nothing goes that we have not cut off, and no replica leads that lacks records.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("unclean.leader.election.enable", "false"),
];

/// How long nothing is removed after that failed, in nanoseconds: commits wait for the brokers' answer meanwhile.
const LEFT_ALONE: u64 = 30_000_000_000;

/// The topic, for its administration.
pub(super) struct OwnTopic {
    pub name: String,
    config: Config,
    admin: AdminClient<Callbacks>,
    options: AdminOptions,
    /// Whether its settings were looked at.
    looked: bool,
    /// Whether it was told that it cannot be cut off.
    told: bool,
    /// Since it could not be cut off.
    failed: Option<Stopwatch>,
}

impl OwnTopic {
    pub fn new(name: String, config: &Config) -> Result<Self> {
        let (admin, options) = admin(config)?;
        Ok(Self { name, config: config.clone(), admin, options, looked: false, told: false, failed: None })
    }

    /// How many partitions it has, if it is there. The first time its settings are looked at.
    pub fn find(&mut self) -> Result<Option<i32>> {
        let Some(count) = partitions(&asker(&self.config)?, &self.config, &self.name)? else { return Ok(None) };
        if !self.looked {
            let what = ResourceSpecifier::Topic(&self.name);
            match block_on(self.admin.describe_configs([&what], &self.options)).map(|all| all.into_iter().next()) {
                Ok(Some(Ok(found))) => self.verify(&found)?,
                Ok(Some(Err(code))) => self.tell_unknown(&code.to_string()),
                Ok(None) => self.tell_unknown("no answer"),
                Err(error) => self.tell_unknown(&error.to_string()),
            }
            self.looked = true;
        }
        Ok(Some(count as i32))
    }

    fn verify(&self, found: &ConfigResource) -> Result<()> {
        for (name, value) in SETTINGS {
            let is = found.get(name).and_then(|entry| entry.value.as_deref());
            if is.is_some_and(|is| is != value) {
                let what = format!("topic '{}' has {name}={}, and needs {name}={value}", self.name, is.unwrap_or_default());
                return Err(Error::permanent(what).hint("set it back (kafka-configs.sh --alter), if no record is lost yet"));
            }
        }
        Ok(())
    }

    fn tell_unknown(&self, why: &str) {
        let wanted: Vec<_> = SETTINGS.iter().map(|(name, value)| format!("{name}={value}")).collect();
        tracing::warn!("topic '{}' cannot be looked at ({why}); it should have {}", self.name, wanted.join(", "));
    }

    /// Makes sure that it is there with partitions for so many tasks.
    pub fn ensure(&mut self, tasks: u32) -> Result<()> {
        let needed = tasks as i32 + 1;
        match self.find()? {
            None => create(&self.config, &self.name, needed, &SETTINGS.map(|(name, value)| (name, value.to_owned()))),
            Some(count) if count >= needed => Ok(()),
            Some(count) => {
                let what = format!("topic '{}' has {count} partitions, and {tasks} tasks need {needed}", self.name);
                Err(Error::permanent(what)
                    .hint("it is of an earlier life of the pipeline: delete it, or use another pipeline.name"))
            }
        }
    }

    /// Makes sure that it is there as a repartition topic, with as many partitions as its options say.
    pub fn ensure_partitions(&mut self) -> Result<()> {
        let said = self.config.partitions;
        let count = match self.find()? {
            Some(count) => count,
            None => {
                create(&self.config, &self.name, said, &SETTINGS.map(|(name, value)| (name, value.to_owned())))?;
                await_created(&asker(&self.config)?, &self.config, &self.name)? as i32
            }
        };
        if count == said {
            return Ok(());
        }
        let what = format!("topic '{}' has {count} partitions, and repartition.partitions is {said}", self.name);
        Err(Error::invalid(what).hint(format!(
            "keys would move between tasks: SET repartition.partitions = '{count}', or another pipeline.name to begin anew"
        )))
    }

    /// Removes what stands before these offsets, by partition. What cannot be removed stays until a later call, which is told
    /// once.
    pub fn cut(&mut self, before: &[(i32, i64)]) {
        if before.is_empty() || self.failed.as_ref().is_some_and(|since| since.nanos() < LEFT_ALONE) {
            return;
        }
        self.failed = None;
        if let Err(error) = self.delete(before) {
            match self.told {
                true => tracing::debug!("{error}"),
                false => tracing::warn!("{error}; the pipeline goes on, and the topic grows"),
            }
            (self.told, self.failed) = (true, Some(Stopwatch::start()));
        }
    }

    fn delete(&self, before: &[(i32, i64)]) -> Result<()> {
        let what = format!("old records of topic '{}' are not removed", self.name);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in before {
            let added = list.add_partition_offset(&self.name, *partition, Offset::Offset(*offset));
            added.map_err(|e| classify(&e, &what))?;
        }
        let done = block_on(self.admin.delete_records(&list, &self.options)).map_err(|e| match e {
            KafkaError::AdminOp(code) => classify(&KafkaError::Global(code), &what),
            error => classify(&error, &what),
        })?;
        match done.elements().iter().find_map(|partition| partition.error().err()) {
            // Gone already.
            Some(error) if error.rdkafka_error_code() == Some(Code::OffsetOutOfRange) => Ok(()),
            Some(error) => Err(classify(&error, &what)),
            None => Ok(()),
        }
    }
}
