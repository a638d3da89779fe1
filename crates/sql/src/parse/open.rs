//! Columns of tables that a schema registry tells.
//!
//! Planning does no I/O: so this stands between parsing and planning, and a script that needs no registry passes it unasked.

use riverrun_engine::connect::Told;
use riverrun_engine::table::{Column, Table};

use super::fault::{Fault, Result};
use crate::ScriptError;
use crate::script::Script;

/// Fills in the columns that tables leave to a registry. `ask` tells those of one table.
///
/// # Errors
/// What `ask` says, or a clause that names no column of the table, with its place.
pub fn resolve(script: &mut Script, ask: &dyn Fn(&Table) -> riverrun_engine::Result<Told>) -> Result<(), ScriptError> {
    fill(script, ask).map_err(|fault| fault.into_error(&script.file, &script.text))
}

fn fill(script: &mut Script, ask: &dyn Fn(&Table) -> riverrun_engine::Result<Told>) -> Result<()> {
    for (name, open) in std::mem::take(&mut script.open) {
        let Some(table) = script.tables.iter_mut().find(|t| t.name == name) else { continue };
        // A table that rows are written to takes the query's columns; so may any where a program writes, not the script.
        let is_written = script.inserts.is_empty() || script.inserts.iter().any(|insert| insert.table == name);
        if open.asked || !is_written {
            let told = ask(table).map_err(|error| {
                let fault = Fault::at(table.location, format!("table {name}: {}", error.message()));
                match error.hint_text() {
                    Some(hint) => fault.hint(hint),
                    None => fault.hint("or name the columns: then nobody need be asked"),
                }
            })?;
            let declared = |name: &str| table.columns.iter().any(|c| c.field.name() == name);
            let new = told.columns.into_iter().filter(|field| !declared(field.name()));
            let new: Vec<_> = new.map(|field| Column { field, metadata: None, location: table.location }).collect();
            table.columns.splice(open.at..open.at, new);
            for (option, value) in told.options {
                if table.options.get(&option).is_none() {
                    table.options = table.options.with(&option, &value);
                }
            }
        }
        open.resolve(table)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, FieldRef};
    use riverrun_engine::Error;

    use super::*;
    use crate::parse::parse;
    use crate::parse::types::timestamp;

    fn registry() -> Vec<FieldRef> {
        let fields = [("id", DataType::Utf8, false), ("amount", DataType::Float64, true), ("at", timestamp(), false)];
        fields.map(|(name, data_type, nullable)| Arc::new(Field::new(name, data_type, nullable))).to_vec()
    }

    fn resolved(text: &str) -> Result<Script, String> {
        let mut script = parse("s.sql", text, &|_| None).map_err(|e| e.to_string())?;
        let told = |_: &Table| Ok(Told { columns: registry(), options: vec![("reader_schema".into(), "{}".into())] });
        resolve(&mut script, &told).map_err(|e| e.to_string())?;
        Ok(script)
    }

    fn columns(text: &str) -> Vec<String> {
        let script = resolved(text).unwrap();
        script.tables[0].columns.iter().map(|c| format!("{} {}", c.field.name(), c.field.data_type())).collect()
    }

    const WITH: &str = "WITH (connector = 'log', topic = 't', format = 'avro')";

    #[test]
    fn a_star_stands_for_the_registrys_columns_where_it_stands() {
        let of = |list: &str| columns(&format!("CREATE TABLE t {list} {WITH}; INSERT INTO s SELECT * FROM t"));
        assert_eq!(of(""), ["id Utf8", "amount Float64", "at Timestamp(µs, \"UTC\")"]);
        assert_eq!(of("(o BIGINT METADATA FROM 'offset', *, amount DECIMAL(9, 2))").join(", "), {
            "o Int64, id Utf8, at Timestamp(µs, \"UTC\"), amount Decimal128(9, 2)"
        });
        assert_eq!(of("(id VARCHAR)"), ["id Utf8"]);
    }

    #[test]
    fn clauses_name_columns_that_the_registry_tells() {
        let list = "(WATERMARK FOR at AS at - INTERVAL '1 minute', n INT METADATA FROM 'partition', *) PARTITIONED BY (id)";
        let script = resolved(&format!("CREATE TABLE t {list} {WITH}; INSERT INTO s SELECT * FROM t")).unwrap();
        let table = &script.tables[0];
        assert_eq!((table.watermark.as_ref().unwrap().column, &table.partitioned_by[..]), (3, &[1][..]));
        assert_eq!(table.options.get("reader_schema").unwrap(), "{}");
        let told = resolved(&format!("CREATE TABLE t (*, WATERMARK FOR when AS when) {WITH}")).unwrap_err();
        assert!(told.contains("s.sql:1:34: table t has no column when"), "{told}");
    }

    #[test]
    fn a_table_that_is_written_takes_the_querys_columns_and_asks_nobody() {
        assert!(columns(&format!("CREATE TABLE t {WITH}; INSERT INTO t SELECT 1")).is_empty());
        assert!(columns(&format!("CREATE TABLE t (PRIMARY KEY (id)) {WITH}")).is_empty());
    }

    #[test]
    fn what_the_registry_says_stands_with_the_tables_place() {
        let mut script = parse("s.sql", &format!("CREATE TABLE t (*) {WITH}"), &|_| None).unwrap();
        let error = resolve(&mut script, &|_| Err(Error::transient("nobody answers"))).unwrap_err().to_string();
        assert!(error.contains("s.sql:1:14: table t: nobody answers") && error.contains("name the columns"), "{error}");
        let told = parse("s.sql", "CREATE TABLE t (*) WITH (connector = 'log', topic = 't')", &|_| None).unwrap_err().to_string();
        assert!(told.contains("s.sql:1:17: '*'") && told.contains("format = 'avro'"), "{told}");
        let told = parse("s.sql", &format!("CREATE TABLE t (*, *) {WITH}"), &|_| None).unwrap_err().to_string();
        assert!(told.contains("'*' twice"), "{told}");
    }
}
