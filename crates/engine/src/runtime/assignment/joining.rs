//! Joining the instances of a pipeline.

use std::time::Duration;

use crate::journal::Genesis;
use crate::membership::{Change, Membership};
use crate::runtime::open::Opening;
use crate::time::Micros;
use crate::{Error, Result};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// Joins the instances of a pipeline: waits until its life has begun, or begins it if this instance has the first task: a
/// `known` one, which no other is taken for, or a new one of this name. Gives how it began, and the changes that were told
/// meanwhile.
pub fn await_genesis(
    opening: &Opening,
    (lineage, known): (&str, Option<Genesis>),
    members: &mut dyn Membership,
    begin: &mut dyn FnMut(&Genesis) -> Result<()>,
) -> Result<(Genesis, Vec<Change>)> {
    /// A group's first rebalance takes seconds, an owner of the first task that died some more.
    const PATIENCE: Micros = 120_000_000;
    let clock = &opening.shared.clock;
    let (since, mut told, mut first) = (clock.now(), Vec::new(), false);
    loop {
        for change in members.poll()? {
            match &change {
                Change::Assigned(tasks) => first |= tasks.contains(&0),
                Change::Revoked(tasks) | Change::Lost(tasks) => first &= !tasks.contains(&0),
            }
            told.push(change);
        }
        let mut attempt = || -> Result<Option<Genesis>> {
            let wanted = |found: &Genesis| known.as_ref().is_none_or(|known| known.lineage == found.lineage);
            if let Some(genesis) = members.genesis()?.filter(wanted) {
                return Ok(Some(genesis));
            }
            if !first {
                return Ok(None);
            }
            let genesis = known.clone().map_or_else(|| opening.begin(lineage), Ok)?;
            begin(&genesis)?;
            Ok(Some(genesis))
        };
        match attempt() {
            Ok(Some(genesis)) => return Ok((genesis, told)),
            Ok(None) => {}
            Err(error) if error.is_transient() => tracing::debug!(%error, "the pipeline's beginning"),
            Err(error) => return Err(error),
        }
        if clock.now() - since > PATIENCE {
            let what = "no instance has begun the pipeline, and its first task was not given to this one";
            return Err(Error::transient(what).hint("is another instance stuck? See its log, or stop it"));
        }
        clock.sleep(LOOK);
    }
}
