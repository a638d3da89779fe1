//! The routes for the command line, for Prometheus and for orchestrators ([`protocol`](crate::protocol) lists them).

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use riverrun_engine::Error;
use riverrun_engine::progress::Progress;

use crate::api::{ARROW, Answered, Fault};
use crate::guard::Unknown;
use crate::metrics::accept;
use crate::metrics::family::render;
use crate::protocol::{LogRange, SqlRequest, Status};
use crate::server::Served;

/// How many rows a query of the command line gives: as many as fit.
const ROWS: usize = 10_000_000;

/// The routes.
pub fn routes() -> Router<Served> {
    Router::new()
        .route("/sql", post(sql))
        .route("/log", get(topics))
        .route("/log/{topic}", get(records))
        .route("/stats", get(stats))
        .route("/progress", get(progress))
        .route("/progress/live", get(live_progress))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
}

async fn sql(State(served): State<Served>, request: Result<Json<SqlRequest>, JsonRejection>) -> Answered {
    let Json(SqlRequest { query }) = request?;
    let backend = served.backend.clone();
    let body = served.queries.run(async move { backend.query(&query, ROWS).await?.whole()?.arrow() }).await?;
    Ok(([(header::CONTENT_TYPE, ARROW)], body).into_response())
}

/// The topics of the embedded log.
#[utoipa::path(get, path = "/api/v1/topics", tag = "live", responses((status = 200, body = Vec<crate::protocol::TopicInfo>)))]
pub async fn topics(State(served): State<Served>) -> Answered {
    Ok(Json(served.backend.topics()?).into_response())
}

/// Records of a topic of the embedded log.
#[utoipa::path(get, path = "/api/v1/topics/{topic}/records", tag = "live", params(("topic" = String, Path), LogRange),
    responses((status = 200, body = Vec<crate::protocol::LogRecord>)))]
pub async fn records(
    State(served): State<Served>,
    Path(topic): Path<String>,
    range: Result<Query<LogRange>, QueryRejection>,
) -> Answered {
    let Query(range) = range?;
    let backend = served.backend.clone();
    // It reads from disk.
    let records = served.queries.run(async move { backend.records(&topic, range) }).await?;
    Ok(Json(records).into_response())
}

async fn stats(State(served): State<Served>) -> Answered {
    Ok(Json(served.backend.stats()?).into_response())
}

async fn metrics(State(served): State<Served>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let format = accept::format(Some(accept.as_str()).filter(|a| !a.is_empty()));
    let text = render(&served.backend.metrics(), format);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], text).into_response()
}

async fn livez(State(served): State<Served>, request: Request) -> Response {
    health(Status::live(&served.backend.health()), &request)
}

async fn readyz(State(served): State<Served>, request: Request) -> Response {
    health(Status::ready(&served.backend.health()), &request)
}

fn health(status: Status, request: &Request) -> Response {
    let code = if status.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = match request.extensions().get::<Unknown>() {
        Some(_) => Status { problems: Vec::new(), ..status },
        None => status,
    };
    (code, Json(status)).into_response()
}

/// How many reports of progress.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
pub struct Count {
    /// The newest so many, oldest first; without it the newest alone, `null` before the first.
    n: Option<usize>,
}

/// Reports of progress.
#[utoipa::path(get, path = "/api/v1/pipeline/progress", tag = "pipeline", params(Count),
    responses((status = 200, body = Object, description = "docs/observing.md names the fields")))]
pub async fn progress(State(served): State<Served>, query: Result<Query<Count>, QueryRejection>) -> Answered {
    let wrong = || Fault::from(Error::invalid("n must be a number of reports: /progress?n=10"));
    match query.map_err(|_| wrong())?.0.n {
        None => Ok(Json(served.backend.last_progress()?.as_deref()).into_response()),
        Some(n) => {
            let reports = served.backend.recent_progress(n)?;
            Ok(Json(reports.iter().map(AsRef::as_ref).collect::<Vec<&Progress>>()).into_response())
        }
    }
}

/// What the pipeline did in the last two seconds, as a report of progress.
#[utoipa::path(get, path = "/api/v1/pipeline/progress/live", tag = "pipeline", responses((status = 200, body = Object)))]
pub async fn live_progress(State(served): State<Served>) -> Answered {
    Ok(Json(served.backend.live_progress()?).into_response())
}
