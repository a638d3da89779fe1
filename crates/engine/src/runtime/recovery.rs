//! What a start decides from what it finds: which epochs are run again, or why it must not go on. Pure; all reading and
//! writing is around it.
//!
//! Whatever cannot be told for sure is refused with what to do, never guessed.

use crate::journal::{Genesis, Record};
use crate::{Error, Result};

/// What is found of the pipeline.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Digest of the graph that is to run.
    pub graph: &'a str,
    /// How many tasks it has.
    pub tasks: u32,
    /// The journal's first entry.
    pub genesis: Option<&'a Genesis>,
}

/// What is found of one task.
#[derive(Debug, Clone, Copy)]
pub struct FoundTask<'a> {
    /// The task.
    pub task: usize,
    /// Epoch and lineage of its newest intact checkpoint. No lineage: it was made without a journal.
    pub checkpoint: Option<(u64, Option<&'a str>)>,
    /// What the journal holds of it.
    pub records: &'a [Record],
}

const BEGIN_ANEW: &str = "restore what is missing from a backup, or SET another pipeline.name to begin with empty state";

impl Found<'_> {
    /// Whether the journal is of as many tasks.
    pub fn check(&self) -> Result<()> {
        let Some(genesis) = self.genesis else { return Ok(()) };
        if genesis.tasks != self.tasks {
            let message = format!(
                "the journal is of {} tasks, this run has {}: a source's partition count changed, or repartition.partitions did",
                genesis.tasks, self.tasks
            );
            return Err(Error::invalid(message)
                .hint("keys have moved between partitions, so the state no longer fits: SET another pipeline.name, or restore the count"));
        }
        Ok(())
    }

    /// The number of the journal's last epoch of a task, and how many of its records, from its end, are to be run again.
    pub fn repeats(&self, found: FoundTask<'_>) -> Result<(u64, usize)> {
        let FoundTask { task, checkpoint, records } = found;
        let refuse = |message: String| Err(Error::permanent(format!("task {task}: {message}")).hint(BEGIN_ANEW));
        let begin = checkpoint.map_or(0, |(epoch, _)| epoch);
        match (self.genesis, checkpoint) {
            (None, Some((epoch, Some(lineage)))) => {
                return refuse(format!("there is a checkpoint of epoch {epoch} of {lineage}, and no journal"));
            }
            (Some(genesis), Some((_, Some(lineage)))) if genesis.lineage != lineage => {
                return refuse(format!("its checkpoint is of {lineage}, the journal of {}", genesis.lineage));
            }
            _ => {}
        }
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok((begin, 0)) };
        if first.epoch > begin + 1 {
            let (from, to) = (begin + 1, first.epoch - 1);
            return refuse(match checkpoint {
                Some(_) => {
                    format!("its newest intact checkpoint is of epoch {begin}, and the journal has no epochs {from} to {to}")
                }
                None => format!("it has no checkpoint, and the journal has no epochs {from} to {to}"),
            });
        }
        if last.epoch < begin {
            return refuse(format!("its checkpoint is of epoch {begin}, and the journal ends at epoch {}", last.epoch));
        }
        let again = last.epoch - begin;
        if again > 0 && self.genesis.is_some_and(|genesis| genesis.graph != self.graph) {
            let message = format!("task {task}: the script has changed, and {again} epochs are not in a checkpoint yet");
            return Err(Error::invalid(message).hint(
                "run the script as it was until it stops in order (Ctrl-C, SIGTERM), then this one; \
                 or SET another pipeline.name to begin with empty state",
            ));
        }
        Ok((last.epoch, again as usize))
    }
}

/// Whether a sink may go on: it holds no epoch that has not happened.
pub fn check_sink(sink: &str, held: &[u64], ends: &[u64]) -> Result<()> {
    (0..).zip(held.iter().zip(ends)).try_for_each(|(task, (held, end))| check_held(sink, task, *held, *end))
}

/// The same, of one task.
pub fn check_held(sink: &str, task: u32, held: u64, end: u64) -> Result<()> {
    if held > end {
        let message = format!("sink {sink} holds epoch {held} of task {task}, and the journal ends at epoch {end}");
        return Err(Error::permanent(message).hint(BEGIN_ANEW));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(epochs: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let record = |epoch| Record { task: 0, epoch, clock: 0, chunks: vec![], lifts: vec![], ended: vec![], rows: vec![] };
        epochs.map(record).collect()
    }

    fn decide(
        genesis: Option<&str>,
        checkpoint: Option<(u64, Option<&str>)>,
        records: &[Record],
    ) -> Result<(u64, usize), String> {
        let genesis = genesis.map(|lineage| Genesis {
            lineage: lineage.into(),
            graph: "g".into(),
            tasks: 1,
            starts: vec![],
            sources: vec![],
        });
        let found = Found { graph: "g", tasks: 1, genesis: genesis.as_ref() };
        found.check().map_err(|e| e.to_string())?;
        found.repeats(FoundTask { task: 0, checkpoint, records }).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn the_epochs_behind_the_checkpoint_are_repeated() {
        assert_eq!(decide(None, None, &[]), Ok((0, 0)), "a new pipeline");
        assert_eq!(decide(None, Some((7, None)), &[]), Ok((7, 0)), "a checkpoint that was made without a journal");
        assert_eq!(decide(Some("l"), None, &records(1..=4)), Ok((4, 4)), "no checkpoint yet");
        assert_eq!(decide(Some("l"), Some((3, Some("l"))), &records(2..=5)), Ok((5, 2)));
        assert_eq!(decide(Some("l"), Some((3, Some("l"))), &records(4..=5)), Ok((5, 2)));
        assert_eq!(decide(Some("l"), Some((5, Some("l"))), &records(1..=5)), Ok((5, 0)), "stopped in order");
        assert_eq!(decide(Some("l"), Some((5, Some("l"))), &[]), Ok((5, 0)), "all records were removed behind it");
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        let refusal = |genesis, checkpoint, records: &[Record]| decide(genesis, checkpoint, records).unwrap_err();
        assert_eq!(refusal(None, Some((7, Some("l"))), &[]), "task 0: there is a checkpoint of epoch 7 of l, and no journal");
        assert_eq!(refusal(Some("m"), Some((7, Some("l"))), &[]), "task 0: its checkpoint is of l, the journal of m");
        let gap = "task 0: its newest intact checkpoint is of epoch 3, and the journal has no epochs 4 to 5";
        assert_eq!(refusal(Some("l"), Some((3, Some("l"))), &records(6..=8)), gap);
        let missing = "task 0: it has no checkpoint, and the journal has no epochs 1 to 5";
        assert_eq!(refusal(Some("l"), None, &records(6..=8)), missing);
        let future = "task 0: its checkpoint is of epoch 9, and the journal ends at epoch 8";
        assert_eq!(refusal(Some("l"), Some((9, Some("l"))), &records(6..=8)), future);
        let sink = check_sink("lake", &[4, 6], &[4, 5]).unwrap_err();
        assert_eq!(sink.message(), "sink lake holds epoch 6 of task 1, and the journal ends at epoch 5");
        assert!(check_sink("lake", &[4, 5], &[4, 5]).is_ok());
    }

    #[test]
    fn a_journal_of_another_partition_count_is_refused_and_of_another_script_unless_all_is_in_checkpoints() {
        let genesis = Genesis { lineage: "l".into(), graph: "g".into(), tasks: 2, starts: vec![], sources: vec![] };
        let check = |graph, tasks| Found { graph, tasks, genesis: Some(&genesis) }.check().map_err(|e| e.message().to_owned());
        assert_eq!(check("g", 2), Ok(()));
        assert!(check("g", 3).unwrap_err().starts_with("the journal is of 2 tasks, this run has 3"));
        let repeats = |checkpoint, records: &[Record]| {
            let found = Found { graph: "h", tasks: 2, genesis: Some(&genesis) };
            let of_task = FoundTask { task: 0, checkpoint: Some((checkpoint, Some("l"))), records };
            found.repeats(of_task).map_err(|e| e.message().to_owned())
        };
        assert_eq!(repeats(5, &records(2..=5)), Ok((5, 0)));
        let refused = "task 0: the script has changed, and 2 epochs are not in a checkpoint yet";
        assert_eq!(repeats(3, &records(2..=5)).unwrap_err(), refused);
    }
}
