//! What a version of a table holds: its files, in order.
//!
//! The files of a snapshot stand by (modification time, path), those that a version added as they stand in its entry of the log;
//! rows as they stand in the file. So the ordinal of a row in a version is always the same.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::kernel::transaction::PROTOCOL;
use deltalake_core::kernel::{Action, Version};
use deltalake_core::logstore::{LogStoreRef, get_actions};
use deltalake_core::{DeltaTable, DeltaTableError};
use futures::TryStreamExt as _;
use riverrun_engine::{Error, Result};

use super::data::{File, FileReader, Storage};
use super::io::{Io, failed};
use super::table::{arrow_schema, load, load_version};

/// A table at one version.
pub(super) struct Snapshot {
    /// All columns.
    pub schema: SchemaRef,
    pub version: Version,
    /// In order.
    pub files: Vec<File>,
    pub storage: Storage,
}

impl Snapshot {
    /// The newest version.
    pub fn newest(log: LogStoreRef, path: &str) -> Result<Self> {
        let io = Arc::new(Io::new()?);
        let Some(table) = io.run(load(log, path))? else {
            return Err(Error::invalid(format!("there is no Delta table at {path}")).hint("check the path"));
        };
        Self::of(&table, path, io)
    }

    /// A version that was the newest once.
    pub fn at(log: LogStoreRef, path: &str, version: Version) -> Result<Self> {
        let io = Arc::new(Io::new()?);
        let table = io.run(load_version(log, path, version))?;
        Self::of(&table, path, io)
    }

    fn of(table: &DeltaTable, path: &str, io: Arc<Io>) -> Result<Self> {
        let storage = Storage { path: path.to_owned(), store: table.object_store(), io };
        let listed = list(table).map_err(|e| failed("read", path, e));
        let (schema, version, mut files) = listed?;
        for file in files.iter_mut().filter(|file| file.rows.is_none()) {
            file.rows = Some(storage.rows(file)?);
        }
        Ok(Self { schema, version, files, storage })
    }

    /// Rows of all files.
    pub fn rows(&self) -> u64 {
        self.files.iter().filter_map(|file| file.rows).sum()
    }

    /// Opens a file behind its first `skip` rows; the batches have these columns (of any order, by name).
    pub fn open(&self, file: &File, columns: &SchemaRef, skip: u64) -> Result<FileReader> {
        self.storage.open(file, columns, skip)
    }
}

fn list(table: &DeltaTable) -> Result<(SchemaRef, Version, Vec<File>), DeltaTableError> {
    let snapshot = table.snapshot()?;
    PROTOCOL.can_read_from(snapshot.snapshot())?;
    let mut files = Vec::new();
    for view in snapshot.log_data().iter() {
        if view.deletion_vector_descriptor().is_some() {
            return Err(deletion_vectors());
        }
        let rows = view.num_records().map(|rows| rows as u64);
        let (path, size) = (view.object_store_path(), u64::try_from(view.size()).unwrap_or(0));
        files.push((view.modification_time(), File { path, size, rows, partition: view.partition_values_map() }));
    }
    files.sort_by(|(at, a), (bt, b)| (at, &a.path).cmp(&(bt, &b.path)));
    let files = files.into_iter().map(|(_, file)| file).collect();
    Ok((Arc::new(arrow_schema(table)?), snapshot.version(), files))
}

fn deletion_vectors() -> DeltaTableError {
    DeltaTableError::Generic("it has deletion vectors, which Riverrun does not read".to_owned())
}

/// What one version did to a table.
pub(super) struct Changes {
    /// The files that it added, but those that hold rows which were there before.
    pub added: Vec<File>,
    /// Whether it took rows away.
    pub removed: bool,
    /// The table's columns, where it set them.
    pub schema: Option<Schema>,
}

impl Changes {
    /// Those of a version; `None`: there is no such version (yet, or any more).
    pub async fn of(log: &LogStoreRef, version: Version) -> Result<Option<Self>, DeltaTableError> {
        let Some(entry) = log.read_commit_entry(version).await? else { return Ok(None) };
        let mut changes = Self { added: Vec::new(), removed: false, schema: None };
        for action in get_actions(version, &entry)? {
            match action {
                Action::Add(add) if add.data_change && add.deletion_vector.is_some() => return Err(deletion_vectors()),
                Action::Add(add) if add.data_change => changes.added.push(File::of(&add)),
                Action::Remove(remove) => changes.removed |= remove.data_change,
                Action::Metadata(metadata) => changes.schema = Some((&metadata.parse_schema()?).try_into_arrow()?),
                Action::Protocol(protocol) => PROTOCOL.can_read_from_protocol(&protocol)?,
                _ => {}
            }
        }
        Ok(Some(changes))
    }
}

/// Whether the log has an entry of a later version.
pub(super) async fn has_later(log: &LogStoreRef, version: Version) -> Result<bool, DeltaTableError> {
    let (folder, entry) = (log.log_path(), format!("{version:020}.json"));
    let mut later = log.object_store(None).list_with_offset(Some(folder), &folder.clone().join(entry));
    while let Some(object) = later.try_next().await? {
        let number = object.location.filename().and_then(|name| name.get(..20)?.parse::<Version>().ok());
        if number.is_some_and(|number| number > version) {
            return Ok(true);
        }
    }
    Ok(false)
}
