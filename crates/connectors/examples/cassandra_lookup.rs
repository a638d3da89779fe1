//! Reads rows of a table in Cassandra by key: keys as JSON lines in, rows as JSON lines out, in their order, `found` with each.
//!
//! `cassandra_lookup NODE:PORT KEYSPACE TABLE KEY,… COLUMN:TYPE … < keys.jsonl`, types as arrow writes them (`Utf8`, `Int64`);
//! the columns of the key come first.

use std::io::Read as _;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use riverrun_connectors::cassandra::Lookup;
use riverrun_engine::table::{Location, Options, Table};
use riverrun_engine::{Error, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [node, keyspace, name, key, columns @ ..] = &arguments[..] else {
        return Err(Error::invalid("cassandra_lookup NODE:PORT KEYSPACE TABLE KEY,… COLUMN:TYPE …"));
    };
    let field = |column: &String| {
        let (name, data_type) = column.split_once(':').ok_or_else(|| Error::invalid(format!("{column}: no type")))?;
        Ok(Field::new(name, data_type.parse::<DataType>()?, true))
    };
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>>>()?));
    let primary_key: Vec<_> = key.split(',').map(str::to_owned).collect();
    let keys = Arc::new(schema.project(&(0..primary_key.len()).collect::<Vec<_>>())?);
    let options = [("connector", "cassandra"), ("contact_points", node), ("keyspace", keyspace), ("table", name)];
    let table = Table {
        name: name.clone(),
        columns: Vec::new(),
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key,
        options: Options::of(&options),
        location: Location::default(),
    };
    let lookup = Lookup::open(&table, &schema)?;

    let mut asked = Vec::new();
    std::io::stdin().read_to_end(&mut asked).map_err(|e| Error::permanent(e.to_string()))?;
    for batch in arrow_json::ReaderBuilder::new(keys).build(&asked[..])? {
        print(&lookup.get_blocking(batch?)?.into_rows("found")?)?;
    }
    Ok(())
}

fn print(rows: &RecordBatch) -> Result<()> {
    let mut writer = arrow_json::LineDelimitedWriter::new(std::io::stdout().lock());
    writer.write(rows)?;
    Ok(writer.finish()?)
}
