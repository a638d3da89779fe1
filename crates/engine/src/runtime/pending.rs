//! The outputs in a checkpoint that its sinks had not made safe: whose they are, when a pipeline goes on from it.

use super::open::Opening;
use crate::checkpoint::{Checkpoint, Packed, Pending};
use crate::graph::SinkNode;
use crate::{Error, Result};

/// By a sink's place among the graph's sinks: outputs, in order of epochs.
pub type Owed = Vec<(usize, Vec<Packed>)>;

impl Opening {
    /// Takes the outputs out of a checkpoint, and says which sink of this graph each is for: the one of the same table, if its
    /// columns are the same.
    ///
    /// # Errors
    /// There is none, and rows are not to be dropped: the script has changed.
    pub(super) fn owed(&self, checkpoint: &mut Checkpoint) -> Result<Owed> {
        let mut owed = Owed::new();
        for Pending { sink, parts } in std::mem::take(&mut checkpoint.pending) {
            let outputs = parts.iter().map(|part| Packed::pack(&part.outputs)).collect::<Result<Vec<_>>>()?;
            match self.sink_of(&sink, &outputs) {
                Ok(place) => owed.push((place, outputs)),
                Err(why) => {
                    let rows: usize = outputs.iter().map(Packed::rows).sum();
                    let what = format!("the checkpoint holds {rows} rows that sink {sink} had not taken yet, and {why}");
                    if !self.shared.settings.drop_state {
                        return Err(Error::invalid(what).hint(format!(
                            "restore {sink} as it was and let it run until it stops in order (Ctrl-C, SIGTERM); or start with --drop-state: those rows are lost then"
                        )));
                    }
                    tracing::warn!(event = "outputs_dropped", "{what}: they are dropped");
                }
            }
        }
        Ok(owed)
    }

    /// The place of the sink that takes these outputs, or why there is none.
    fn sink_of(&self, table: &str, outputs: &[Packed]) -> Result<usize, String> {
        let place = self.graph.sinks().position(|(_, sink)| sink.table.name == table);
        let Some((place, (_, sink))) = place.and_then(|place| Some((place, self.graph.sinks().nth(place)?))) else {
            return Err("the script does not write to it any more".into());
        };
        if self.shared.commits.as_ref().is_some_and(|commits| commits.takes[place]) {
            return Err("it is on the journal's bus now, where they cannot be added".into());
        }
        match outputs.iter().all(|outputs| fits(outputs, sink)) {
            true => Ok(place),
            false => Err("it has other columns now".into()),
        }
    }
}

fn fits(outputs: &Packed, sink: &SinkNode) -> bool {
    let (then, now) = (outputs.columns(), sink.schema.fields());
    let same = then.iter().zip(now).all(|(then, now)| (then.name(), then.data_type()) == (now.name(), now.data_type()));
    then.len() == now.len() && same
}
