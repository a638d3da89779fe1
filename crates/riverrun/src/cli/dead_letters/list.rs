//! `riverrun dead-letters list`: a query over the tables of dead letters, of the running pipeline or where they are.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use clap::Args;
use riverrun_engine::progress::Timestamp;
use riverrun_engine::time::{Clock as _, SystemClock};
use riverrun_engine::{Error, Result};
use riverrun_serve::client::Client;
use riverrun_serve::discovery::{self, Running};
use serde::{Deserialize, Serialize};

use super::Which;
use crate::cli::serving::client;
use crate::cli::summary::grouped;
use crate::cli::{SetArgs, runtime};
use crate::{Program, Tables, dead_letters};

/// How much of a payload is shown.
const SHOWN: usize = 160;

/// Arguments.
#[derive(Debug, Args)]
pub struct List {
    /// The script, or the address of a running pipeline (host:port); default: the pipeline that runs on the data directory.
    #[arg(value_name = "SCRIPT|ADDRESS")]
    of: Option<String>,
    /// The data directory; default: ${DATA_DIR}, else ./riverrun-data.
    #[arg(long)]
    data: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// How many are shown: the newest. All are counted.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    set: SetArgs,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// Dead letters of a reason.
#[derive(Debug, Serialize, Deserialize)]
struct Count {
    source: String,
    reason: String,
    letters: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// A dead letter.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    source: String,
    partition: i32,
    offset: i64,
    reason: String,
    detail: String,
    read_time: Option<Timestamp>,
    record_time: Option<Timestamp>,
    key: Option<String>,
    payload: Option<String>,
}

/// Who answers.
enum Target {
    Running(Client),
    AtRest(Tables),
}

impl Target {
    async fn rows<T: for<'de> Deserialize<'de>>(&self, query: &str) -> Result<Vec<T>> {
        let (_, rows) = match self {
            Self::Running(client) => client.sql(query).await?,
            Self::AtRest(tables) => tables.query(query).await?,
        };
        parsed(&rows)
    }
}

/// A source whose bad records are asked for: its name, what becomes of them, the table that keeps them.
type Fate = (String, String, Option<String>);

impl List {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let runtime = runtime()?;
        let (target, fates) = runtime.block_on(self.target())?;
        let fates: Vec<Fate> =
            fates.into_iter().filter(|(name, ..)| self.which.source.as_ref().is_none_or(|wanted| wanted == name)).collect();
        if let (Some(source), true) = (&self.which.source, fates.is_empty()) {
            return Err(Error::invalid(format!("there is no source {source}")));
        }
        let (mut counts, mut letters) = (Vec::<Count>::new(), Vec::<Letter>::new());
        if let Some(of) = self.wanted(&fates) {
            counts = runtime.block_on(target.rows(&format!(
                "SELECT source, reason, count(*) AS letters, min(at) AS first, max(at) AS last FROM ({of}) \
                 GROUP BY source, reason ORDER BY source, letters DESC, reason"
            )))?;
            letters = runtime.block_on(target.rows(&format!(
                "SELECT source, \"partition\", \"offset\", reason, detail, read_time, record_time, key, payload FROM ({of}) \
                 ORDER BY at DESC NULLS LAST, source, \"partition\", \"offset\" DESC LIMIT {}",
                self.limit
            )))?;
        }
        match self.format {
            Format::Json => println!("{}", serde_json::json!({ "counts": counts, "letters": letters })),
            Format::Table => print(&fates, &counts, &letters),
        }
        Ok(())
    }

    async fn target(&self) -> Result<(Target, Vec<Fate>)> {
        let mut variables = self.set.variables()?;
        if let Some(data) = &self.data {
            variables.or_set("DATA_DIR", &data.display().to_string());
        }
        let Some(of) = &self.of else {
            let data = variables.data_dir();
            let hint = "start one, name its directory with --data, or name the script or an address";
            let nobody = || Error::invalid(format!("no pipeline runs on {}", data.display())).hint(hint);
            let running = discovery::find(&data).ok_or_else(nobody)?;
            return ask(&running).await?.ok_or_else(nobody);
        };
        if !Path::new(of).is_file() {
            let address = of.trim_start_matches("http://").trim_end_matches('/').to_owned();
            if !address.contains(':') {
                return Err(Error::invalid(format!("{of} is no script that is there, and no address such as 127.0.0.1:8000")));
            }
            let running = Running { address, pid: 0, pipeline: String::new() };
            let client = client(&running)?;
            return Ok((Target::Running(client.clone()), fates(&client).await?));
        }
        variables.or_set("LAKE", &variables.data_dir().join("lake").display().to_string());
        let program = Program::load(Path::new(of), &variables)?;
        let running = discovery::find(&program.context.data_dir).filter(|r| r.pipeline == program.context.pipeline);
        if let Some(running) = running
            && let Some(found) = ask(&running).await?
        {
            return Ok(found);
        }
        at_rest(&program)
    }

    /// The query for all letters that are wanted, with `at`: when each was read; `None`: none are kept.
    fn wanted(&self, fates: &[Fate]) -> Option<String> {
        let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let mut conditions = Vec::new();
        conditions.extend(self.which.reason.as_ref().map(|reason| format!("reason = {}", text(reason))));
        let since = self.which.since(SystemClock.now());
        conditions.extend(since.map(|since| format!("coalesce(read_time, record_time) >= TIMESTAMP '{since}'")));
        let of = |(source, _, table): &Fate| {
            let table = table.as_ref()?.replace('"', "\"\"");
            let topics = text(&format!("{source}/"));
            // Two sources may share a topic.
            let mut all = vec![format!("(source = {} OR starts_with(source, {topics}))", text(source))];
            all.extend(conditions.iter().cloned());
            Some(format!("SELECT *, coalesce(read_time, record_time) AS at FROM \"{table}\" WHERE {}", all.join(" AND ")))
        };
        let parts: Vec<String> = fates.iter().filter_map(of).collect();
        (!parts.is_empty()).then(|| parts.join(" UNION ALL "))
    }
}

/// Asks the process that runs, if it still does.
async fn ask(running: &Running) -> Result<Option<(Target, Vec<Fate>)>> {
    let client = client(running)?;
    match fates(&client).await {
        Ok(fates) => Ok(Some((Target::Running(client), fates))),
        // It is there, and refuses.
        Err(e) if !e.is_transient() => Err(e),
        Err(_) => Ok(None),
    }
}

async fn fates(client: &Client) -> Result<Vec<Fate>> {
    let sources = client.dead_letters().await?.sources;
    Ok(sources.into_iter().map(|source| (source.source, source.fate, source.table)).collect())
}

/// The places of a script's dead letters, where it does not run.
fn at_rest(program: &Program) -> Result<(Target, Vec<Fate>)> {
    let replay = dead_letters::Replay::of(program);
    let mut tables = Vec::new();
    for (_, letters) in replay.places()? {
        if program.registry.is_there(&letters, &program.context)? {
            tables.push(letters);
        }
    }
    let mut fates = crate::cli::backend::fates(program);
    for (.., table) in &mut fates {
        table.take_if(|name| !tables.iter().any(|there| there.name == *name));
    }
    let tables = Tables::open_some(program, tables)?;
    match tables.missing.first() {
        Some((name, why)) => Err(why.clone().within(name)),
        None => Ok((Target::AtRest(tables), fates)),
    }
}

fn parsed<T: for<'de> Deserialize<'de>>(rows: &[RecordBatch]) -> Result<Vec<T>> {
    let mut lines = Vec::new();
    let mut writer = LineDelimitedWriter::new(&mut lines);
    rows.iter().try_for_each(|batch| writer.write(batch))?;
    writer.finish()?;
    let parse =
        |line: &[u8]| serde_json::from_slice(line).map_err(|e| Error::permanent(format!("the answer is not understood: {e}")));
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}

fn print(fates: &[Fate], counts: &[Count], letters: &[Letter]) {
    for (source, fate, _) in fates {
        let of = |count: &&Count| count.source.split('/').next() == Some(source);
        let total: u64 = counts.iter().filter(of).map(|count| count.letters).sum();
        match fate.as_str() {
            "dead_letter" => println!("{source}: {} dead letters", grouped(total)),
            "drop" => println!("{source}: bad records are dropped (bad_records = 'drop'), none are kept"),
            _ => println!("{source}: a bad record stops the pipeline (bad_records = 'fail'), none are kept"),
        }
        for Count { source, reason, letters, first, last } in counts.iter().filter(of) {
            let span = match (first, last) {
                (Some(first), Some(last)) => format!("  {first} to {last}"),
                _ => String::new(),
            };
            println!("  {:>9} {reason:<14}{source}{span}", grouped(*letters));
        }
    }
    for letter in letters {
        let Letter { source, partition, offset, reason, detail, .. } = letter;
        let time = letter.read_time.or(letter.record_time).map_or_else(|| "-".to_owned(), |time| time.to_string());
        println!("\n{time}  {source}/{partition}/{offset}  {reason}: {}", shown(detail));
        let key = letter.key.as_deref().map(|key| format!("key {}  ", shown(key))).unwrap_or_default();
        println!("    {key}{}", letter.payload.as_deref().map_or_else(|| "no value".to_owned(), shown));
    }
}

/// The beginning of a text, on one line, without characters that a terminal would obey.
fn shown(text: &str) -> String {
    let spelt = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let beginning: String = text.chars().take(SHOWN).map(spelt).collect();
    if text.chars().count() > SHOWN { beginning + "…" } else { beginning }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(shown(&"ä".repeat(200)), format!("{}…", "ä".repeat(SHOWN)));
    }
}
