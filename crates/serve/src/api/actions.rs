//! What changes what the pipeline does. The guard lets these pass only with a body of JSON, from no page of another site.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use riverrun_engine::runtime::Steering;
use riverrun_engine::time::Stopwatch;

use super::{Answered, Fault};
use crate::protocol::Acted;
use crate::server::Served;

/// How often it looks whether something is done.
const LOOK: Duration = Duration::from_millis(20);

/// How long workers may take to come to a halt: an epoch, or a large window that closes.
const HALT_TIME: Duration = Duration::from_secs(30);

/// How long checkpoints may take unless the request says otherwise, and at most.
const CHECKPOINT_TIME: f64 = 30.0;
const LONGEST_CHECKPOINT_TIME: f64 = 60.0;

fn acted(steering: &Steering) -> Acted {
    Acted { state: steering.state().name().to_owned(), ..Acted::default() }
}

/// Looks until it is so, or the time is over.
async fn until(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(time, looking).await.is_ok()
}

/// No task begins another epoch. Answers once all have come to a halt.
#[utoipa::path(post, path = "/api/v1/pipeline/pause", tag = "actions", request_body = Object,
    responses((status = 200, body = Acted), (status = 503, body = crate::protocol::Failure)))]
pub async fn pause(State(served): State<Served>) -> Answered {
    let steering = served.backend.steering()?;
    steering.pause();
    match until(HALT_TIME, || steering.stands_still()).await {
        true => Ok(Json(acted(&steering)).into_response()),
        false => Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, "it is asked to pause; a task is still within an epoch")),
    }
}

/// Goes on where it was paused.
#[utoipa::path(post, path = "/api/v1/pipeline/resume", tag = "actions", request_body = Object,
    responses((status = 200, body = Acted)))]
pub async fn resume(State(served): State<Served>) -> Answered {
    let steering = served.backend.steering()?;
    steering.resume();
    Ok(Json(acted(&steering)).into_response())
}

/// Ends it in order, as Ctrl-C does. Answers at once.
#[utoipa::path(post, path = "/api/v1/pipeline/stop", tag = "actions", request_body = Object,
    responses((status = 200, body = Acted)))]
pub async fn stop(State(served): State<Served>) -> Answered {
    let steering = served.backend.steering()?;
    steering.stop();
    Ok(Json(acted(&steering)).into_response())
}

/// How long to wait.
#[derive(Debug, Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointWanted {
    /// Seconds until it is given up; 30 by default, 60 at most.
    timeout_seconds: Option<f64>,
}

/// All tasks take a checkpoint now. Answers once they are written, or says what they wait for.
#[utoipa::path(post, path = "/api/v1/pipeline/checkpoint", tag = "actions", request_body = CheckpointWanted,
    responses((status = 200, body = Acted), (status = 400, body = crate::protocol::Failure),
        (status = 503, body = crate::protocol::Failure)))]
pub async fn checkpoint(State(served): State<Served>, wanted: Result<Json<CheckpointWanted>, JsonRejection>) -> Answered {
    let seconds = wanted?.0.timeout_seconds.unwrap_or(CHECKPOINT_TIME).clamp(0.0, LONGEST_CHECKPOINT_TIME);
    let steering = served.backend.steering()?;
    let began = Stopwatch::start();
    let mut request = steering.checkpoint()?;
    if !until(Duration::from_secs_f64(seconds), || request.is_written()).await {
        let why = format!("not all checkpoints are written after {seconds} seconds: {}", request.waits_for());
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, why));
    }
    let (tasks, seconds) = (Some(request.tasks()), Some(began.nanos() as f64 / 1e9));
    Ok(Json(Acted { tasks, seconds, ..acted(&steering) }).into_response())
}
