//! `riverrun compact` and `riverrun vacuum`: looking after Delta tables.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use clap::Args;
use riverrun_connectors::delta::{Compacted, Maintained};
use riverrun_engine::table::{parse_bytes, parse_duration};
use riverrun_engine::{Error, Result};

use super::stop_flag;
use super::summary::grouped;

/// Which table.
#[derive(Debug, Args)]
struct TableArgs {
    /// The table: a path, a file:// URL or s3://bucket/prefix.
    #[arg(value_name = "TABLE-PATH")]
    table: String,
    /// An option of S3 (endpoint, region, access_key_id, …); goes before AWS_ENDPOINT_URL and so on. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    s3: Vec<(String, String)>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl TableArgs {
    fn open(&self) -> Result<Maintained> {
        Maintained::open(&self.table, self.s3.iter().cloned().collect::<BTreeMap<_, _>>())
    }
}

/// Arguments of `riverrun compact`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun compact riverrun-data/lake/transactions                              merge what is small
  riverrun compact s3://bucket/transactions --dry-run                           say what would be merged
  riverrun compact s3://bucket/transactions --where-partition date=2026-05-01   one day only
  riverrun compact lake --target-size '512 MiB'                                 to larger files

Files of at most half the target size are merged, each partition's on their own. Others may write to the table and read from it
meanwhile. The small files stay on disk for those who read an older version, until riverrun vacuum.")]
pub struct Compact {
    #[command(flatten)]
    table: TableArgs,
    /// Only partitions with this value, such as date=2026-05-01. May be repeated.
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = pair)]
    where_partition: Vec<(String, String)>,
    /// The size of the files that are written, about.
    #[arg(long, value_name = "SIZE", default_value = "128 MiB", value_parser = bytes)]
    target_size: u64,
}

impl Compact {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let mut table = self.table.open()?;
        let partition: HashMap<_, _> = self.where_partition.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let (stop, becomes) = (stop_flag()?, if self.table.dry_run { "would become" } else { "became" });
        let (mut files, mut bytes, mut written) = (0, 0, 0);
        let mut told = |Compacted { partition, from, into }: Compacted| {
            println!("{partition}: {} files of {} bytes {becomes} {}", from.0, grouped(from.1), into.0);
            (files, bytes, written) = (files + from.0, bytes + from.1, written + into.0);
        };
        table.compact(self.target_size, partition, self.table.dry_run, &stop, &mut told)?;
        match files {
            0 => println!("there is nothing to merge"),
            _ => println!("{files} files of {} bytes {becomes} {written}", grouped(bytes)),
        }
        Ok(())
    }
}

/// Arguments of `riverrun vacuum`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun vacuum riverrun-data/lake/transactions --dry-run    say what would be deleted
  riverrun vacuum s3://bucket/transactions                     delete it
  riverrun vacuum s3://bucket/transactions --retain '30 days'

Deletes files that the newest version does not refer to: those that were taken out of the table (by compaction, or a DELETE)
longer ago than --retain, and those as old that no version ever referred to (left by a crash). Versions from before then cannot be
read any more.")]
pub struct Vacuum {
    #[command(flatten)]
    table: TableArgs,
    /// How long files stay that are not needed any more; default: the table's delta.deletedFileRetentionDuration, 7 days.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retain: Option<Duration>,
    /// Retain less than the table says: only where nobody reads an older version and nobody writes.
    #[arg(long)]
    force: bool,
}

impl Vacuum {
    /// Runs the command.
    pub fn run(self) -> Result<()> {
        let table = self.table.open()?;
        let retain = self.retain.map_or_else(|| table.retention(), Ok)?;
        let files = table.vacuum(retain, self.force, self.table.dry_run)?;
        let verb = if self.table.dry_run { "would be deleted" } else { "deleted" };
        for (path, bytes) in &files {
            println!("{path} ({} bytes)", grouped(*bytes));
        }
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        println!("{} files of {} bytes {verb}", files.len(), grouped(bytes));
        Ok(())
    }
}

fn pair(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Error::invalid(format!("'{text}': write NAME=VALUE"))),
    }
}

fn bytes(text: &str) -> Result<u64> {
    let size = parse_bytes(text).filter(|bytes| *bytes > 0);
    size.ok_or_else(|| Error::invalid(format!("'{text}' is not a size such as '128 MiB'")))
}

fn duration(text: &str) -> Result<Duration> {
    parse_duration(text).ok_or_else(|| Error::invalid(format!("'{text}' is not a duration such as '7 days'")))
}
