//! Reads rows by key: what a join with a table in Cassandra asks for.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use riverrun_engine::table::Table;
use riverrun_engine::{Error, Result};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Row;

use super::client::Client;
use super::config::Config;
use super::row::{Column, Values};
use super::{ddl, definition, failure, table, values};

/// A table that is read by its PRIMARY KEY.
pub struct Lookup {
    client: Client,
    ask: Arc<Asking>,
}

/// What requests need.
struct Asking {
    session: Arc<Session>,
    place: String,
    statement: PreparedStatement,
    /// The key's columns; their places are those in the batch of keys.
    key: Vec<Column>,
    schema: SchemaRef,
    concurrency: usize,
}

/// The answer to a batch of keys: a row for each of them, in their order.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The rows; all NULL where there is none under the key.
    pub rows: RecordBatch,
    /// Whether there is a row under the key.
    pub found: BooleanArray,
}

impl Looked {
    /// The rows with a column of this name behind them that says whether they are there.
    ///
    /// # Errors
    /// None but arrow's own.
    pub fn into_rows(self, found: &str) -> Result<RecordBatch> {
        let mut fields: Vec<_> = self.rows.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(found, DataType::Boolean, false)));
        let mut columns = self.rows.columns().to_vec();
        columns.push(Arc::new(self.found));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

impl Lookup {
    /// Connects, and looks that the table is there with these columns.
    ///
    /// `table`: with the options of `connector = 'cassandra'` and the whole PRIMARY KEY; `schema`: the columns to read, those of
    /// the key among them.
    ///
    /// # Errors
    /// A wrong option, a table that is not there or has other columns; nodes that cannot be reached (transient).
    pub fn open(table: &Table, schema: &SchemaRef) -> Result<Self> {
        let config = Config::of(table)?;
        let key = table.primary_key.iter().map(|name| {
            schema.index_of(name).map_err(|_| Error::invalid(format!("{name} of the PRIMARY KEY is not among the columns")))
        });
        let key = key.collect::<Result<Vec<_>>>()?;
        let (client, place) = (Client::connect(&config)?, config.full_name());
        let types = definition::Definition::of(&config, schema, &key)?.check(&table::existing(&client, &config)?)?;
        let full = ddl::full_name(&config.keyspace, &config.table);
        let columns: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let statement = client.prepare(ddl::select_by_key(&full, &columns, &table.primary_key), &place)?;
        let column = |(index, i): (usize, &usize)| {
            let field = Arc::clone(&schema.fields()[*i]);
            Column { index, field, typ: types[*i].clone(), key: Some(config.null_keys) }
        };
        let key = key.iter().enumerate().map(column).collect();
        let (session, schema, concurrency) = (Arc::clone(&client.session), schema.clone(), config.concurrency);
        let ask = Arc::new(Asking { session, place, statement, key, schema, concurrency });
        Ok(Self { client, ask })
    }

    /// The rows under these keys: a column for each of the PRIMARY KEY's, in its order. Many are asked for at once, up to the
    /// option `concurrency`. May be awaited on any executor.
    ///
    /// # Errors
    /// A key with NULL; what a node answered, transient if it may pass.
    pub async fn get(&self, keys: RecordBatch) -> Result<Looked> {
        let asked = self.client.handle().spawn(Arc::clone(&self.ask).all(keys));
        asked.await.map_err(|e| Error::permanent(format!("{}: reading has failed: {e}", self.ask.place)))?
    }

    /// The same, for a caller that is not async.
    ///
    /// # Errors
    /// See [`get`](Self::get).
    pub fn get_blocking(&self, keys: RecordBatch) -> Result<Looked> {
        self.client.run(Arc::clone(&self.ask).all(keys))
    }
}

impl Asking {
    async fn all(self: Arc<Self>, keys: RecordBatch) -> Result<Looked> {
        let values = Arc::new(Values::bind(&keys, &self.key)?);
        let ask = |row| {
            let (asking, values) = (Arc::clone(&self), Arc::clone(&values));
            async move { asking.one(&values, row).await }
        };
        let requests = stream::iter((0..keys.num_rows()).map(ask)).buffered(self.concurrency);
        let rows: Vec<Option<Row>> = requests.try_collect().await?;
        let found = rows.iter().map(|row| Some(row.is_some())).collect();
        Ok(Looked { rows: values::batch(&self.schema, rows)?, found })
    }

    async fn one(&self, keys: &Values, row: usize) -> Result<Option<Row>> {
        let answer = self.session.execute_unpaged(&self.statement, keys.row(row)).await;
        let answer = answer.map_err(|e| failure::executing(&e, &self.place))?;
        let wrong = |e: String| Error::permanent(format!("{}: {e}", self.place));
        let rows = answer.into_rows_result().map_err(|e| wrong(e.to_string()))?;
        rows.maybe_first_row::<Row>().map_err(|e| wrong(e.to_string()))
    }
}
