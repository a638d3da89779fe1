//! Partitions of the lead topic that the group has given to nobody.
//!
//! A cooperative rebalance takes partitions from one member in a first round and gives them to another in a second one (KIP-429). A
//! static member that dies in between and is back in time gets what the first round left it (KIP-345): for the brokers all is as it
//! was, the second round never comes, and nobody reads those partitions. So each instance looks while nothing changes; who finds
//! some leaves the group and joins it anew, and the group shares out all of them again. Who has no tasks does so first, for it has
//! nothing to interrupt.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::groups::GroupInfo;
use riverrun_engine::time::Stopwatch;

use super::group::Group;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many looks in a row must find the same: longer than an instance may take to give up what the first round took from it.
const SURE: u32 = 4;

/// Whoever has tasks leaves it to others for so many looks.
const LEFT_TO_OTHERS: u32 = 7;

/// Looks for partitions that nobody has.
pub(super) struct Orphans {
    looked: Stopwatch,
    /// How many looks in a row found some.
    found: u32,
}

impl Orphans {
    pub fn new() -> Self {
        Self { looked: Stopwatch::start(), found: 0 }
    }

    /// Something changes: what was found counts no more.
    pub fn forget(&mut self) {
        *self = Self::new();
    }

    /// Whether this instance is to join anew, for the sake of partitions that nobody has. Looks now and then; what cannot be told is
    /// asked again.
    pub fn are_to_be_shared_out<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        group: &Group,
        has_tasks: bool,
    ) -> bool {
        if Duration::from_nanos(self.looked.nanos()) < LOOK {
            return false;
        }
        self.looked = Stopwatch::start();
        let listed = consumer.fetch_group_list(Some(&group.config.group), PATIENCE);
        let count = |info: &GroupInfo| (info.state() == "Stable").then(|| given(info, &group.topic).len());
        match listed.as_ref().ok().and_then(|listed| listed.groups().first()).and_then(count) {
            Some(given) if given < group.partitions as usize => self.found += 1,
            _ => self.found = 0,
        }
        self.found >= if has_tasks { LEFT_TO_OTHERS } else { SURE }
    }
}

/// The partitions of a topic that members of a group have.
fn given(info: &GroupInfo, topic: &str) -> BTreeSet<i32> {
    info.members().iter().filter_map(|member| partitions(member.assignment()?, topic)).flatten().collect()
}

/// The partitions of a topic in a member's assignment: Kafka's consumer protocol, `version, [topic, [partition]], user data`, all
/// numbers big-endian. `None`: it is something else.
fn partitions(assignment: &[u8], topic: &str) -> Option<Vec<i32>> {
    let mut rest = assignment.get(2..)?;
    let mut take = |bytes: usize| {
        let (taken, left) = rest.split_at_checked(bytes)?;
        rest = left;
        Some(taken)
    };
    let mut found = Vec::new();
    for _ in 0..i32::from_be_bytes(take(4)?.try_into().ok()?) {
        let length = usize::try_from(i16::from_be_bytes(take(2)?.try_into().ok()?)).ok()?;
        let is_it = take(length)? == topic.as_bytes();
        for _ in 0..i32::from_be_bytes(take(4)?.try_into().ok()?) {
            let partition = i32::from_be_bytes(take(4)?.try_into().ok()?);
            found.extend(is_it.then_some(partition));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_tells_the_partitions_of_each_topic() {
        let mut assignment = vec![0, 1, 0, 0, 0, 2];
        for (topic, partitions) in [("other", vec![7]), ("lead", vec![0, 2])] {
            assignment.extend((topic.len() as i16).to_be_bytes());
            assignment.extend(topic.as_bytes());
            assignment.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|partition: &i32| assignment.extend(partition.to_be_bytes()));
        }
        assignment.extend([0, 0, 0, 0]);
        assert_eq!(partitions(&assignment, "lead"), Some(vec![0, 2]));
        assert_eq!(partitions(&assignment, "absent"), Some(vec![]));
        assert_eq!(partitions(&assignment[..20], "lead"), None, "cut off");
    }
}
