//! The text of statements.

use std::fmt::Write as _;

use scylla::cluster::metadata::UserDefinedType;

use super::config::Compaction;
use super::definition::Definition;
use super::types;

/// A name as it is, whatever CQL thinks of it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn map(entries: &[(String, String)]) -> String {
    let entries: Vec<_> = entries.iter().map(|(name, value)| format!("{}: {}", literal(name), literal(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn names(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// `copies`: by datacenter, or under `replication_factor` in each.
pub(super) fn create_keyspace(keyspace: &str, copies: &[(String, u32)]) -> String {
    let class = ("class".to_owned(), "NetworkTopologyStrategy".to_owned());
    let copies = copies.iter().map(|(datacenter, copies)| (datacenter.clone(), copies.to_string()));
    let replication: Vec<_> = std::iter::once(class).chain(copies).collect();
    format!("CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {}", quoted(keyspace), map(&replication))
}

pub(super) fn create_type(definition: &UserDefinedType<'_>) -> String {
    let fields = definition.field_types.iter().map(|(name, typ)| format!("{} {}", quoted(name), types::text(typ)));
    let fields: Vec<_> = fields.collect();
    let (keyspace, name) = (quoted(&definition.keyspace), quoted(&definition.name));
    format!("CREATE TYPE IF NOT EXISTS {keyspace}.{name} ({})", fields.join(", "))
}

pub(super) fn create_table(table: &Definition, compaction: Option<&Compaction>) -> String {
    let columns = table.columns.iter().map(|(name, typ)| format!("{} {}", quoted(name), types::text(typ)));
    let columns: Vec<_> = columns.collect();
    let mut key = format!("({})", names(&table.partition));
    if !table.clustering.is_empty() {
        let _ = write!(key, ", {}", names(&table.clustering));
    }
    let full = full_name(&table.keyspace, &table.name);
    let mut text = format!("CREATE TABLE IF NOT EXISTS {full} ({}, PRIMARY KEY ({key}))", columns.join(", "));
    if let Some((class, options)) = compaction {
        let mut entries = vec![("class".to_owned(), class.clone())];
        entries.extend_from_slice(options);
        let _ = write!(text, " WITH compaction = {}", map(&entries));
    }
    text
}

pub(super) fn full_name(keyspace: &str, table: &str) -> String {
    format!("{}.{}", quoted(keyspace), quoted(table))
}

/// A whole row. The write timestamp goes with the request.
pub(super) fn insert(table: &str, columns: &[String], ttl: Option<u32>) -> String {
    let marks = vec!["?"; columns.len()].join(", ");
    let ttl = ttl.map_or_else(String::new, |seconds| format!(" USING TTL {seconds}"));
    format!("INSERT INTO {table} ({}) VALUES ({marks}){ttl}", names(columns))
}

/// The row under a key.
pub(super) fn delete(table: &str, key: &[String]) -> String {
    format!("DELETE FROM {table} WHERE {}", equal(key))
}

pub(super) fn select(table: &str, columns: &[String]) -> String {
    format!("SELECT {} FROM {table}", names(columns))
}

pub(super) fn select_by_key(table: &str, columns: &[String], key: &[String]) -> String {
    format!("{} WHERE {}", select(table, columns), equal(key))
}

fn equal(key: &[String]) -> String {
    key.iter().map(|name| format!("{} = ?", quoted(name))).collect::<Vec<_>>().join(" AND ")
}
