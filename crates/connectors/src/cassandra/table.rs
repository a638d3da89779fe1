//! The table in Cassandra: found and checked, or created.

use arrow::datatypes::Schema;
use riverrun_engine::{Error, Result};
use scylla::cluster::metadata::{ColumnType, Table};

use super::client::Client;
use super::config::{Config, Replication};
use super::ddl;
use super::definition::Definition;

/// Copies of a new keyspace where nobody says how many.
const COPIES: usize = 3;

/// Finds the table, or creates it, and its keyspace and types; gives the types of the columns, in the order of the rows.
///
/// # Errors
/// What is missing and may not be created; what differs from the rows.
pub(super) fn open(client: &Client, config: &Config, schema: &Schema, key: &[usize]) -> Result<Vec<ColumnType<'static>>> {
    let definition = Definition::of(config, schema, key)?;
    if let Some(table) = find(client, config)? {
        return definition.check(&table);
    }
    let place = config.full_name();
    if !config.create {
        return Err(missing(&format!("there is no table {place}")));
    }
    for user_type in definition.user_types() {
        client.change_schema(&ddl::create_type(&user_type), &place)?;
    }
    client.change_schema(&ddl::create_table(&definition, config.compaction.as_ref()), &place)?;
    client.refresh(&place)?;
    match find(client, config)? {
        // Somebody else may have been first, with another table.
        Some(table) => definition.check(&table),
        None => Err(Error::transient(format!("{place} was created and is not there yet"))),
    }
}

/// The table, if it is there; its keyspace is created if need be.
fn find(client: &Client, config: &Config) -> Result<Option<Table>> {
    let (state, name) = (client.session.get_cluster_state(), &config.keyspace);
    if let Some(keyspace) = state.get_keyspace(name) {
        return Ok(keyspace.tables.get(&config.table).cloned());
    }
    if !config.create {
        return Err(missing(&format!("there is no keyspace {name}")));
    }
    client.change_schema(&ddl::create_keyspace(name, &copies(client, config)), name)?;
    client.refresh(name)?;
    Ok(client.session.get_cluster_state().get_keyspace(name).and_then(|keyspace| keyspace.tables.get(&config.table).cloned()))
}

/// A table that is only read.
pub(super) fn existing(client: &Client, config: &Config) -> Result<Table> {
    let state = client.session.get_cluster_state();
    let Some(keyspace) = state.get_keyspace(&config.keyspace) else {
        return Err(Error::permanent(format!("there is no keyspace {}", config.keyspace)));
    };
    keyspace.tables.get(&config.table).cloned().ok_or_else(|| {
        let mut names: Vec<_> = keyspace.tables.keys().map(String::as_str).collect();
        names.sort_unstable();
        let there = if names.is_empty() { "no tables".to_owned() } else { names.join(", ") };
        Error::permanent(format!("there is no table {}", config.full_name())).hint(format!("the keyspace has {there}"))
    })
}

fn missing(what: &str) -> Error {
    Error::permanent(what).hint("create it, or let this program do it: create = 'true'")
}

fn copies(client: &Client, config: &Config) -> Vec<(String, u32)> {
    let each = |copies: u32| vec![("replication_factor".to_owned(), copies)];
    match &config.replication {
        Replication::Datacenters(copies) => copies.clone(),
        Replication::Factor(copies) => each(*copies),
        Replication::ByNodes => {
            let state = client.session.get_cluster_state();
            let nodes = state.get_nodes_info();
            let in_datacenter = |name: &Option<String>| nodes.iter().filter(|node| node.datacenter == *name).count();
            // As many as the smallest datacenter can keep.
            let smallest = nodes.iter().map(|node| in_datacenter(&node.datacenter)).min().unwrap_or(1);
            each(smallest.clamp(1, COPIES) as u32)
        }
    }
}
