//! The command line. Exit codes: 0 done, 1 failed at run time, 2 wrong usage or script.

mod backend;
mod checkpoint;
mod dead_letters;
mod demo;
mod generate;
mod lake;
mod log;
mod logging;
mod run;
mod serving;
mod sql;
mod summary;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand};
use riverrun_engine::error::Kind;
use riverrun_engine::{Error, Result};

use crate::{Program, Variables};

const EXAMPLES: &str = "Examples:
  riverrun demo                                    the transactions pipeline, with its own log and generator
  riverrun run pipelines/transactions.sql          run a script until Ctrl-C
  riverrun run my.sql --bounded                    read every source to its end, then stop
  riverrun check my.sql                            say what is wrong with a script
  riverrun explain my.sql                          show the graph: tasks, keys, state, what is shared
  riverrun sql \"SELECT * FROM rapid_users\"         ask the tables of the running pipeline
  riverrun top                                     watch the running pipeline, live
  riverrun generate transactions --count 1000000 --out transactions.jsonl
  riverrun log tail fraud-alerts                   follow a topic of the embedded log
  riverrun checkpoint list                         what state is kept, and of when
  riverrun dead-letters list                       what could not be decoded, and why; replay gives it again
  riverrun compact riverrun-data/lake/transactions merge small files of a Delta table";

/// Streaming SQL over Kafka in one program.
#[derive(Debug, Parser)]
#[command(name = "riverrun", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the transactions pipeline here and now: embedded log, generator, local tables; nothing else is needed.
    Demo(demo::Demo),
    /// Run a script.
    Run(run::Run),
    /// Check a script and say what is wrong with it.
    Check(ScriptArgs),
    /// Show what a script does: the graph, its tasks, keys and state, what is shared.
    Explain(ScriptArgs),
    /// Generate records: to the embedded log, Kafka or a file.
    Generate(generate::Generate),
    /// Ask tables: a query, or a prompt. Of the running pipeline, or at rest.
    Sql(sql::Sql),
    /// Watch the running pipeline: rates, lag, watermarks, state, queues, live in the terminal.
    Top(top::Top),
    /// Look into the embedded log.
    Log(log::Log),
    /// Look at checkpoints, verify and copy them, or go back to an earlier one.
    Checkpoint(checkpoint::Checkpoint),
    /// List records that could not become rows, and give them to their source again once they can.
    DeadLetters(dead_letters::DeadLetters),
    /// Merge small files of a Delta table into large ones.
    Compact(lake::Compact),
    /// Delete files that a Delta table does not need any more.
    Vacuum(lake::Vacuum),
}

/// A script and its variables.
#[derive(Debug, Args)]
struct ScriptArgs {
    /// The script.
    script: PathBuf,
    #[command(flatten)]
    set: SetArgs,
}

/// `--set` for every command that reads a script.
#[derive(Debug, Args)]
struct SetArgs {
    /// A value for ${NAME} in the script; goes before the environment's. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl SetArgs {
    fn variables(&self) -> Result<Variables> {
        Variables::parse(&self.set)
    }
}

impl ScriptArgs {
    fn load(&self) -> Result<Program> {
        Program::load(&self.script, &self.set.variables()?)
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    logging::start();
    match survive_file_size_limit().and_then(|()| run(Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(if e.kind() == Kind::Invalid { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Demo(demo) => demo.run(),
        Command::Run(run) => run.run(),
        Command::Check(args) => args.load().map(|program| {
            let graph = program.graph.joined();
            let (sources, sinks) = (graph.sources().count(), graph.sinks().count());
            println!("{}: fine; it reads {sources} and writes {sinks} tables", args.script.display());
        }),
        Command::Explain(args) => args.load().map(|program| print!("{}", program.explain())),
        Command::Generate(generate) => generate.run(),
        Command::Sql(sql) => sql.run(),
        Command::Top(top) => top.run(),
        Command::Log(log) => log.run(),
        Command::Checkpoint(checkpoint) => checkpoint.run(),
        Command::DeadLetters(letters) => letters.run(),
        Command::Compact(compact) => compact.run(),
        Command::Vacuum(vacuum) => vacuum.run(),
    }
}

/// A flag that Ctrl-C and SIGTERM set; a second one ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let failed = |e: std::io::Error| Error::permanent(format!("signals cannot be handled: {e}"));
        signal_hook::flag::register_conditional_shutdown(signal, 1, flag.clone()).map_err(failed)?;
        signal_hook::flag::register(signal, flag.clone()).map_err(failed)?;
    }
    Ok(flag)
}

/// Lets a write past the limit on file sizes fail as on a full disk, instead of ending the process with SIGXFSZ.
fn survive_file_size_limit() -> Result<()> {
    let failed = |e: std::io::Error| Error::permanent(format!("signals cannot be handled: {e}"));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()).map_err(failed).map(drop)
}

/// The runtime for what is asynchronous: queries and HTTP.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::permanent(format!("no runtime could be started: {e}")))
}
