//! Opening tables, and creating those that are missing.

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::StructTypeExt as _;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::kernel::transaction::PROTOCOL;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_for};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableError};
use riverrun_engine::{Error, Result};
use url::Url;

use super::config::Config;
use super::io::failed;
use super::types::{check_partition_by, columns, difference};

/// Access to the log of the table there. Nothing is created or looked up.
pub(super) fn log_at(location: &Url, path: &str) -> Result<LogStoreRef> {
    logstore_for(location, StorageConfig::default()).map_err(|e| failed("open", path, e))
}

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

/// The columns of a loaded table.
pub(super) fn arrow_schema(table: &DeltaTable) -> DeltaResult<Schema> {
    Ok((&table.snapshot()?.metadata().parse_schema()?).try_into_arrow()?)
}

/// Opens the table for rows of this schema; creates it where there is none.
pub(super) async fn open_for_rows(log: LogStoreRef, config: &Config, rows: &SchemaRef) -> Result<DeltaTable> {
    if let Some(table) = load(log.clone(), &config.path).await? {
        check(&table, config, rows)?;
        return Ok(table);
    }
    match create(log.clone(), config, rows).await {
        Ok(table) => Ok(table),
        Err(error) => match load(log, &config.path).await {
            // Another instance was faster.
            Ok(Some(table)) => check(&table, config, rows).map(|()| table),
            _ => Err(error),
        },
    }
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
fn check(table: &DeltaTable, config: &Config, rows: &SchemaRef) -> Result<()> {
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
    if let Some(difference) = difference(rows, &schema) {
        let text = format!("the rows do not fit the Delta table at {}:\n  {difference}", config.path);
        return Err(Error::invalid(text).hint("change the query, or choose a path where there is no table yet"));
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
