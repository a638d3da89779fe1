//! The API under `/api/v1`: the pipeline and its graph, actions, tables and queries, what comes out live, what was dropped.
//! `docs/http.md` describes it for people, [`openapi`] for machines.

mod actions;
mod dropped;
mod live;
pub mod openapi;
mod pipeline;
mod tables;
mod tail;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use riverrun_engine::Error;
use riverrun_engine::error::Kind;

use crate::plain;
use crate::protocol::Failure;
use crate::server::Served;

/// The media type of an Arrow IPC stream.
pub const ARROW: &str = "application/vnd.apache.arrow.stream";

/// What a handler gives.
pub type Answered = Result<Response, Fault>;

/// Why a request failed, and the status that says so.
#[derive(Debug)]
pub struct Fault {
    status: StatusCode,
    why: String,
}

impl Fault {
    /// With this status.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// There is no such thing; `there_are` names those that there are.
    pub fn unknown(what: &str, name: &str, there_are: &[&str]) -> Self {
        let error = Error::invalid(format!("there is no {what} {name}"));
        let error = match there_are.is_empty() {
            true => error,
            false => error.hint(format!("there are {}", there_are.join(", "))),
        };
        Self::new(StatusCode::NOT_FOUND, error.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Transient => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Permanent => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<JsonRejection> for Fault {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Fault {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.status, Json(Failure { error: self.why })).into_response()
    }
}

/// The routes that answer within a time.
pub fn routes() -> Router<Served> {
    Router::new()
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/pipelines", get(pipeline::pipelines))
        .route("/api/v1/pipeline", get(pipeline::pipeline))
        .route("/api/v1/pipeline/graph", get(pipeline::graph))
        .route("/api/v1/pipeline/health", get(pipeline::health))
        .route("/api/v1/pipeline/progress", get(plain::progress))
        .route("/api/v1/pipeline/progress/live", get(plain::live_progress))
        .route("/api/v1/pipeline/pause", post(actions::pause))
        .route("/api/v1/pipeline/resume", post(actions::resume))
        .route("/api/v1/pipeline/stop", post(actions::stop))
        .route("/api/v1/pipeline/checkpoint", post(actions::checkpoint))
        .route("/api/v1/tables", get(tables::tables))
        .route("/api/v1/tables/{table}", get(tables::table))
        .route("/api/v1/tables/{table}/rows", get(tables::rows))
        .route("/api/v1/sql", post(tables::sql))
        .route("/api/v1/sinks/{sink}/recent", get(live::recent))
        .route("/api/v1/topics", get(plain::topics))
        .route("/api/v1/topics/{topic}/records", get(plain::records))
        .route("/api/v1/dead-letters", get(dropped::dead_letters))
        .route("/api/v1/late-rows", get(dropped::late_rows))
}

/// The routes whose answers go on for as long as somebody listens, or take as long as the work does.
pub fn feeds() -> Router<Served> {
    Router::new()
        .route("/api/v1/sinks/{sink}/live", get(live::live))
        .route("/api/v1/topics/{topic}/tail", get(tail::tail))
        .route("/api/v1/dead-letters/replay", post(dropped::replay))
}

/// Answers a path that is none.
pub async fn unknown() -> Fault {
    Fault::new(StatusCode::NOT_FOUND, "there is nothing here; /api/v1/openapi.json lists what there is")
}

/// Answers a method that a path does not know.
pub async fn wrong_method() -> Fault {
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "this path knows another method; /api/v1/openapi.json lists what there is")
}
