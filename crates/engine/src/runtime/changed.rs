//! A script that was changed since its last run: what its operators take up of the state that was kept, and how its life goes on.
//!
//! Invariant: nothing is dropped from the journal before it is known that the checkpoints hold all of it and that the new
//! script can take up what they hold.

use std::sync::atomic::Ordering::Relaxed;

use super::adopt::{Kept, Wanted, adopt};
use super::dataflow::Dataflow;
use super::open::Opening;
use super::recovery::FoundTask;
use crate::checkpoint::{Checkpoint, MadeBy, Operator};
use crate::journal::{Genesis, Stop};
use crate::membership::{Change, Membership};
use crate::state::Backend;
use crate::time::Micros;
use crate::{Error, Result};

impl Opening {
    /// The checkpoint with the state that operators of this graph take up, each in its place.
    ///
    /// # Errors
    /// State would be lost, and that is not wanted.
    pub(super) fn adopted(&self, task: usize, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
        let Some(MadeBy { graph, operators }) = checkpoint.made_by.take() else { return Ok(checkpoint) };
        if graph == self.digest {
            return Ok(checkpoint);
        }
        self.check_exchanges(task, &operators)?;
        let states = checkpoint.states.into_iter().zip(operators);
        let kept = states.map(|((_, parts), Operator { name, identity })| Kept { name, identity, parts }).collect();
        // Which operators keep state they tell by giving some, empty as they are.
        let stateful = Dataflow::new(&self.graph, &self.layout, task, self.shared.stats.clone(), &Backend::Memory)?.snapshot()?;
        let wanted = stateful.iter().map(|(node, _)| {
            let of = &self.graph.nodes[*node];
            Wanted { node: *node, name: &of.name, identity: &of.identity }
        });
        let adopted = adopt(kept, &wanted.collect::<Vec<_>>(), self.shared.settings.drop_state)?;
        // Where instances share the tasks, this is asked before any is taken, and again with each.
        if !self.told_changed.swap(true, Relaxed) {
            let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let (kept, new, gone) = (adopted.states.len(), list(&adopted.new), list(&adopted.gone));
            tracing::info!(
                event = "script_changed",
                "the script has changed: {kept} operators go on with their state; beginning with empty state: {new}; dropped: {gone}"
            );
        }
        checkpoint.states = adopted.states;
        Ok(checkpoint)
    }
}

impl Opening {
    /// What lies in a repartition topic is known to fit only where the script before had the same one.
    fn check_exchanges(&self, task: usize, before: &[Operator]) -> Result<()> {
        let stages = self.graph.stages();
        let ends = self.graph.exchanges().iter().flat_map(|exchange| [exchange.scatter, exchange.gather]);
        let known = |node: &usize| before.iter().any(|operator| operator.identity == self.graph.nodes[*node].identity);
        match ends.filter(|node| stages[*node] == self.layout.stage_of(task)).find(|node| !known(node)) {
            None => Ok(()),
            Some(node) => {
                let what = format!("the script has changed what is repartitioned: {}", self.graph.nodes[node].name);
                Err(Error::invalid(what).hint("SET another pipeline.name to begin with empty state, or restore the query"))
            }
        }
    }
}

/// The life of a pipeline that instances share goes on with a changed script: once this instance has all tasks, for others
/// would go on with the script as it was. `began`: how it began, and the changes that were told so far.
///
/// # Errors
/// Others have tasks; or the checkpoints do not hold all that was recorded; or state would be lost.
pub fn change_script(
    opening: &Opening,
    began: &mut (Genesis, Vec<Change>),
    members: &mut dyn Membership,
    begin: &mut dyn FnMut(&Genesis) -> Result<()>,
) -> Result<()> {
    /// A group's rebalance takes seconds, an instance that died some more.
    const PATIENCE: Micros = 60_000_000;
    const LOOK: std::time::Duration = std::time::Duration::from_millis(50);
    let (clock, all): (_, Vec<u32>) = (&opening.shared.clock, (0..opening.layout.tasks() as u32).collect());
    let (since, mut assigned) = (clock.now(), std::collections::BTreeSet::new());
    let mut changes = began.1.clone();
    let records = loop {
        for change in changes.drain(..) {
            match change {
                Change::Assigned(tasks) => assigned.extend(tasks),
                Change::Revoked(tasks) => {
                    assigned.retain(|task| !tasks.contains(task));
                    members.release(&tasks)?;
                }
                Change::Lost(tasks) => assigned.retain(|task| !tasks.contains(task)),
            }
        }
        if assigned.len() == all.len() {
            match members.take(&all, &began.0) {
                Ok(records) => break records,
                Err(error) if error.is_transient() => tracing::debug!(%error, "the changed script"),
                Err(error) => return Err(error),
            }
        }
        if clock.now() - since > PATIENCE {
            let what = "the script has changed, and other instances run it as it was";
            return Err(Error::invalid(what).hint("stop them first, then start all with the changed script"));
        }
        clock.sleep(LOOK);
        changes = members.poll()?;
    };
    let mut starts = Vec::new();
    for (task, records) in records.iter().enumerate() {
        let mut checkpoint = opening.checkpoint(task)?;
        checkpoint.as_mut().map(|checkpoint| opening.owed(checkpoint)).transpose()?;
        let known = checkpoint.as_ref().map(|c| (c.epoch, c.lineage.as_deref()));
        opening.found(Some(&began.0)).repeats(FoundTask { task, checkpoint: known, records })?;
        if checkpoint.is_none() && !opening.graph.exchanges().is_empty() {
            let what = format!("the script has changed, and task {task} has no checkpoint yet");
            return Err(Error::invalid(what).hint("run the script as it was until it has made checkpoints, then this one"));
        }
        for place in &opening.layout.places[task] {
            let (_, offset) = opening.first(*place, checkpoint.as_ref(), Some(&began.0))?;
            starts.push(Stop { source: place.0, partition: place.1, offset });
        }
        checkpoint.map(|checkpoint| opening.adopted(task, checkpoint)).transpose()?;
    }
    began.0 = opening.genesis(&began.0.lineage, starts);
    begin(&began.0)?;
    began.1 = vec![Change::Assigned(all)];
    Ok(())
}
