//! Opening tables, and creating those that are missing.

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::StructTypeExt as _;
use deltalake_core::kernel::Version;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::kernel::transaction::PROTOCOL;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableError};
use riverrun_engine::{Error, Result};

use super::config::Config;
use super::io::failed;
use super::types::{check_partition_by, columns, difference, missing};

/// The newest version of a table; `None` where there is no table.
pub(super) async fn load(log: LogStoreRef, path: &str) -> Result<Option<DeltaTable>> {
    let mut table = DeltaTable::new(log);
    let loaded = async {
        if !table.verify_deltatable_existence().await? {
            return Ok(false);
        }
        table.load().await.map(|()| true)
    };
    match loaded.await {
        Ok(true) => Ok(Some(table)),
        Ok(false) => Ok(None),
        Err(e) => Err(failed("open", path, e)),
    }
}

/// A version that was the newest once.
pub(super) async fn load_version(log: LogStoreRef, path: &str, version: Version) -> Result<DeltaTable> {
    let mut table = DeltaTable::new(log);
    match table.load_version(version).await {
        Ok(()) => Ok(table),
        Err(e) => {
            let error = failed("read", path, e);
            let gone = format!("version {version}, where this pipeline stopped reading, cannot be read");
            Err(if error.is_transient() { error } else { error.within(gone).hint(GONE) })
        }
    }
}

/// What to do where a version is gone from the log.
pub(super) const GONE: &str =
    "the log keeps versions for delta.logRetentionDuration: start the pipeline anew, under another pipeline.name";

/// The columns of a loaded table.
pub(super) fn arrow_schema(table: &DeltaTable) -> DeltaResult<Schema> {
    Ok((&table.snapshot()?.metadata().parse_schema()?).try_into_arrow()?)
}

/// Opens the table for rows of this schema; creates it where there is none, and adds columns where that is wished.
pub(super) async fn open_for_rows(log: LogStoreRef, config: &Config, rows: &SchemaRef) -> Result<DeltaTable> {
    let table = match load(log.clone(), &config.path).await? {
        Some(table) => table,
        None => match create(log.clone(), config, rows).await {
            Ok(table) => return Ok(table),
            Err(error) => match load(log, &config.path).await {
                // Another instance was faster.
                Ok(Some(table)) => table,
                _ => return Err(error),
            },
        },
    };
    with_columns(table, config, rows).await
}

/// The table with the columns of these rows, in a commit of its own where it lacks some; checked to take the rows.
async fn with_columns(mut table: DeltaTable, config: &Config, rows: &SchemaRef) -> Result<DeltaTable> {
    let there = arrow_schema(&table).map_err(|e| failed("open", &config.path, e))?;
    let missing = missing(rows, &there);
    if config.add_columns && !missing.is_empty() {
        let fields = columns(&Schema::new(missing))?.fields().cloned().collect::<Vec<_>>();
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        let added = table.clone().add_columns().with_fields(fields.clone()).await;
        table = match added {
            Ok(table) => {
                tracing::info!("the Delta table at {} has got the columns {}", config.path, names.join(", "));
                table
            }
            // Another instance was faster: then they are there.
            Err(DeltaTableError::Transaction { .. }) => {
                table.update_state().await.map_err(|e| failed("open", &config.path, e))?;
                table
            }
            Err(error) => return Err(failed("add columns to", &config.path, error)),
        };
    }
    check(&table, config, rows)?;
    Ok(table)
}

async fn create(log: LogStoreRef, config: &Config, rows: &SchemaRef) -> Result<DeltaTable> {
    let partition_by = config.partition_by.clone().unwrap_or_default();
    check_partition_by(rows, &partition_by)?;
    let properties = config.properties.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    let created = CreateBuilder::new()
        .with_log_store(log)
        .with_columns(columns(rows)?.fields().cloned())
        .with_partition_columns(partition_by)
        .with_configuration(properties)
        .await;
    created.map_err(|e| failed("create", &config.path, e))
}

/// Checks that rows of this schema may be appended to an existing table.
pub(super) fn check(table: &DeltaTable, config: &Config, rows: &SchemaRef) -> Result<()> {
    let there = || {
        let snapshot = table.snapshot()?;
        let metadata = snapshot.metadata();
        let invariants = metadata.parse_schema()?.get_invariants().map_err(|e| DeltaTableError::Generic(e.to_string()))?;
        Ok((arrow_schema(table)?, metadata.partition_columns().to_vec(), snapshot, invariants.is_empty()))
    };
    let (schema, partition_by, snapshot, free) = there().map_err(|e: DeltaTableError| failed("open", &config.path, e))?;
    if let Err(e) = PROTOCOL.can_write_to(snapshot.snapshot()) {
        return Err(Error::invalid(format!("the Delta table at {} has features that Riverrun cannot write: {e}", config.path)));
    }
    if !free {
        return Err(Error::invalid(format!("the Delta table at {} has invariants that Riverrun cannot check", config.path)));
    }
    if let Some(difference) = difference(rows, &schema, config.add_columns) {
        let text = format!("the rows do not fit the Delta table at {}:\n  {difference}", config.path);
        let added = !config.add_columns && !missing(rows, &schema).is_empty();
        let or = if added { "set add_columns = 'true' to have them added, " } else { "" };
        return Err(Error::invalid(text).hint(format!("{or}change the query, or choose a path where there is no table yet")));
    }
    match &config.partition_by {
        Some(wanted) if *wanted != partition_by => {
            let what = if partition_by.is_empty() { "nothing".to_owned() } else { partition_by.join(", ") };
            let text = format!("the Delta table at {} is partitioned by {what}, not {}", config.path, wanted.join(", "));
            Err(Error::invalid(text).hint("change partition_by, or choose a path where there is no table yet"))
        }
        _ => Ok(()),
    }
}
