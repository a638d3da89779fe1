//! Which state of a checkpoint goes to which operator of a script that may have changed since. Pure.
//!
//! An operator is known by its identity: its own work and all that feeds it ([`Node::identity`](crate::graph::Node)), not by its
//! place. So a query that was added or removed elsewhere costs no other query its state. State that would be lost is refused
//! unless that is wanted: a query that changed would begin anew in silence, a line that was deleted by mistake cost its past.

use crate::graph::NodeId;
use crate::operator::StatePart;
use crate::{Error, Result};

/// State in a checkpoint.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The name of the operator that it is of.
    pub name: String,
    /// What that operator computed.
    pub identity: String,
    /// The state.
    pub parts: Vec<StatePart>,
}

/// An operator with state, of the graph that is to run.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its place.
    pub node: NodeId,
    /// Its name.
    pub name: &'a str,
    /// What it computes.
    pub identity: &'a str,
}

/// What goes where.
#[derive(Debug, Default)]
pub struct Adopted {
    /// State by node.
    pub states: Vec<(NodeId, Vec<StatePart>)>,
    /// Operators that begin with empty state, by name.
    pub new: Vec<String>,
    /// Operators whose state nobody takes, by name.
    pub gone: Vec<String>,
}

/// Gives each operator its state. With `drop` state that nobody takes is let go.
///
/// # Errors
/// Without `drop`: some operator that has state changed, or is not there any more.
pub fn adopt(kept: Vec<Kept>, wanted: &[Wanted<'_>], drop: bool) -> Result<Adopted> {
    let mut kept: Vec<Option<Kept>> = kept.into_iter().map(Some).collect();
    let mut adopted = Adopted::default();
    let mut missing = Vec::new();
    for operator in wanted {
        let same = |k: &&mut Option<Kept>| k.as_ref().is_some_and(|k| k.identity == operator.identity);
        match kept.iter_mut().find(same).and_then(Option::take) {
            Some(Kept { parts, .. }) => adopted.states.push((operator.node, parts)),
            None => missing.push(operator.name),
        }
    }
    adopted.gone = kept.into_iter().flatten().map(|k| k.name).collect();
    if !drop && let Some(gone) = adopted.gone.first() {
        let what = match missing.contains(&gone.as_str()) {
            true => format!("the state of {gone} is of another query than the script has now"),
            false => format!("there is state of {gone}, which the script does not have"),
        };
        let view = gone.split_once('.').map_or(gone.as_str(), |(view, _)| view);
        return Err(Error::invalid(what).hint(format!(
            "restore {view} and what it reads as they were; or start with --drop-state: what the script no longer has is \
             forgotten, what changed begins with empty state, all else goes on"
        )));
    }
    adopted.new = missing.into_iter().map(str::to_owned).collect();
    Ok(adopted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(operators: &[(&str, &str)]) -> Vec<Kept> {
        let of = |(name, identity): &(&str, &str)| Kept { name: (*name).into(), identity: (*identity).into(), parts: vec![] };
        operators.iter().map(of).collect()
    }

    /// The nodes that get state, the operators that begin with none, and those whose state nobody takes.
    type Decided = Result<(Vec<NodeId>, Vec<String>, Vec<String>), String>;

    fn decide(then: &[(&str, &str)], now: &[(&str, &str)], drop: bool) -> Decided {
        let wanted = now.iter().enumerate().map(|(node, (name, identity))| Wanted { node, name, identity });
        let adopted = adopt(kept(then), &wanted.collect::<Vec<_>>(), drop).map_err(|e| e.message().to_owned())?;
        Ok((adopted.states.into_iter().map(|(node, _)| node).collect(), adopted.new, adopted.gone))
    }

    #[test]
    fn state_goes_by_identity_wherever_the_operator_stands() {
        let then = [("a.over", "1"), ("b.aggregate", "2")];
        assert_eq!(decide(&then, &then, false), Ok((vec![0, 1], vec![], vec![])));
        let now = [("c.over", "3"), ("renamed.aggregate", "2"), ("a.over", "1")];
        assert_eq!(decide(&then, &now, false), Ok((vec![1, 2], vec!["c.over".into()], vec![])));
        assert_eq!(decide(&then, &now[..2], true), Ok((vec![1], vec!["c.over".into()], vec!["a.over".into()])));
    }

    #[test]
    fn equal_operators_get_one_state_each() {
        let then = [("a.over", "1"), ("a.over_2", "1")];
        assert_eq!(decide(&then, &then, false), Ok((vec![0, 1], vec![], vec![])));
        assert_eq!(decide(&then[..1], &then, false), Ok((vec![0], vec!["a.over_2".into()], vec![])));
    }

    #[test]
    fn state_is_let_go_only_if_that_is_wanted() {
        let (then, changed) = ([("a.over", "1")], [("a.over", "2")]);
        let refused = decide(&then, &changed, false);
        assert_eq!(refused, Err("the state of a.over is of another query than the script has now".into()));
        assert_eq!(decide(&then, &changed, true), Ok((vec![], vec!["a.over".into()], vec!["a.over".into()])));
        assert_eq!(decide(&then, &[], false), Err("there is state of a.over, which the script does not have".into()));
        assert_eq!(decide(&then, &[], true), Ok((vec![], vec![], vec!["a.over".into()])));
    }
}
