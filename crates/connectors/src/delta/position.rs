//! Places in a table, as offsets that grow: a version, and a row in it.
//!
//! A version is read in one of two ways: all rows that the table has at it (its snapshot), or those that it added (its
//! changes). A position names version, way and the ordinal of a row. What a version holds never changes, whatever happens to the
//! table afterwards; so a position names the same row for ever.
//!
//! Behind the last row of a version stands the first of the changes of the next one: there is one position for a place.

use riverrun_engine::{Error, Result};

const ROW_BITS: u32 = 35;
const ROWS: i64 = 1 << ROW_BITS;
/// As many bits as are left beside the sign and the way.
const VERSIONS: i64 = 1 << (62 - ROW_BITS);

/// A place in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub version: u64,
    /// Whether in the rows that the version added; else in all that the table has at it.
    pub changes: bool,
    pub row: u64,
}

impl Position {
    /// The first row of a version's snapshot.
    pub const fn snapshot(version: u64) -> Self {
        Self { version, changes: false, row: 0 }
    }

    /// The first row that a version added.
    pub const fn changes(version: u64) -> Self {
        Self { version, changes: true, row: 0 }
    }

    /// The place behind a version.
    pub const fn behind(self) -> Self {
        Self::changes(self.version + 1)
    }

    /// As an offset.
    ///
    /// # Errors
    /// More rows or versions than an offset can name.
    pub fn offset(self) -> Result<i64> {
        let (version, row) = (i64::try_from(self.version).ok(), i64::try_from(self.row).ok());
        match (version.filter(|version| *version < VERSIONS), row.filter(|row| *row < ROWS)) {
            (Some(version), Some(row)) => Ok((version << 1 | i64::from(self.changes)) << ROW_BITS | row),
            _ => Err(Error::permanent(format!(
                "version {}, row {}: at most {VERSIONS} versions of {ROWS} rows each can be read",
                self.version, self.row
            ))),
        }
    }

    /// What an offset names; `None`: nothing.
    pub fn of(offset: i64) -> Option<Self> {
        let offset = u64::try_from(offset).ok()?;
        let row = offset & (ROWS.unsigned_abs() - 1);
        Some(Self { version: offset >> (ROW_BITS + 1), changes: offset >> ROW_BITS & 1 == 1, row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_grow_as_positions_do_and_name_them() {
        let last = Position { version: VERSIONS.unsigned_abs() - 1, changes: true, row: ROWS.unsigned_abs() - 1 };
        let all = [
            Position::snapshot(0),
            Position { row: 7, ..Position::snapshot(0) },
            Position::changes(0),
            Position { row: 7, ..Position::snapshot(5) },
            Position::snapshot(5).behind(),
            last,
        ];
        let offsets = all.map(|position| position.offset().unwrap());
        assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
        assert_eq!(offsets.map(|offset| Position::of(offset).unwrap()), all);
        assert_eq!((offsets[0], offsets[5]), (0, i64::MAX));
        assert!(last.behind().offset().is_err() && Position { row: last.row + 1, ..last }.offset().is_err());
        assert_eq!(Position::of(-1), None);
    }
}
