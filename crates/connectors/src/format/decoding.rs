//! What the decoders of a source's partitions share.

#[cfg(feature = "avro")]
use std::sync::Arc;

#[cfg(feature = "avro")]
use riverrun_engine::Error;
use riverrun_engine::Result;
use riverrun_engine::connect::{Context, Told};
use riverrun_engine::table::Table;

use super::Decoder;
#[cfg(feature = "avro")]
use crate::schema_registry::SchemaRegistry;

/// Where the decoders of a source get what records only name: the schemas of Avro records.
#[derive(Default)]
pub(crate) struct Decoding {
    #[cfg(feature = "avro")]
    registry: Option<Arc<SchemaRegistry>>,
}

impl Decoding {
    /// What the format of a table needs. Asks nobody yet.
    pub fn of(table: &Table, context: &Context) -> Result<Self> {
        #[cfg(feature = "avro")]
        if is_avro(table) {
            return Ok(Self { registry: Some(SchemaRegistry::open(table, context)?) });
        }
        let _ = (table, context);
        Ok(Self::default())
    }

    /// The decoder of one partition.
    pub fn decoder(&self, table: &Table, topic: &str, partition: u32) -> Result<Decoder> {
        #[cfg_attr(not(feature = "avro"), allow(unused_mut))]
        let mut decoder = Decoder::new(table, topic, partition)?;
        #[cfg(feature = "avro")]
        if let Some(registry) = &self.registry {
            decoder.connect(registry);
        }
        Ok(decoder)
    }
}

/// The columns of a table, as the registry has them.
#[cfg(feature = "avro")]
pub(crate) fn columns(table: &Table, context: &Context) -> Result<Told> {
    let registry = SchemaRegistry::open(table, context)?;
    let config = registry.config();
    let subject = config.subject(&table.options)?;
    let (registered, _) = registry.version(&subject, config.schema_version)?;
    let (version, written) = (registered.version, registered.schema);
    let wrong = |why: String| Error::permanent(format!("version {version} of subject '{subject}': {why}"));
    let record = super::avro::Record::parse(&written.text, &written.references).map_err(wrong)?;
    let (columns, left_out) = super::avro::columns(&record);
    for why in left_out {
        tracing::warn!("table {}: version {version} of subject '{subject}': field left out: {why}", table.name);
    }
    tracing::info!("table {}: columns of version {version} of subject '{subject}'", table.name);
    // Its defaults stand in where older records lack a field.
    let own = written.references.is_empty().then(|| ("reader_schema".to_owned(), written.text));
    Ok(Told { columns: columns.into_iter().map(Arc::new).collect(), options: own.into_iter().collect() })
}

/// The columns of a table, as the registry has them.
#[cfg(not(feature = "avro"))]
pub(crate) fn columns(table: &Table, _: &Context) -> Result<Told> {
    Err(super::no_avro(table))
}

#[cfg(feature = "avro")]
fn is_avro(table: &Table) -> bool {
    table.options.get("format").is_some_and(|format| format.trim().eq_ignore_ascii_case("avro"))
}
