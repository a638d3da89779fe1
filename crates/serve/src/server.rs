//! The endpoint: its threads, its address, its routes.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use riverrun_engine::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use tower_http::timeout::TimeoutLayer;

use crate::access::Listen;
pub use crate::backend::Backend;
use crate::dashboard::{self, Ending};
use crate::limits::{Limits, Queries};
use crate::{api, connections, guard, plain};

/// The stack of a thread of queries: parsers and planners walk a query by recursion. Only what is used takes memory.
pub const QUERY_STACK: usize = 64 << 20;

/// What handlers share.
#[derive(Clone)]
pub struct Served {
    /// What is asked.
    pub backend: Arc<dyn Backend>,
    /// Where queries run.
    pub queries: Queries,
    /// Room for live feeds.
    pub feeds: Arc<Semaphore>,
}

/// The endpoint, running until dropped or the process ends.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ending: Ending,
    answers: Option<Runtime>,
    queries: Option<Runtime>,
}

impl Server {
    /// Listens, on threads of its own: two that answer, and two for queries, so that no query holds up an answer.
    ///
    /// # Errors
    /// The address cannot be listened on: often the port is taken.
    pub fn start(listen: &Listen, limits: Limits, backend: Arc<dyn Backend>) -> Result<Self> {
        let failed = |e: std::io::Error| Error::permanent(format!("the HTTP endpoint cannot listen on {}: {e}", listen.address));
        let threads = |name, stack| {
            let threads =
                Builder::new_multi_thread().worker_threads(2).thread_name(name).thread_stack_size(stack).enable_all().build();
            threads.map_err(failed)
        };
        let (answers, queries) = (threads("serve", 2 << 20)?, threads("query", QUERY_STACK)?);
        let listener = answers.block_on(tokio::net::TcpListener::bind(listen.address)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let served = Served {
            backend,
            queries: Queries::new(queries.handle().clone(), &limits),
            feeds: Arc::new(Semaphore::new(limits.feeds)),
        };
        let ending = Ending::default();
        let routes = router(served, &ending, listen, &limits);
        answers.spawn(connections::accept(listener, routes, limits));
        Ok(Self { address, ending, answers: Some(answers), queries: Some(queries) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The pipeline has ended, in order or with an error: tells those who watch, and waits a second at most until they know.
    pub fn tell_end(&self, failure: Option<String>) {
        if let Some(answers) = &self.answers {
            answers.block_on(self.ending.tell(failure));
        }
    }

    /// The threads that queries run on.
    pub fn query_threads(&self) -> Option<Handle> {
        self.queries.as_ref().map(|queries| queries.handle().clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for runtime in [self.answers.take(), self.queries.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

/// All routes. What answers at once, or within a time, is bounded by it; live feeds are not.
fn router(served: Served, ending: &Ending, listen: &Listen, limits: &Limits) -> Router {
    let in_time = plain::routes().merge(api::routes()).merge(dashboard::page());
    let in_time = in_time.layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, limits.answer_time));
    in_time
        .merge(api::feeds())
        .merge(ending.routes())
        .with_state(served)
        .fallback(api::unknown)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(DefaultBodyLimit::max(limits.body_bytes))
        .layer(from_fn_with_state(Arc::new(listen.access.clone()), guard::guard))
}
