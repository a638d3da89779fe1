//! How the pipeline ended, told to those who watch: the process goes right after it, and a page could not tell a failure from a
//! cable that was pulled.

use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::sync::watch;

/// How long the end of the process waits for the watchers' answers to leave.
const PATIENCE: Duration = Duration::from_secs(1);

/// The answer of `GET /dashboard/end`.
#[derive(Debug, Clone, Serialize)]
struct Ended {
    /// The error that ended it; none: it was stopped, or its input was done.
    failure: Option<String>,
}

/// The end to come.
#[derive(Debug, Clone)]
pub struct Ending(watch::Sender<Option<Ended>>);

impl Default for Ending {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Ending {
    /// `GET /dashboard/end`: answers when the pipeline has ended.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let ending = self.0.clone();
        Router::new().route("/dashboard/end", get(async move || Json(ended(ending.subscribe()).await)))
    }

    /// The pipeline has ended. Returns once all who watch were answered, at once if nobody does, after a second at most.
    pub async fn tell(&self, failure: Option<String>) {
        let watched = self.0.receiver_count() > 0;
        self.0.send_replace(Some(Ended { failure }));
        if watched {
            // The answers are made then; the connections' own tasks write them.
            let _ = tokio::time::timeout(PATIENCE, self.0.closed()).await;
            tokio::time::sleep(PATIENCE / 10).await;
        }
    }
}

async fn ended(mut end: watch::Receiver<Option<Ended>>) -> Option<Ended> {
    end.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone())
}
