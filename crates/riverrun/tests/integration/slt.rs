//! Golden SQL: every `tests/slt/**/*.slt`, in a session of its own. A file dropped in there is run; nothing names it.
//!
//! Statements go the way of `riverrun sql`: parsed, `hop()` rewritten, planned and run over tables at rest. In a file,
//! `query TIR` gives the columns' types (T: text and all else, I: whole numbers, R: numbers with a fraction), which are
//! checked; a NULL reads NULL, an empty text (empty), a time as ISO 8601 in UTC.
//! The format: <https://github.com/risinglightdb/sqllogictest-rs>.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;
use riverrun::sql::session::session_context;
use sqllogictest::{DBOutput, DefaultColumnType, Runner, strict_column_validator};

/// How a cell without a value is written in a file.
const NULL: &str = "NULL";

/// What a file talks to.
struct Session {
    context: SessionContext,
    runtime: tokio::runtime::Runtime,
}

/// What a statement did wrong.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Script(#[from] riverrun::sql::ScriptError),
    #[error("{}", .0.strip_backtrace())]
    Query(#[from] DataFusionError),
    #[error("{0}")]
    Runtime(#[from] std::io::Error),
}

impl Session {
    fn new() -> Result<Self, Failure> {
        Ok(Self { context: session_context(), runtime: tokio::runtime::Builder::new_current_thread().build()? })
    }

    /// The rows of a statement and their columns; a statement that is no query has neither.
    async fn rows(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
        let state = self.context.state();
        let dialect = state.config_options().sql_parser.dialect;
        let mut statement = state.sql_to_statement(sql, &dialect)?;
        if let Statement::Statement(sql_statement) = &mut statement {
            riverrun::sql::hop::rewrite(sql_statement.as_mut(), "slt", sql)?;
        }
        let plan = state.statement_to_plan(statement).await?;
        let frame = self.context.execute_logical_plan(plan).await?;
        Ok((Arc::clone(frame.schema().inner()), frame.collect().await?))
    }
}

impl sqllogictest::DB for Session {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let (schema, batches) = self.runtime.block_on(self.rows(sql))?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let types = schema.fields().iter().map(|field| column_type(field.data_type())).collect();
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(cells(batch)?);
        }
        Ok(DBOutput::Rows { types, rows })
    }
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        integer if integer.is_integer() => DefaultColumnType::Integer,
        number if number.is_numeric() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

/// The texts of a batch's cells, row by row.
fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, DataFusionError> {
    let options = FormatOptions::default().with_null(NULL);
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let cell = |column: &ArrayFormatter<'_>, row| match column.value(row).try_to_string() {
        Ok(text) if text.is_empty() => Ok("(empty)".to_owned()),
        other => other,
    };
    let row = |row| columns.iter().map(|column| Ok(cell(column, row)?)).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// The golden files under a folder, in the order of their names.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            found.push(path);
        }
    }
    Ok(found)
}

#[test]
fn every_golden_file_holds() {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")).unwrap();
    assert!(!files.is_empty(), "no golden files found");
    let mut wrong = Vec::new();
    for file in files {
        let mut runner = Runner::new(|| async { Session::new() });
        runner.with_column_validator(strict_column_validator);
        if let Err(error) = runner.run_file(&file) {
            wrong.push(error.display(false).to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
