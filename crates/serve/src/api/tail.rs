//! Follows a topic of the embedded log.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::live::{Last, Signs, take_room};
use super::{Answered, Fault};
use crate::protocol::{Failure, LogRange, LogRecord};
use crate::server::Served;

/// How often a reader looks for records.
const LOOK: Duration = Duration::from_millis(200);

/// How many looks pass between two signs of life.
const LOOKS_TO_SIGN: u32 = 75;

/// The most records of a partition at once. A tail tells all of them, as fast as it is read.
const RECORDS_AT_ONCE: usize = 100;

/// Records of a topic of the embedded log as they come, as server-sent events: `record`, `state`.
#[utoipa::path(get, path = "/api/v1/topics/{topic}/tail", tag = "live", params(("topic" = String, Path), Last),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 404, body = Failure),
        (status = 503, body = Failure)))]
pub async fn tail(
    State(served): State<Served>,
    Path(topic): Path<String>,
    last: Result<Query<Last>, QueryRejection>,
) -> Answered {
    let last = last?.0.last.unwrap_or(0).min(100) as i64;
    let topics = served.backend.topics()?;
    let Some(info) = topics.iter().find(|info| info.topic == topic) else {
        return Err(Fault::unknown("topic", &topic, &topics.iter().map(|t| t.topic.as_str()).collect::<Vec<_>>()));
    };
    let next = info.partitions.iter().map(|(start, end)| (end - last).max(*start)).collect();
    let signs = Signs::new(served.backend.clone(), LOOK, LOOKS_TO_SIGN);
    let tail = Tail { topic, next, waiting: VecDeque::new(), signs, _room: take_room(&served)?, served };
    let events = stream::unfold(tail, |mut tail| async move {
        let event = tail.event().await?;
        Some((Ok::<Event, Infallible>(event), tail))
    });
    Ok(Sse::new(events).into_response())
}

struct Tail {
    served: Served,
    topic: String,
    /// By partition: the offset to be told next.
    next: Vec<i64>,
    waiting: VecDeque<Event>,
    signs: Signs,
    _room: OwnedSemaphorePermit,
}

impl Tail {
    /// The next event; none once the topic cannot be read any more.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if let Some(sign) = self.signs.look().await {
                self.waiting.push_back(sign);
            }
            let (backend, topic, next) = (self.served.backend.clone(), self.topic.clone(), self.next.clone());
            let read = async move {
                let range = |(partition, offset)| LogRange { partition, offset, limit: RECORDS_AT_ONCE };
                let all = (0..).zip(next).map(range).map(|range| backend.records(&topic, range));
                all.collect::<Result<Vec<Vec<LogRecord>>, _>>()
            };
            for records in self.served.queries.run(read).await.ok()? {
                for record in records {
                    self.next[record.partition as usize] = record.offset + 1;
                    self.waiting.push_back(Event::default().event("record").json_data(&record).ok()?);
                }
            }
        }
    }
}
