//! What the pipeline is and does.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use super::Answered;
use crate::protocol::{GraphInfo, HealthInfo, PipelineInfo};
use crate::server::Served;

/// The pipelines of this process: one.
#[utoipa::path(get, path = "/api/v1/pipelines", tag = "pipeline", responses((status = 200, body = Vec<PipelineInfo>)))]
pub async fn pipelines(State(served): State<Served>) -> Answered {
    Ok(Json([served.backend.pipeline()]).into_response())
}

/// The pipeline of this process.
#[utoipa::path(get, path = "/api/v1/pipeline", tag = "pipeline", responses((status = 200, body = PipelineInfo)))]
pub async fn pipeline(State(served): State<Served>) -> Answered {
    Ok(Json(served.backend.pipeline()).into_response())
}

/// Its graph, with counts and rates.
#[utoipa::path(get, path = "/api/v1/pipeline/graph", tag = "pipeline", responses((status = 200, body = GraphInfo)))]
pub async fn graph(State(served): State<Served>) -> Answered {
    Ok(Json(served.backend.graph()?).into_response())
}

/// Whether it lives and is ready, and what is wrong. Always 200; `/livez` and `/readyz` answer with statuses.
#[utoipa::path(get, path = "/api/v1/pipeline/health", tag = "pipeline", responses((status = 200, body = HealthInfo)))]
pub async fn health(State(served): State<Served>) -> Answered {
    let backend = &served.backend;
    Ok(Json(HealthInfo::of(&backend.health(), backend.pipeline().state)).into_response())
}
