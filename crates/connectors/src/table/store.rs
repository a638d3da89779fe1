//! The tables of a directory: one keyspace of the store each.
//!
//! Invariant: the rows of an epoch and its position, where positions are kept, are one atomic write.
//!
//! Keyspaces: `table NAME` holds the rows ([`codec`](super::codec)); `definitions` holds by name the columns and the key
//! ([`definition`](super::definition)); `positions` holds by `lineage 0 sink 0 task u32 (big-endian)` the last epoch of a sink,
//! u64 big-endian.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow_row::Rows;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::sink::EpochOutput;
use riverrun_engine::{Error, Result};

use super::codec::RowCodec;
use super::definition::Definition;
use crate::embedded::{Handles, Reopening, open_database, parse_epoch, position_key, store_error};

static OPEN: Handles<Tables> = Handles::new();

/// Rows of a batch that a scan gives.
const SCAN_ROWS: usize = 8192;

/// The embedded tables of a directory.
pub struct Tables {
    disk: Reopening<Disk>,
}

struct Disk {
    database: Database,
    definitions: Keyspace,
    positions: Keyspace,
}

impl Disk {
    fn open(path: &Path) -> Result<Self> {
        let database = open_database(path, "riverrun sql")?;
        let keyspace = |name: &str| {
            let made = database.keyspace(name, KeyspaceCreateOptions::default);
            made.map_err(|e| store_error(&e).within(path.display()))
        };
        let (definitions, positions) = (keyspace("definitions")?, keyspace("positions")?);
        Ok(Self { database, definitions, positions })
    }

    fn rows(&self, name: &str) -> Result<Keyspace, fjall::Error> {
        self.database.keyspace(&format!("table {name}"), KeyspaceCreateOptions::default)
    }
}

impl Tables {
    /// The tables in `directory`, which is created if it is missing. All users within this process share them.
    pub fn open(directory: &Path) -> Result<Arc<Self>> {
        OPEN.get(directory, |path| Ok(Self { disk: Reopening::new(path, Disk::open)? }))
    }

    /// The names of all tables, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let disk = self.disk.get()?;
        let name = |entry: fjall::Guard| Ok(String::from_utf8_lossy(&entry.key().map_err(|e| self.disk.error(&e))?).into_owned());
        disk.definitions.iter().map(name).collect()
    }

    /// A table that is there.
    pub fn table(self: &Arc<Self>, name: &str) -> Result<Table> {
        let Some(definition) = self.definition(name)? else {
            let names = self.names()?.join(", ");
            let path = self.disk.path().display();
            return Err(Error::permanent(format!("{path} has no table {name}")).hint(match names.is_empty() {
                true => "there are none yet: has the pipeline that writes it run?".to_owned(),
                false => format!("there are {names}"),
            }));
        };
        Table::new(self, name, definition)
    }

    /// A table for rows of `schema` with this key (column indices): made if it is missing, refused if it is another.
    pub fn create_table(self: &Arc<Self>, name: &str, schema: &SchemaRef, key: &[usize]) -> Result<Table> {
        let definition = Definition::of(schema, key)?;
        if !(1..=240).contains(&name.len()) {
            return Err(Error::invalid(format!("'{name}' cannot be the name of a table: it takes 1 to 240 bytes")));
        }
        match self.definition(name)? {
            Some(kept) => kept.check_same(name, &definition)?,
            None => {
                self.disk.mend()?;
                let disk = self.disk.get()?;
                disk.definitions.insert(name, definition.write()?).map_err(|e| self.disk.broke(&e))?;
            }
        }
        Table::new(self, name, definition)
    }

    fn definition(&self, name: &str) -> Result<Option<Definition>> {
        let kept = self.disk.get()?.definitions.get(name).map_err(|e| self.disk.error(&e))?;
        kept.map(|bytes| Definition::read(name, &bytes)).transpose()
    }
}

/// A table: rows by key.
pub struct Table {
    tables: Arc<Tables>,
    name: String,
    definition: Definition,
    schema: SchemaRef,
    codec: RowCodec,
}

/// A change of one row: its place (batch, row), and the key it is about.
struct Changed<'a> {
    key: &'a [u8],
    place: (usize, usize),
}

impl Table {
    fn new(tables: &Arc<Tables>, name: &str, definition: Definition) -> Result<Self> {
        let schema = definition.schema()?;
        let codec = RowCodec::new(&schema, &definition.key_columns())?;
        Ok(Self { tables: Arc::clone(tables), name: name.to_owned(), definition, schema, codec })
    }

    /// The columns of its rows, all of them nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The names of the PRIMARY KEY's columns.
    pub fn primary_key(&self) -> &[String] {
        self.definition.key()
    }

    /// Takes the rows of an epoch: the newest row of each key replaces the one that was there, or deletes it. One atomic
    /// write, with the position of the task if it is kept by somebody (lineage, sink). After an error, the same again changes
    /// nothing twice.
    pub fn write(&self, output: &EpochOutput, kept_by: Option<(&str, &str)>) -> Result<()> {
        self.tables.disk.mend()?;
        let keys = output.batches.iter().map(|b| self.codec.keys(&b.rows)).collect::<Result<Vec<_>>>()?;
        let value = |b: &Batch| match b.change {
            Change::Delete => Ok(None),
            Change::Insert | Change::Late | Change::Upsert => self.codec.values(&b.rows),
        };
        let values = output.batches.iter().map(value).collect::<Result<Vec<_>>>()?;
        let disk = self.tables.disk.get()?;
        let rows = disk.rows(&self.name).map_err(|e| self.tables.disk.broke(&e))?;
        let mut write = disk.database.batch();
        for changed in newest(&keys) {
            let (batch, row) = changed.place;
            match (output.batches[batch].change, &values[batch]) {
                (Change::Delete, _) => write.remove(&rows, changed.key),
                (_, Some(values)) => write.insert(&rows, changed.key, values.row(row).data()),
                (_, None) => write.insert(&rows, changed.key, []),
            }
        }
        if let Some((lineage, sink)) = kept_by {
            let key = position_key(lineage, sink, output.task);
            write.insert(&disk.positions, key, output.epoch.to_be_bytes());
        }
        write.commit().map_err(|e| self.tables.disk.broke(&e))
    }

    /// The last epoch of a task whose rows a sink of a lineage wrote; 0 if there is none.
    pub fn position(&self, (lineage, sink): (&str, &str), task: u32) -> Result<u64> {
        let kept = self.tables.disk.get()?.positions.get(position_key(lineage, sink, task));
        parse_epoch(kept.map_err(|e| self.tables.disk.error(&e))?.as_deref())
    }

    /// All rows as they are now, by key: later writes do not show.
    pub fn scan(&self) -> Result<Scan> {
        let disk = self.tables.disk.get()?;
        let rows = disk.rows(&self.name).map_err(|e| self.tables.disk.error(&e))?;
        let codec = RowCodec::new(&self.schema, &self.definition.key_columns())?;
        Ok(Scan { entries: rows.iter(), codec, tables: Arc::clone(&self.tables) })
    }

    /// As [`scan`](Self::scan), the rows alone whose first key columns have these values, each an array of one value of the
    /// column's type. Others are not read.
    pub fn find(&self, values: &[ArrayRef]) -> Result<Scan> {
        let disk = self.tables.disk.get()?;
        let rows = disk.rows(&self.name).map_err(|e| self.tables.disk.error(&e))?;
        let codec = RowCodec::new(&self.schema, &self.definition.key_columns())?;
        Ok(Scan { entries: rows.prefix(codec.prefix(values)?), codec, tables: Arc::clone(&self.tables) })
    }
}

/// The newest change of each key, by key.
fn newest(keys: &[Rows]) -> Vec<Changed<'_>> {
    let changes = keys.iter().enumerate().flat_map(|(batch, rows)| {
        (0..rows.num_rows()).map(move |row| Changed { key: rows.row(row).data(), place: (batch, row) })
    });
    let mut changes: Vec<_> = changes.collect();
    // Sorted, since the store takes sorted keys faster; the newest first among equals.
    changes.sort_unstable_by(|a, b| a.key.cmp(b.key).then(b.place.cmp(&a.place)));
    changes.dedup_by(|later, kept| later.key == kept.key);
    changes
}

/// The rows of a table at one moment, in batches of a few thousand.
pub struct Scan {
    entries: fjall::Iter,
    codec: RowCodec,
    tables: Arc<Tables>,
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let entries: Result<Vec<_>, _> = self.entries.by_ref().take(SCAN_ROWS).map(fjall::Guard::into_inner).collect();
        match entries {
            Ok(entries) if entries.is_empty() => None,
            Ok(entries) => Some(self.codec.decode(&entries)),
            Err(e) => Some(Err(self.tables.disk.error(&e))),
        }
    }
}
