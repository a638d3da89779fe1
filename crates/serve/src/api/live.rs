//! What a sink is given, as it happens.
//!
//! Invariant: a reader never slows the pipeline: it comes round by itself, sees the rows that are kept then, and is told how
//! many it missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures::stream;
use riverrun_engine::runtime::stats::{Newest, PipelineStats};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Answered, Fault};
use crate::backend::Backend;
use crate::protocol::{Failure, Recent, lines};
use crate::server::Served;

/// How often a reader looks for rows: what a row waits at most.
const LOOK: Duration = Duration::from_millis(50);

/// The most rows that a reader is told at once: what one reader may cost is bounded, however much a sink is given.
const ROWS_AT_ONCE: usize = 50;

/// How many looks pass between two signs of life.
const LOOKS_TO_SIGN: u32 = 300;

/// How many of the newest rows.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
pub struct Last {
    /// Begin with the newest so many that were kept; 100 at most.
    pub last: Option<u64>,
}

/// How many of the newest rows.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
pub struct Limit {
    /// At most so many; 20 by default.
    limit: Option<u64>,
}

/// The sink of this name, by its place.
pub fn find_sink(stats: &PipelineStats, name: &str) -> Result<usize, Fault> {
    stats
        .sinks
        .iter()
        .position(|sink| sink.name == name)
        .ok_or_else(|| Fault::unknown("sink", name, &stats.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>()))
}

/// Room for one more feed.
pub fn take_room(served: &Served) -> Result<OwnedSemaphorePermit, Fault> {
    let full = "as many live feeds are open as there may be; close one, or ask /recent from time to time";
    served.feeds.clone().try_acquire_owned().map_err(|_| Fault::new(StatusCode::SERVICE_UNAVAILABLE, full))
}

/// The newest rows that were committed for a sink.
#[utoipa::path(get, path = "/api/v1/sinks/{sink}/recent", tag = "live", params(("sink" = String, Path), Limit),
    responses((status = 200, body = Recent), (status = 404, body = Failure)))]
pub async fn recent(
    State(served): State<Served>,
    Path(sink): Path<String>,
    limit: Result<Query<Limit>, QueryRejection>,
) -> Answered {
    let limit = limit?.0.limit.unwrap_or(20);
    let stats = served.backend.observed()?;
    let newest = &stats.sinks[find_sink(&stats, &sink)?].newest;
    let sequence = newest.next();
    let rows: Vec<String> = lines(&newest.since(sequence.saturating_sub(limit)))?.into_iter().map(|(_, line)| line).collect();
    let body = format!("{{\"rows\":[{}],\"sequence\":{sequence}}}", rows.join(","));
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response())
}

/// Rows as they are committed for a sink, as server-sent events: `row`, `dropped`, `state`.
#[utoipa::path(get, path = "/api/v1/sinks/{sink}/live", tag = "live", params(("sink" = String, Path), Last),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 404, body = Failure),
        (status = 503, body = Failure)))]
pub async fn live(State(served): State<Served>, Path(sink): Path<String>, last: Result<Query<Last>, QueryRejection>) -> Answered {
    let last = last?.0.last.unwrap_or(0).min(100);
    let stats = served.backend.observed()?;
    let sink = find_sink(&stats, &sink)?;
    let room = take_room(&served)?;
    let next = stats.sinks[sink].newest.next();
    // What was not kept any more when the feed began was not missed by it.
    let kept = stats.sinks[sink].newest.since(next.saturating_sub(last)).first().map_or(next, |passed| passed.first);
    let feed = Feed {
        next: kept,
        stats,
        sink,
        signs: Signs::new(served.backend.clone(), LOOK, LOOKS_TO_SIGN),
        waiting: VecDeque::new(),
        _room: room,
    };
    let events = stream::unfold(feed, |mut feed| async move {
        let event = feed.event().await;
        Some((Ok::<Event, Infallible>(event), feed))
    });
    Ok(Sse::new(events).into_response())
}

/// When a feed looks, and its signs of life.
pub struct Signs {
    backend: Arc<dyn Backend>,
    looks: Interval,
    told: Option<String>,
    /// Looks since the last sign.
    silent: u32,
    /// Looks from one sign to the next.
    patience: u32,
}

impl Signs {
    /// A look each `every`, a sign after so many of them at the latest.
    pub fn new(backend: Arc<dyn Backend>, every: Duration, patience: u32) -> Self {
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { backend, looks, told: None, silent: 0, patience }
    }

    /// Waits for the time of the next look; gives a sign if the state has changed or it is time for one.
    pub async fn look(&mut self) -> Option<Event> {
        self.looks.tick().await;
        self.silent += 1;
        let state = self.backend.pipeline().state;
        if self.silent < self.patience && self.told.as_ref() == Some(&state) {
            return None;
        }
        self.silent = 0;
        let sign = Event::default().event("state").data(format!("{{\"state\":\"{state}\"}}"));
        self.told = Some(state);
        Some(sign)
    }
}

struct Feed {
    stats: Arc<PipelineStats>,
    sink: usize,
    /// The number of the row to be told next.
    next: u64,
    waiting: VecDeque<Event>,
    signs: Signs,
    _room: OwnedSemaphorePermit,
}

impl Feed {
    async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return event;
            }
            if let Some(sign) = self.signs.look().await {
                self.waiting.push_back(sign);
            }
            let stats = self.stats.clone();
            self.take(&stats.sinks[self.sink].newest);
        }
    }

    /// Takes the rows that have passed since.
    fn take(&mut self, newest: &Newest) {
        let end = newest.next();
        let wanted = self.next.max(end.saturating_sub(ROWS_AT_ONCE as u64));
        let passed = newest.since(wanted);
        let Some(first) = passed.first().map(|passed| passed.first) else { return };
        if first > self.next {
            let dropped = first - self.next;
            self.waiting.push_back(Event::default().event("dropped").data(format!("{{\"rows\":{dropped}}}")));
        }
        self.next = passed.last().map_or(first, |passed| passed.end());
        match lines(&passed) {
            Ok(lines) => self
                .waiting
                .extend(lines.into_iter().map(|(number, line)| Event::default().event("row").id(number.to_string()).data(line))),
            // A type that JSON cannot hold: they are missed, and that is told.
            Err(e) => {
                tracing::debug!("rows cannot be told: {e}");
                let rows = self.next - first;
                self.waiting.push_back(Event::default().event("dropped").data(format!("{{\"rows\":{rows}}}")));
            }
        }
    }
}
