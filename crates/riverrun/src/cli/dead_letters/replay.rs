//! `riverrun dead-letters replay`.

use std::path::PathBuf;

use clap::Args;
use riverrun_engine::Result;
use riverrun_serve::client::Client;
use riverrun_serve::discovery;
use riverrun_serve::protocol::{ReplayOutcome, ReplayWanted, Replayed, ReplayedRecord, ReplayedSource};

use super::Which;
use super::list::Format;
use crate::cli::serving::client;
use crate::cli::summary::grouped;
use crate::cli::{ScriptArgs, runtime};
use crate::{Program, dead_letters};

/// Arguments.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    script: ScriptArgs,
    #[command(flatten)]
    which: Which,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
    /// Also those that would be bad again.
    #[arg(long)]
    all: bool,
    /// Say what would be replayed and what would be bad again; replay nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write the records to this new file, one a line, instead of giving them to the source; nothing is marked as replayed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl Replay {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let program = self.script.load()?;
        let wanted = ReplayWanted {
            since: self.which.since(program.clock().now()),
            source: self.which.source,
            reason: self.which.reason,
            limit: self.limit,
            all: self.all,
            dry_run: self.dry_run,
        };
        let replay = dead_letters::Replay::of(&program);
        let replayed = match running(&program, &replay)?.filter(|_| self.out.is_none()) {
            Some(client) => {
                eprintln!("asking the pipeline that runs, since it has the log open: it judges by the script that it runs");
                runtime()?.block_on(client.replay(&wanted))?
            }
            None => replay.run(&wanted, self.out.as_deref())?,
        };
        match self.format {
            Format::Json => println!("{}", serde_json::json!(replayed)),
            Format::Table => print(&replayed),
        }
        Ok(())
    }
}

/// The running process, where only it can read and write: an embedded log is one process's.
fn running(program: &Program, replay: &dead_letters::Replay) -> Result<Option<Client>> {
    let is_log = |table: &riverrun_engine::table::Table| table.connector().is_ok_and(|connector| connector == "log");
    if !replay.places()?.iter().any(|(source, letters)| is_log(source) || is_log(letters)) {
        return Ok(None);
    }
    let Some(running) = discovery::find(&program.context.data_dir) else { return Ok(None) };
    let client = client(&running)?;
    match runtime()?.block_on(client.stats()) {
        Ok(_) => Ok(Some(client)),
        // It is there, and refuses.
        Err(e) if !e.is_transient() => Err(e),
        Err(_) => Ok(None),
    }
}

fn print(replayed: &Replayed) {
    if replayed.dry_run {
        replayed.records.iter().for_each(|record| println!("  {}", told(record)));
    }
    if replayed.sources.is_empty() {
        println!("no source keeps dead letters (dead_letter_topic, dead_letter_path)");
    }
    replayed.sources.iter().for_each(|source| println!("{}", summary(source, replayed.dry_run)));
}

fn told(record: &ReplayedRecord) -> String {
    let place = format!("{}/{}/{}", record.source, record.partition, record.offset);
    let outcome = match (record.outcome, &record.detail) {
        (ReplayOutcome::Replayed, _) => "would be replayed".to_owned(),
        (ReplayOutcome::Incomplete, _) => "cannot be replayed: it was not kept whole, or is no line".to_owned(),
        (ReplayOutcome::Bad, detail) => format!("would be bad again: {}", detail.as_deref().unwrap_or_default()),
    };
    format!("{place}  {}: {outcome}", record.reason)
}

fn summary(source: &ReplayedSource, dry_run: bool) -> String {
    let mut parts = vec![format!("{} {}", grouped(source.replayed), if dry_run { "would be replayed" } else { "replayed" })];
    let bad: u64 = source.bad.values().sum();
    if bad > 0 {
        let reasons: Vec<_> = source.bad.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count))).collect();
        parts.push(format!("{} would be bad again ({})", grouped(bad), reasons.join(", ")));
    }
    let more = [
        (source.before, "replayed before"),
        (source.incomplete, "not kept whole"),
        (source.foreign, "records there that are no dead letters"),
    ];
    parts.extend(more.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{} {what}", grouped(*count))));
    format!("{}: {} dead letters: {}", source.source, grouped(source.letters), parts.join(", "))
}
