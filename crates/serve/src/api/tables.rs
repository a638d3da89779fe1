//! Tables and queries.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use riverrun_engine::time::Stopwatch;
use riverrun_engine::{Error, Result};

use super::{ARROW, Answered, Fault};
use crate::protocol::{Answer, Failure, QueryRequest, RowsAnswer, RowsWanted, TableInfo};
use crate::server::Served;

/// How many rows of a table are given unless somebody asks for another number, and at most.
const ROWS: usize = 100;
const MOST_ROWS: usize = 10_000;

/// The same of queries.
const QUERY_ROWS: usize = 10_000;
const MOST_QUERY_ROWS: usize = 100_000;

/// Says on an Arrow stream, which has no place for it, that there are more rows.
const TRUNCATED: HeaderName = HeaderName::from_static("riverrun-truncated");

/// The tables of the script.
#[utoipa::path(get, path = "/api/v1/tables", tag = "tables", responses((status = 200, body = Vec<TableInfo>)))]
pub async fn tables(State(served): State<Served>) -> Answered {
    Ok(Json(served.backend.tables()?).into_response())
}

/// One of them.
#[utoipa::path(get, path = "/api/v1/tables/{table}", tag = "tables", params(("table" = String, Path)),
    responses((status = 200, body = TableInfo), (status = 404, body = Failure)))]
pub async fn table(State(served): State<Served>, Path(table): Path<String>) -> Answered {
    Ok(Json(find(&served, &table)?).into_response())
}

fn find(served: &Served, name: &str) -> Result<TableInfo, Fault> {
    let mut tables = served.backend.tables()?;
    match tables.iter().position(|table| table.name == name) {
        Some(at) => Ok(tables.swap_remove(at)),
        None => Err(Fault::unknown("table", name, &tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>())),
    }
}

/// Rows of a table: by key, by range, the latest.
#[utoipa::path(get, path = "/api/v1/tables/{table}/rows", tag = "tables",
    params(
        ("table" = String, Path),
        ("key" = Option<Vec<String>>, Query, description = "values of the first columns of the PRIMARY KEY; may be repeated"),
        ("by" = Option<String>, Query, description = "the column that from, to and order are about; default: the table's time"),
        ("from" = Option<String>, Query, description = "its least value"),
        ("to" = Option<String>, Query, description = "its values are less than this"),
        ("order" = Option<String>, Query, description = "latest or earliest"),
        ("limit" = Option<usize>, Query, description = "at most so many rows: 100, at most 10,000"),
        ("columns" = Option<String>, Query, description = "only these, with commas between them"),
    ),
    responses((status = 200, body = RowsAnswer), (status = 400, body = Failure), (status = 404, body = Failure),
        (status = 408, body = Failure)))]
pub async fn rows(
    State(served): State<Served>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Answered {
    let table = find(&served, &name)?;
    if let Some(problem) = table.problem {
        return Err(Error::invalid(format!("table {name} cannot be read: {problem}")).into());
    }
    let wanted = wanted(query.as_deref().unwrap_or_default())?;
    let backend = served.backend.clone();
    answer(&served, &headers, async move { backend.rows(&name, wanted).await }).await
}

/// What the parameters of a request for rows say.
fn wanted(query: &str) -> Result<RowsWanted> {
    const NAMES: [&str; 7] = ["key", "by", "from", "to", "order", "limit", "columns"];
    let mut wanted = RowsWanted { limit: ROWS, ..RowsWanted::default() };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = value.into_owned();
        match name.as_ref() {
            "key" => wanted.key.push(value),
            "by" => wanted.by = Some(value),
            "from" => wanted.from = Some(value),
            "to" => wanted.to = Some(value),
            "order" => {
                wanted.latest = Some(match value.as_str() {
                    "latest" => true,
                    "earliest" => false,
                    _ => return Err(Error::invalid(format!("order={value}: it is latest or earliest"))),
                });
            }
            "limit" => {
                let number = value.parse::<usize>().ok().filter(|n| *n <= MOST_ROWS);
                wanted.limit = number.ok_or_else(|| {
                    Error::invalid(format!("limit={value}: it is a number up to {MOST_ROWS}")).hint("POST /api/v1/sql gives more")
                })?;
            }
            "columns" => wanted.columns.extend(value.split(',').map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned)),
            other => {
                let nearest = NAMES.into_iter().max_by(|a, b| strsim::jaro(other, a).total_cmp(&strsim::jaro(other, b)));
                return Err(Error::invalid(format!("there is no parameter {other}")).hint(format!(
                    "did you mean {}? there are {}",
                    nearest.unwrap_or_default(),
                    NAMES.join(", ")
                )));
            }
        }
    }
    Ok(wanted)
}

/// Runs a query: one SELECT, EXPLAIN, DESCRIBE or SHOW TABLES.
#[utoipa::path(post, path = "/api/v1/sql", tag = "tables", request_body = QueryRequest,
    responses((status = 200, content((RowsAnswer = "application/json"), (String = "application/vnd.apache.arrow.stream"))),
        (status = 400, body = Failure), (status = 408, body = Failure)))]
pub async fn sql(
    State(served): State<Served>,
    headers: HeaderMap,
    request: Result<Json<QueryRequest>, JsonRejection>,
) -> Answered {
    let Json(QueryRequest { query, limit }) = request?;
    let limit = limit.unwrap_or(QUERY_ROWS);
    if limit > MOST_QUERY_ROWS {
        return Err(Error::invalid(format!("limit {limit}: at most {MOST_QUERY_ROWS} rows are given")).into());
    }
    let backend = served.backend.clone();
    answer(&served, &headers, async move { backend.query(&query, limit).await }).await
}

/// Runs what gives an answer, and writes it in the format that is asked for, on the threads of queries.
async fn answer(served: &Served, headers: &HeaderMap, query: impl Future<Output = Result<Answer>> + Send + 'static) -> Answered {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let arrow = accept.contains(ARROW);
    let written = async move {
        let began = Stopwatch::start();
        let answer = query.await?;
        let body = if arrow { answer.arrow()? } else { answer.json(began.nanos() as f64 / 1e9)? };
        Ok((body, answer.truncated))
    };
    let (body, truncated) = served.queries.run(written).await?;
    let format = if arrow { ARROW } else { "application/json" };
    let mut response: Response = ([(header::CONTENT_TYPE, format), (header::VARY, "Accept")], body).into_response();
    if truncated {
        response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_wrong_ones_are_named() {
        let all = wanted("key=user_1&key=a%26b+c&by=t&from=1&to=2&order=latest&limit=5&columns=a,%20b").unwrap();
        let text = |s: &str| Some(s.to_owned());
        assert_eq!(
            all,
            RowsWanted {
                key: vec!["user_1".into(), "a&b c".into()],
                by: text("t"),
                from: text("1"),
                to: text("2"),
                latest: Some(true),
                limit: 5,
                columns: vec!["a".into(), "b".into()],
            }
        );
        assert_eq!(wanted("").unwrap(), RowsWanted { limit: 100, ..RowsWanted::default() });
        for (query, said) in [("limt=5", "did you mean limit?"), ("order=up", "latest or earliest"), ("limit=10001", "10000")] {
            let error = wanted(query).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
