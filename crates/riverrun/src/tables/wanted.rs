//! Rows of a table by key and range, the latest first: as a query.

use datafusion::common::{Column, ScalarValue};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, lit};
use riverrun_engine::{Error, Result};
use riverrun_serve::protocol::{RowsWanted, TableInfo};

/// The rows of `all` that are wanted; one more than the limit, so that it shows whether there are more.
pub fn choose(all: DataFrame, info: &TableInfo, wanted: &RowsWanted) -> Result<DataFrame> {
    let mut rows = all;
    if wanted.key.len() > info.primary_key.len() {
        let given = wanted.key.len();
        let key = match info.primary_key.is_empty() {
            true => "has no PRIMARY KEY".to_owned(),
            false => format!("has the PRIMARY KEY ({})", info.primary_key.join(", ")),
        };
        return Err(Error::invalid(format!("{given} key values were given, and {} {key}", info.name))
            .hint("POST /api/v1/sql finds rows by any column"));
    }
    for (name, value) in info.primary_key.iter().zip(&wanted.key) {
        rows = rows.clone().filter(column(name).eq(literal(&rows, name, value)?))?;
    }
    if wanted.from.is_some() || wanted.to.is_some() || wanted.latest.is_some() {
        let by = wanted.by.as_ref().or(info.time.as_ref());
        let by = by.ok_or_else(|| Error::invalid(format!("{} has no time", info.name)).hint("say by=column"))?;
        if let Some(from) = &wanted.from {
            rows = rows.clone().filter(column(by).gt_eq(literal(&rows, by, from)?))?;
        }
        if let Some(to) = &wanted.to {
            rows = rows.clone().filter(column(by).lt(literal(&rows, by, to)?))?;
        }
        if let Some(latest) = wanted.latest {
            check(&rows, by)?;
            rows = rows.sort(vec![column(by).sort(!latest, false)])?;
        }
    }
    rows = rows.limit(0, Some(wanted.limit + 1))?;
    if !wanted.columns.is_empty() {
        wanted.columns.iter().try_for_each(|name| check(&rows, name).map(drop))?;
        rows = rows.select(wanted.columns.iter().map(|name| column(name)).collect::<Vec<_>>())?;
    }
    Ok(rows)
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// The type of a column that must be there.
fn check(rows: &DataFrame, name: &str) -> Result<arrow::datatypes::DataType> {
    let schema = rows.schema();
    let field = schema.field_with_unqualified_name(name).map_err(|_| {
        let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        Error::invalid(format!("there is no column {name}")).hint(format!("there are {}", names.join(", ")))
    })?;
    Ok(field.data_type().clone())
}

/// A value of the column's type.
fn literal(rows: &DataFrame, name: &str, value: &str) -> Result<Expr> {
    let data_type = check(rows, name)?;
    let parsed = ScalarValue::try_from_string(value.to_owned(), &data_type).map_err(|_| {
        let data_type = riverrun_connectors::format::sql_type(&data_type);
        Error::invalid(format!("'{value}' does not fit column {name}, which is a {data_type}"))
    })?;
    Ok(lit(parsed))
}
