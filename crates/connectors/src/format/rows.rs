//! Rows into the records of a topic, by the table's format.

use arrow::array::RecordBatch;
use riverrun_engine::connect::Context;
use riverrun_engine::graph::SinkNode;
use riverrun_engine::table::Table;
use riverrun_engine::{Error, Result};

#[cfg(feature = "avro")]
use super::avro::AvroEncoder;
use super::{EncodedRows, JsonEncoder};

/// Encodes the rows of a sink.
pub(crate) enum RowEncoder {
    /// A JSON object a row.
    Json(JsonEncoder),
    /// An Avro record a row, behind its schema's id.
    #[cfg(feature = "avro")]
    Avro(Box<AvroEncoder>),
}

impl RowEncoder {
    /// The encoder that a table's options ask for. May do I/O: a schema is registered.
    pub fn connect(node: &SinkNode, context: &Context) -> Result<Self> {
        match is_avro(&node.table)? {
            false => Ok(Self::Json(JsonEncoder::default())),
            #[cfg(feature = "avro")]
            true => Ok(Self::Avro(Box::new(AvroEncoder::connect(&node.table, &node.schema, context)?))),
            #[cfg(not(feature = "avro"))]
            true => {
                let _ = context;
                Err(super::no_avro(&node.table))
            }
        }
    }

    /// Encodes a batch.
    pub fn encode(&self, rows: &RecordBatch) -> Result<EncodedRows> {
        match self {
            Self::Json(encoder) => encoder.encode(rows),
            #[cfg(feature = "avro")]
            Self::Avro(encoder) => encoder.encode(rows),
        }
    }
}

/// Checks without I/O that rows can be written to a topic as the table's format says.
pub(crate) fn check_sink(table: &Table) -> Result<()> {
    if !is_avro(table)? {
        return Ok(());
    }
    #[cfg(feature = "avro")]
    {
        let config = crate::schema_registry::Config::of(table)?;
        config.subject(&table.options)?;
        let written = table.columns.iter().filter(|c| c.metadata.is_none()).map(|c| std::sync::Arc::clone(&c.field));
        super::avro::schema_of(&arrow::datatypes::Schema::new(written.collect::<Vec<_>>()), &config)?;
        Ok(())
    }
    #[cfg(not(feature = "avro"))]
    Err(super::no_avro(table))
}

/// Whether rows are written as Avro, else as JSON.
fn is_avro(table: &Table) -> Result<bool> {
    match table.options.get("format").map(|format| format.trim().to_ascii_lowercase()).as_deref() {
        None | Some("json") => Ok(false),
        Some("avro") => Ok(true),
        Some(_) => Err(no_format(table)),
    }
}

fn no_format(table: &Table) -> Error {
    table.options.error("format", "rows are written to a topic as JSON or Avro").hint("use format = 'json', or 'avro'")
}
