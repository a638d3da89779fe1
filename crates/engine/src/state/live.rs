//! Which rows of a segment are live: one bit per row, and their count.
//!
//! Invariant: rows only die. A segment keeps its rows as they are for its whole life, so this is all of it that changes.

use crate::{Error, Result};

/// The live rows of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    words: Vec<u64>,
    rows: usize,
    count: usize,
}

impl Live {
    /// All of `rows` rows.
    pub fn all(rows: usize) -> Self {
        let mut words = vec![u64::MAX; rows.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (words.last_mut(), rows % 64) {
            *last = (1 << rest) - 1;
        }
        Self { words, rows, count: rows }
    }

    /// One more row, live, behind the others.
    pub fn push(&mut self) {
        if self.rows.is_multiple_of(64) {
            self.words.push(0);
        }
        self.words[self.rows / 64] |= 1 << (self.rows % 64);
        self.rows += 1;
        self.count += 1;
    }

    /// Row `row` dies. Whether it lived.
    pub fn clear(&mut self, row: u32) -> bool {
        let (word, bit) = (row as usize / 64, 1u64 << (row % 64));
        match self.words.get_mut(word) {
            Some(bits) if *bits & bit != 0 => {
                *bits &= !bit;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// How many rows live.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether no more than half of the rows live.
    pub fn is_mostly_dead(&self) -> bool {
        self.count * 2 <= self.rows
    }

    /// The live rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(word, bits)| {
            let mut bits = *bits;
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (bit < 64).then(|| word as u32 * 64 + bit)
            })
        })
    }

    /// Bytes in memory, about.
    pub fn bytes(&self) -> usize {
        8 * self.words.capacity()
    }

    /// The bits for a checkpoint, least first; `None` where all rows live.
    pub fn save(&self) -> Option<Vec<u8>> {
        let bytes = || self.words.iter().flat_map(|word| word.to_le_bytes()).take(self.rows.div_ceil(8)).collect();
        (self.count < self.rows).then(bytes)
    }

    /// What [`save`](Live::save) gave of `rows` rows.
    ///
    /// # Errors
    /// The bits are of another number of rows.
    pub fn restore(rows: usize, bits: Option<&[u8]>) -> Result<Self> {
        let Some(bits) = bits else { return Ok(Self::all(rows)) };
        if bits.len() != rows.div_ceil(8) {
            return Err(Error::permanent(format!("{} bytes of bits for the live ones of {rows} rows", bits.len())));
        }
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let words: Vec<u64> = bits.chunks(8).map(word).collect();
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        Ok(Self { words, rows, count })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_equal_a_list_of_flags(rows in 0usize..200, pushed in 0usize..70, dead in prop::collection::vec(0u32..300, 0..80)) {
            let mut live = Live::all(rows);
            (0..pushed).for_each(|_| live.push());
            let mut model = vec![true; rows + pushed];
            for row in dead {
                let lived = model.get_mut(row as usize).is_some_and(|flag| std::mem::replace(flag, false));
                prop_assert_eq!(live.clear(row), lived);
            }
            let expected: Vec<u32> = (0..).zip(&model).filter(|(_, flag)| **flag).map(|(row, _)| row).collect();
            prop_assert_eq!(live.count(), expected.len());
            prop_assert_eq!(live.iter().collect::<Vec<_>>(), expected);
            prop_assert_eq!(&Live::restore(rows + pushed, live.save().as_deref()).unwrap(), &live);
        }
    }

    #[test]
    fn bits_of_another_number_of_rows_are_refused() {
        assert!(Live::restore(9, Some(&[1])).is_err());
    }
}
