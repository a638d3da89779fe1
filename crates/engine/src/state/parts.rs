//! An operator's state as the parts of a checkpoint.
//!
//! Layout: the header, one row; then batches that change from one snapshot to the next, and must be small; then the numbered
//! parts, section after section. A section is what one structure keeps (the keys of a window, say), in segments; how many
//! there are is the operator's to know. The header holds the watermark, the next number, and of each numbered part its
//! number, its section, and the bits of its live rows: so a part's rows are written once, and its dead rows are told anew.
//!
//! Invariant: a number is given once in the life of an operator, restarts from its newest snapshot included, since the next
//! one to give is part of every snapshot.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder, Int64Array, ListArray, PrimitiveArray,
    PrimitiveBuilder, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Field, Int64Type, Schema, UInt32Type, UInt64Type};

use super::live::Live;
use crate::operator::{PartRows, StatePart};
use crate::time::Micros;
use crate::{Error, Result};

/// A state that is being taken.
#[derive(Debug)]
pub struct Snapshot<'a> {
    next: &'a mut u64,
    sections: u32,
    whole: Vec<StatePart>,
    numbered: Vec<StatePart>,
    of_section: PrimitiveBuilder<UInt32Type>,
    live: BinaryBuilder,
}

impl<'a> Snapshot<'a> {
    /// Nothing yet; `next` is the first number to give, and afterwards the next one.
    pub fn new(next: &'a mut u64) -> Self {
        let (of_section, live) = (PrimitiveBuilder::new(), BinaryBuilder::new());
        Self { next, sections: 0, whole: Vec::new(), numbered: Vec::new(), of_section, live }
    }

    /// Adds a batch that is written with every checkpoint.
    pub fn whole(&mut self, rows: RecordBatch) {
        self.whole.push(StatePart::whole(rows));
    }

    /// Begins the next section.
    pub fn section(&mut self) {
        self.sections += 1;
    }

    /// Adds a part to the section at hand: rows that never change, of which these are live. It gets a number if it has none.
    pub fn part(&mut self, number: &mut Option<u64>, rows: impl Into<PartRows>, live: &Live) {
        let number = *number.get_or_insert_with(|| {
            *self.next += 1;
            *self.next - 1
        });
        self.numbered.push(StatePart { number: Some(number), rows: rows.into() });
        self.of_section.append_value(self.sections.saturating_sub(1));
        self.live.append_option(live.save());
    }

    /// All parts, the header first.
    pub fn finish(mut self, watermark: Micros) -> Result<Vec<StatePart>> {
        let numbers: UInt64Array = self.numbered.iter().map(|part| part.number).collect();
        let columns: [(&str, ArrayRef); 6] = [
            ("watermark", Arc::new(Int64Array::from(vec![watermark]))),
            ("next", Arc::new(UInt64Array::from(vec![*self.next]))),
            ("sections", Arc::new(UInt32Array::from(vec![self.sections]))),
            ("number", Arc::new(list(Arc::new(numbers))?)),
            ("section", Arc::new(list(Arc::new(self.of_section.finish()))?)),
            ("live", Arc::new(list(Arc::new(self.live.finish()))?)),
        ];
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), false));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let header = RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())?;
        let mut parts = vec![StatePart::whole(header)];
        parts.append(&mut self.whole);
        parts.append(&mut self.numbered);
        Ok(parts)
    }
}

/// A list of one row.
fn list(values: ArrayRef) -> Result<ListArray> {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(ListArray::try_new(field, arrow::buffer::OffsetBuffer::from_lengths([values.len()]), values, None)?)
}

/// A part of a section, as it was saved.
#[derive(Debug)]
pub struct SavedPart {
    /// Its number, which it keeps.
    pub number: u64,
    /// Its rows.
    pub rows: PartRows,
    /// Which of them live; `None`: all.
    bits: Option<Vec<u8>>,
}

impl SavedPart {
    /// Its rows, and which of them live.
    ///
    /// # Errors
    /// They cannot be read, or are of another number.
    pub fn load(&self) -> Result<(RecordBatch, Live)> {
        let rows = self.rows.load()?;
        let live = Live::restore(rows.num_rows(), self.bits.as_deref())?;
        Ok((rows, live))
    }
}

/// A state that is taken up again. What was added first is given first.
#[derive(Debug)]
pub struct Restored {
    /// The watermark then.
    pub watermark: Micros,
    /// The next number to give.
    pub next: u64,
    whole: std::vec::IntoIter<StatePart>,
    sections: std::vec::IntoIter<Vec<SavedPart>>,
}

impl Restored {
    /// Reads what [`Snapshot::finish`] gave; `None` where no state was given.
    ///
    /// # Errors
    /// The parts are no such state.
    pub fn new(mut parts: Vec<StatePart>) -> Result<Option<Self>> {
        let Some(header) = parts.first().map(|part| part.rows.load()).transpose()? else { return Ok(None) };
        let watermark = value::<Int64Type>(&header, "watermark")?;
        let (next, count) = (value::<UInt64Type>(&header, "next")?, value::<UInt32Type>(&header, "sections")?);
        let numbers = values(&header, "number")?;
        let numbers = numbers.as_primitive_opt::<UInt64Type>().ok_or_else(foreign)?;
        let of_section = values(&header, "section")?;
        let of_section = of_section.as_primitive_opt::<UInt32Type>().ok_or_else(foreign)?;
        let live = values(&header, "live")?;
        let live: &BinaryArray = live.as_binary_opt().ok_or_else(foreign)?;
        let before = parts.len().checked_sub(numbers.len()).filter(|before| *before > 0).ok_or_else(foreign)?;
        if (of_section.len(), live.len()) != (numbers.len(), numbers.len()) {
            return Err(foreign());
        }
        let mut sections: Vec<Vec<SavedPart>> = (0..count).map(|_| Vec::new()).collect();
        for (i, StatePart { rows, .. }) in parts.split_off(before).into_iter().enumerate() {
            let bits = live.is_valid(i).then(|| live.value(i).to_vec());
            let section = sections.get_mut(of_section.value(i) as usize).ok_or_else(foreign)?;
            section.push(SavedPart { number: numbers.value(i), rows, bits });
        }
        let whole = parts.split_off(1);
        Ok(Some(Self { watermark, next, whole: whole.into_iter(), sections: sections.into_iter() }))
    }

    /// The next batch that [`Snapshot::whole`] added.
    ///
    /// # Errors
    /// There is none.
    pub fn whole(&mut self) -> Result<RecordBatch> {
        self.whole.next().ok_or_else(foreign)?.rows.load()
    }

    /// The parts of the next section.
    ///
    /// # Errors
    /// There is none.
    pub fn section(&mut self) -> Result<Vec<SavedPart>> {
        self.sections.next().ok_or_else(foreign)
    }

    /// # Errors
    /// Something was not taken up: the state is of an operator that keeps more.
    pub fn finish(self) -> Result<()> {
        if self.whole.len() + self.sections.len() > 0 { Err(foreign()) } else { Ok(()) }
    }
}

/// Checks that a part's columns are those that this operator would write.
///
/// # Errors
/// They are others.
pub fn expect(part: &RecordBatch, schema: &Schema) -> Result<()> {
    if part.schema_ref().fields() == schema.fields() { Ok(()) } else { Err(foreign()) }
}

/// The state is of another operator.
pub fn foreign() -> Error {
    Error::permanent("the checkpoint holds the state of another operator: its columns are others than this query keeps")
        .hint("a changed query starts without the old state: SET another pipeline.name, or a new checkpoint.location")
}

fn value<T: ArrowPrimitiveType>(header: &RecordBatch, name: &str) -> Result<T::Native> {
    let column = header.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<PrimitiveArray<T>>());
    column.filter(|c| c.len() == 1).map(|c| c.value(0)).ok_or_else(foreign)
}

fn values(header: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let column = header.column_by_name(name).and_then(|c| c.as_list_opt::<i32>());
    column.filter(|c| c.len() == 1).map(|c| c.value(0)).ok_or_else(foreign)
}

#[cfg(test)]
pub(crate) mod lives;
