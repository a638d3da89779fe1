//! Answers requests.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use riverrun_engine::error::Kind;
use riverrun_engine::progress::Progress;
use riverrun_engine::runtime::health::Health;
use riverrun_engine::{Error, Result};

use crate::dashboard::{self, Ending};
use crate::metrics::accept;
use crate::metrics::family::{Family, render};
use crate::protocol::{Failure, LogRange, LogRecord, SqlRequest, Stats, Status, TopicInfo};

/// What the running process can answer.
#[async_trait::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs a read-only query over the live tables.
    async fn sql(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)>;

    /// The topics of its logs.
    fn topics(&self) -> Result<Vec<TopicInfo>>;

    /// Records of one.
    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>>;

    /// Counts.
    fn stats(&self) -> Result<Stats>;

    /// The newest report of progress; none before the first.
    fn last_progress(&self) -> Result<Option<Arc<Progress>>>;

    /// The newest `n` reports of those that are kept, oldest first.
    fn recent_progress(&self, n: usize) -> Result<Vec<Arc<Progress>>>;

    /// What the pipeline did in the last two seconds.
    fn live_progress(&self) -> Result<Progress>;

    /// Metrics.
    fn metrics(&self) -> Vec<Family>;

    /// Whether it lives and is ready.
    fn health(&self) -> Health;
}

/// How many reports of progress.
#[derive(serde::Deserialize)]
struct Count {
    n: Option<usize>,
}

/// The endpoint, running until dropped or the process ends.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ending: Ending,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Listens on `127.0.0.1:port` (0: any free port) on two threads of its own.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(port: u16, backend: Arc<dyn Backend>) -> Result<Self> {
        let failed = |e: std::io::Error| Error::permanent(format!("the HTTP endpoint cannot listen on 127.0.0.1:{port}: {e}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", port))).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ending = Ending::default();
        let routes = router(backend).merge(dashboard::page()).merge(ending.routes());
        runtime.spawn(async move {
            if let Err(e) = axum::serve(listener, routes).await {
                tracing::warn!("the HTTP endpoint stopped: {e}");
            }
        });
        Ok(Self { address, ending, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The pipeline has ended, in order or with an error: tells those who watch, and waits a second at most until they know.
    pub fn tell_end(&self, failure: Option<String>) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(self.ending.tell(failure));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn router(backend: Arc<dyn Backend>) -> Router {
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
        .with_state(backend)
}

async fn sql(State(backend): State<Arc<dyn Backend>>, Json(request): Json<SqlRequest>) -> Response {
    let answer = backend.sql(&request.query).await.and_then(|(schema, batches)| encode(&schema, &batches));
    match answer {
        Ok(body) => ([(header::CONTENT_TYPE, "application/vnd.apache.arrow.stream")], body).into_response(),
        Err(e) => failure(&e),
    }
}

async fn topics(State(backend): State<Arc<dyn Backend>>) -> Response {
    json(backend.topics())
}

async fn records(State(backend): State<Arc<dyn Backend>>, Path(topic): Path<String>, Query(range): Query<LogRange>) -> Response {
    json(backend.records(&topic, range))
}

async fn stats(State(backend): State<Arc<dyn Backend>>) -> Response {
    json(backend.stats())
}

async fn metrics(State(backend): State<Arc<dyn Backend>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let format = accept::format(Some(accept.as_str()).filter(|a| !a.is_empty()));
    let text = render(&backend.metrics(), format);
    ([(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")], text).into_response()
}

async fn livez(State(backend): State<Arc<dyn Backend>>) -> Response {
    health(Status::live(&backend.health()))
}

async fn readyz(State(backend): State<Arc<dyn Backend>>) -> Response {
    health(Status::ready(&backend.health()))
}

fn health(status: Status) -> Response {
    let code = if status.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, [(header::CACHE_CONTROL, "no-store")], Json(status)).into_response()
}

async fn progress(State(backend): State<Arc<dyn Backend>>, query: Result<Query<Count>, QueryRejection>) -> Response {
    match query {
        Ok(Query(Count { n: None })) => json(backend.last_progress().as_ref().map(|last| last.as_deref()).map_err(Clone::clone)),
        Ok(Query(Count { n: Some(n) })) => match backend.recent_progress(n) {
            Ok(reports) => Json(reports.iter().map(AsRef::as_ref).collect::<Vec<&Progress>>()).into_response(),
            Err(e) => failure(&e),
        },
        Err(_) => failure(&Error::invalid("n must be a number of reports: /progress?n=10")),
    }
}

async fn live_progress(State(backend): State<Arc<dyn Backend>>) -> Response {
    json(backend.live_progress())
}

fn json<T: serde::Serialize>(answer: Result<T>) -> Response {
    answer.map_or_else(|e| failure(&e), |a| Json(a).into_response())
}

fn failure(error: &Error) -> Response {
    let status = match error.kind() {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Transient => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Permanent => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(Failure { error: error.to_string() })).into_response()
}

fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?)
}
