//! What flows along the edges of a graph: rows in columns, and what they mean.

use arrow::array::RecordBatch;

/// What the rows of a [`Batch`] mean to whoever takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// New rows, each once.
    Insert,
    /// New rows behind the watermark of their source: stateless operators pass them on, stateful ones count and drop
    /// them, sinks take them as inserts.
    Late,
    /// The newest version of the rows with these keys. Comes from [`Port::Update`] of a stateful operator.
    Upsert,
    /// The rows with these keys are no longer true. All columns are there; those outside the key hold the last version
    /// that went out. Comes from [`Port::Update`] of a stateful operator.
    Delete,
}

/// Rows of one meaning.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows, of the schema of the node that gave them.
    pub rows: RecordBatch,
    /// What they mean.
    pub change: Change,
}

impl Batch {
    /// New rows.
    pub fn insert(rows: RecordBatch) -> Self {
        Self { rows, change: Change::Insert }
    }

    /// The same meaning for other rows.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self { rows, change: self.change }
    }
}

/// Which of a node's outputs an edge carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    /// From a source what it read; from a stateful operator what is final; from a stateless operator everything,
    /// with the meaning ([`Change`]) that it came in with.
    Rows,
    /// From a stateful operator only: upserts and deletes, the rows that an epoch changed. From OVER: every row at once,
    /// as an insert, with its windows over the rows that had arrived before it.
    Update,
    /// From a source: rows behind the watermark, again, for a sink of their own.
    Late,
    /// From a source: records that could not be decoded ([`crate::dead_letter::schema`]).
    DeadLetters,
}
