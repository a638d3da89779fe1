//! `riverrun sql`: a query or a prompt over the tables of the running pipeline, or of a script at rest.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::pretty::pretty_format_batches_with_schema;
use clap::Args;
use riverrun_engine::{Error, Result};
use riverrun_serve::client::Client;
use riverrun_serve::discovery;
use rustyline::error::ReadlineError;

use super::serving::client;
use super::{SetArgs, runtime};
use crate::{Program, Tables};

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun sql \"SELECT user_id, txn_count FROM rapid_users ORDER BY txn_count DESC LIMIT 10\"
  riverrun sql                                            a prompt; SHOW TABLES and DESCRIBE work too
  riverrun sql --script pipelines/transactions.sql \"SELECT count(*) FROM lake\"        nothing runs: tables at rest")]
pub struct Sql {
    /// The query; without it, a prompt.
    query: Option<String>,
    /// The data directory of the running pipeline; default: ${DATA_DIR}, else ./riverrun-data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The script that declares the tables, where no pipeline runs.
    #[arg(long)]
    script: Option<PathBuf>,
    /// How answers are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    set: SetArgs,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// An aligned table.
    Table,
    /// One JSON object a line.
    Json,
}

enum Target {
    Running(Client),
    AtRest(Tables),
}

impl Sql {
    /// Runs the query or the prompt.
    pub fn run(self) -> Result<()> {
        let runtime = runtime()?;
        let target = runtime.block_on(self.target())?;
        match &self.query {
            Some(query) => print(&runtime.block_on(target.query(query))?, self.format),
            None => prompt(&target, &runtime, self.format),
        }
    }

    async fn target(&self) -> Result<Target> {
        let mut variables = self.set.variables()?;
        if let Some(data) = &self.data {
            variables.or_set("DATA_DIR", &data.display().to_string());
        }
        let data = variables.data_dir();
        if let Some(running) = discovery::find(&data) {
            let client = client(&running)?;
            match client.stats().await {
                Ok(_) => return Ok(Target::Running(client)),
                // It is there, and refuses.
                Err(e) if !e.is_transient() => return Err(e),
                Err(_) => {}
            }
        }
        let Some(script) = &self.script else {
            return Err(Error::invalid(format!("no pipeline runs on {}", data.display()))
                .hint("start one, name its directory with --data, or give --script FILE to ask its tables at rest"));
        };
        variables.or_set("LAKE", &data.join("lake").display().to_string());
        let program = Program::load(script, &variables)?;
        Ok(Target::AtRest(Tables::open(&program)?))
    }
}

impl Target {
    async fn query(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        match self {
            Self::Running(client) => client.sql(query).await,
            Self::AtRest(tables) => tables.query(query).await,
        }
    }
}

fn print((schema, rows): &(SchemaRef, Vec<RecordBatch>), format: Format) -> Result<()> {
    if format == Format::Json {
        let mut writer = arrow::json::LineDelimitedWriter::new(std::io::stdout().lock());
        rows.iter().try_for_each(|batch| writer.write(batch))?;
        return Ok(writer.finish()?);
    }
    println!("{}", pretty_format_batches_with_schema(schema.clone(), rows)?);
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    println!("({count} row{})", if count == 1 { "" } else { "s" });
    Ok(())
}

fn prompt(target: &Target, runtime: &tokio::runtime::Runtime, format: Format) -> Result<()> {
    let failed = |e: ReadlineError| Error::permanent(format!("no prompt: {e}"));
    let mut editor = rustyline::DefaultEditor::new().map_err(failed)?;
    println!("Queries end with ;  SHOW TABLES; lists the tables, Ctrl-D leaves.");
    let mut text = String::new();
    loop {
        match editor.readline(if text.is_empty() { "riverrun> " } else { "      ... " }) {
            Ok(line) => {
                text.push_str(&line);
                text.push('\n');
                let Some(query) = text.trim().strip_suffix(';').map(str::to_owned) else { continue };
                // History is a convenience: a prompt without it is still a prompt.
                let _ = editor.add_history_entry(text.trim());
                text.clear();
                if let Err(e) = runtime.block_on(target.query(&query)).and_then(|answer| print(&answer, format)) {
                    eprintln!("error: {e}");
                }
            }
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(e) => return Err(failed(e)),
        }
    }
}
