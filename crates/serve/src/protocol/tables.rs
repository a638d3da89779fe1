//! Tables, queries, and rows as answers.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder;
use arrow::json::writer::JsonArray;
use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A column.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type, as a script writes it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// A table that can be asked, or cannot and why.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, ToSchema)]
pub struct TableInfo {
    /// Its name in the script.
    pub name: String,
    /// Which connector reads it.
    pub connector: String,
    /// `source` or `sink`: what it is to the pipeline.
    pub role: String,
    /// The columns of its PRIMARY KEY; empty without.
    pub primary_key: Vec<String>,
    /// The column that `from`, `to` and `order` are about unless `by` names another.
    pub time: Option<String>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// Whether it can be asked.
    pub readable: bool,
    /// Why it cannot.
    pub problem: Option<String>,
}

/// A query to run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryRequest {
    /// One SELECT, EXPLAIN, DESCRIBE or SHOW TABLES.
    pub query: String,
    /// At most so many rows; 10,000 by default, 100,000 at most.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Which rows of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsWanted {
    /// Values of the first columns of the PRIMARY KEY.
    pub key: Vec<String>,
    /// The column that `from`, `to` and `order` are about.
    pub by: Option<String>,
    /// Its least value.
    pub from: Option<String>,
    /// Its values are less than this.
    pub to: Option<String>,
    /// `true`: greatest first; `false`: least first.
    pub latest: Option<bool>,
    /// At most so many.
    pub limit: usize,
    /// Only these columns; all if empty.
    pub columns: Vec<String>,
}

/// The rows that answer a query.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Their schema.
    pub schema: SchemaRef,
    /// The same for people.
    pub columns: Vec<ColumnInfo>,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Whether there are more.
    pub truncated: bool,
}

/// An [`Answer`] as JSON.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RowsAnswer {
    /// The columns.
    pub columns: Vec<ColumnInfo>,
    /// The rows: objects by column.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Whether there are more.
    pub truncated: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Answer {
    /// The answer, if it is whole.
    ///
    /// # Errors
    /// There are more rows.
    pub fn whole(self) -> Result<Self> {
        match self.truncated {
            false => Ok(self),
            true => Err(Error::invalid("the answer is too large").hint("ask for less: add LIMIT, or aggregate")),
        }
    }

    /// As [`RowsAnswer`]. Written from columns at once: an answer may have 100,000 rows.
    ///
    /// # Errors
    /// A type that JSON cannot hold.
    pub fn json(&self, seconds: f64) -> Result<Vec<u8>> {
        let failed = |e: serde_json::Error| Error::permanent(e.to_string());
        let mut body = b"{\"columns\":".to_vec();
        serde_json::to_writer(&mut body, &self.columns).map_err(failed)?;
        body.extend_from_slice(b",\"rows\":");
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut body);
        let batches: Vec<&RecordBatch> = self.batches.iter().filter(|batch| batch.num_rows() > 0).collect();
        writer.write_batches(&batches)?;
        writer.finish()?;
        let end = format!(",\"truncated\":{},\"seconds\":{seconds}}}", self.truncated);
        body.extend_from_slice(end.as_bytes());
        Ok(body)
    }

    /// As an Arrow IPC stream.
    pub fn arrow(&self) -> Result<Vec<u8>> {
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema)?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        Ok(writer.into_inner()?)
    }
}
