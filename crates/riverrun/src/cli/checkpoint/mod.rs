//! `riverrun checkpoint`: what checkpoints there are, what they hold, copies of them, and going back to an earlier one.

mod change;
mod list;
mod place;
mod show;
mod time;

use clap::{Args, Subcommand};
use riverrun_engine::Result;

use self::place::PlaceArgs;
use self::time::Moment;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun checkpoint list                                      all pipelines in ./riverrun-data (or ${DATA_DIR})
  riverrun checkpoint list pipelines/transactions.sql           those of a script
  riverrun checkpoint list --location s3://bucket/checkpoints --json
  riverrun checkpoint show my.sql --task 3                      what the newest one of task 3 holds; verifies checksums
  riverrun checkpoint restore my.sql --to s3://bucket/copies    a verified copy
  riverrun checkpoint reset my.sql --to '2026-05-01 12:00'      go back: says what that means; --yes does it")]
pub struct Checkpoint {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List pipelines, their tasks and checkpoints: number, epoch, time, age, bytes.
    ///
    /// STATE is what a checkpoint holds, OWN what only it refers to, SHARED what others refer to as well.
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// Write JSON: one object a checkpoint.
        #[arg(long)]
        json: bool,
    },
    /// Show what checkpoints hold: positions, state by operator, files; and verify all checksums.
    ///
    /// Without --number the newest one of each task. Exit code 1 if one is not intact.
    Show {
        #[command(flatten)]
        place: PlaceArgs,
        /// One task only.
        #[arg(long)]
        task: Option<usize>,
        /// The checkpoint of this number (see list), not the newest.
        #[arg(long)]
        number: Option<u64>,
        /// Write JSON: the manifests, one a line, with what is wrong with them.
        #[arg(long)]
        json: bool,
    },
    /// Copy the newest intact checkpoint of each task to another location, and verify the copy.
    ///
    /// A start from the copy needs the pipeline's journal as well; without it, reset the copy to latest first.
    Restore {
        #[command(flatten)]
        place: PlaceArgs,
        /// Where to: a path or URL, in which the pipeline gets a folder of its name.
        #[arg(long, value_name = "LOCATION")]
        to: String,
        /// Not the newest, but those at or before this: a time, 'epoch N', or 'latest'.
        #[arg(long, value_name = "WHEN", default_value = "latest")]
        at: Moment,
    },
    /// Go back: the next start begins a new life from an earlier checkpoint.
    ///
    /// State and positions are those of the checkpoint; whatever was read since is read and written again, and what was
    /// written since stays in the sinks. Stop the pipeline first.
    Reset {
        #[command(flatten)]
        place: PlaceArgs,
        /// Each task's newest checkpoint at or before this: a time such as '2026-05-01 12:00' (UTC) or RFC 3339, 'epoch N'
        /// (with one task), or 'latest'.
        #[arg(long, value_name = "WHEN")]
        to: Moment,
        /// Do it; without this it only says what would be done.
        #[arg(long)]
        yes: bool,
    },
}

impl Checkpoint {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        match self.what {
            What::List { place, json } => list::run(&place, json),
            What::Show { place, task, number, json } => show::run(&place, task, number, json),
            What::Restore { place, to, at } => change::restore(&place, &to, at),
            What::Reset { place, to, yes } => change::reset(&place, to, yes),
        }
    }
}
