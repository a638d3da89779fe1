//! What did not go on as a row, and why.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use riverrun_engine::runtime::stats::Role;
use std::sync::atomic::Ordering::Relaxed;

use super::{Answered, Fault};
use crate::protocol::{BadSample, DeadLetters, LateRows, ReplayWanted, Replayed, SourceOfBad, lines};
use crate::server::Served;

/// Which samples.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
pub struct Wanted {
    /// At most so many, of each source; 20 by default.
    limit: Option<usize>,
    /// Of this source only.
    source: Option<String>,
}

/// Records that could not become rows: counts by reason, and the newest.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "dropped", params(Wanted),
    responses((status = 200, body = DeadLetters)))]
pub async fn dead_letters(State(served): State<Served>, wanted: Result<Query<Wanted>, QueryRejection>) -> Answered {
    let Query(Wanted { limit, source }) = wanted?;
    let (limit, stats) = (limit.unwrap_or(20), served.backend.observed()?);
    let mut letters = DeadLetters { sources: Vec::new(), samples: Vec::new() };
    for (name, fate, table) in served.backend.fates() {
        let Some(node) = stats.node(&name).filter(|_| source.as_ref().is_none_or(|wanted| *wanted == name)) else { continue };
        let counts = node.bad().into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect();
        letters.samples.extend(node.bad_samples().iter().rev().take(limit).map(BadSample::of));
        letters.sources.push(SourceOfBad { source: name, fate, table, counts });
    }
    letters.samples.sort_by_key(|sample| std::cmp::Reverse(sample.seen));
    Ok(Json(letters).into_response())
}

/// Gives dead letters again to where they came from: by default those that would become rows now, each once. Takes as long as
/// it takes.
#[utoipa::path(post, path = "/api/v1/dead-letters/replay", tag = "actions", request_body = ReplayWanted,
    responses((status = 200, body = Replayed), (status = 400, body = crate::protocol::Failure),
        (status = 503, body = crate::protocol::Failure)))]
pub async fn replay(State(served): State<Served>, wanted: Result<Json<ReplayWanted>, JsonRejection>) -> Answered {
    let Json(wanted) = wanted?;
    let backend = served.backend.clone();
    // It reads and writes, and waits for brokers.
    let replayed = tokio::task::spawn_blocking(move || backend.replay(&wanted)).await;
    let replayed = replayed.map_err(|e| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the replay broke off: {e}")))?;
    Ok(Json(replayed?).into_response())
}

/// Rows behind the watermark of their source: counts, and the newest.
#[utoipa::path(get, path = "/api/v1/late-rows", tag = "dropped", params(Wanted), responses((status = 200, body = LateRows)))]
pub async fn late_rows(State(served): State<Served>, wanted: Result<Query<Wanted>, QueryRejection>) -> Answered {
    let Query(Wanted { limit, source }) = wanted?;
    let (limit, stats) = (limit.unwrap_or(20) as u64, served.backend.observed()?);
    let mut sources = Vec::new();
    for node in stats.role(Role::Source).filter(|node| source.as_ref().is_none_or(|wanted| *wanted == node.name)) {
        let newest = &node.late_rows;
        let rows: Vec<String> = lines(&newest.since(newest.next().saturating_sub(limit)))?.into_iter().map(|(_, l)| l).collect();
        let (name, late) = (serde_json::Value::from(node.name.as_str()), node.late.load(Relaxed));
        sources.push(format!("{{\"source\":{name},\"late\":{late},\"rows\":[{}]}}", rows.join(",")));
    }
    let body = format!("{{\"sources\":[{}]}}", sources.join(","));
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response())
}
