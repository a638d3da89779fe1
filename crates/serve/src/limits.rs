//! What a request may cost.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use riverrun_engine::Result;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::Fault;

/// Bounds of the endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// How long a client may take to send a request's headers, or be silent between two requests.
    pub header_time: Duration,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// How long an answer may take, live feeds aside.
    pub answer_time: Duration,
    /// How long a query may take, its wait for others included.
    pub query_time: Duration,
    /// Queries at once; more wait.
    pub queries: usize,
    /// Live feeds at once; more are refused.
    pub feeds: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            header_time: Duration::from_secs(10),
            header_bytes: 32 << 10,
            body_bytes: 64 << 10,
            answer_time: Duration::from_secs(90),
            query_time: Duration::from_secs(30),
            queries: 4,
            feeds: 64,
        }
    }
}

/// Runs queries, a few at once, on threads of their own: whatever a query does, the rest of the endpoint goes on answering.
#[derive(Clone)]
pub struct Queries {
    threads: Handle,
    slots: Arc<Semaphore>,
    time: Duration,
}

impl Queries {
    /// On these threads, within these limits.
    pub fn new(threads: Handle, limits: &Limits) -> Self {
        Self { threads, slots: Arc::new(Semaphore::new(limits.queries)), time: limits.query_time }
    }

    /// Runs one to its end, or to the limit of its time: then it is dropped, and what it was doing ends at the next batch. A
    /// panic within it costs its answer alone.
    ///
    /// # Errors
    /// Those of the query; that it took too long; that it panicked.
    pub async fn run<T: Send + 'static>(&self, query: impl Future<Output = Result<T>> + Send + 'static) -> Result<T, Fault> {
        let slots = self.slots.clone();
        let mut task = JoinSet::new();
        task.spawn_on(
            async move {
                // Never closed.
                let _slot = slots.acquire_owned().await.ok();
                query.await
            },
            &self.threads,
        );
        match tokio::time::timeout(self.time, task.join_next()).await {
            Ok(Some(Ok(answer))) => Ok(answer?),
            Ok(_) => Err(Fault::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the query made riverrun panic; that is a fault of riverrun, please report it",
            )),
            Err(_) => Err(Fault::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the query took longer than {} seconds and was stopped; ask for less", self.time.as_secs()),
            )),
        }
    }
}
