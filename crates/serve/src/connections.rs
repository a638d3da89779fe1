//! Takes connections and answers requests on them, within [`Limits`].

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::limits::Limits;

/// How long to wait after a connection could not be taken: often there are no file descriptors left.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Takes connections for ever.
pub async fn accept(listener: TcpListener, routes: Router, limits: Limits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    serve(stream, routes, &limits).await;
                    drop(slot);
                });
            }
            Err(e) => {
                tracing::debug!("a connection could not be taken: {e}");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, routes: Router, limits: &Limits) {
    // Answers are small: they must not wait for more.
    let _ = stream.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes.max(8192))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await;
    if let Err(e) = served {
        tracing::debug!("a connection ended: {e}");
    }
}
