//! Bad records, given again to the place that they came from: the contract of a connector that can.
//!
//! Invariant: a record and the mark that it was given become visible together, so that whoever asks for the marks gives nothing
//! twice, whatever crashed.

use std::collections::HashSet;

use riverrun_engine::Result;
use riverrun_engine::dead_letter::DeadLetter;
use riverrun_engine::source::Header;

/// The header that a record has which was given again: where it stood before.
pub const REPLAYED_FROM: &str = "riverrun-replayed-from";

/// Gives bad records of one table to it again.
pub trait Redelivery: Send {
    /// From now on only this one gives: whoever gave before can give nothing any more, and what they gave is known. Not asked
    /// for where it is only looked what there is.
    ///
    /// # Errors
    /// The place cannot be reached.
    fn take_over(&mut self) -> Result<()>;

    /// The [`DeadLetter::id`]s of all records that were given again before.
    ///
    /// # Errors
    /// The place cannot be reached.
    fn given(&mut self) -> Result<HashSet<String>>;

    /// Whether this can be given again, as it was.
    fn takes(&self, letter: &DeadLetter) -> bool {
        !letter.is_cut()
    }

    /// Gives these again (once [taken over](Redelivery::take_over)), all or none: with their key, value, headers and time, to the partition where they stood.
    ///
    /// # Errors
    /// A partition is not there any more, or the place cannot be reached. Where it is not known whether they were given, the
    /// marks tell the next time.
    fn give(&mut self, letters: &[DeadLetter]) -> Result<()>;
}

/// The headers of a record that is given again: its own, and where it stood.
pub(crate) fn headers(letter: &DeadLetter) -> Vec<Header> {
    let own = letter.headers.iter().filter(|(name, _)| name != REPLAYED_FROM).cloned();
    own.chain([(REPLAYED_FROM.to_owned(), Some(letter.place().into()))]).collect()
}
