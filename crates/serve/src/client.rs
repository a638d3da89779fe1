//! Asks the running process.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use riverrun_engine::progress::Progress;
use riverrun_engine::{Error, Result};
use serde::de::DeserializeOwned;

use crate::access::Secret;
use crate::discovery::Running;
use crate::protocol::{DeadLetters, Failure, LogRange, LogRecord, ReplayWanted, Replayed, SqlRequest, Stats, TopicInfo};

/// A connection to the running process.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<Secret>,
}

impl Client {
    /// To the process that `running` names. Nothing is sent yet.
    pub fn new(running: &Running) -> Self {
        Self { http: reqwest::Client::new(), base: format!("http://{}", running.address), token: None }
    }

    /// The same, showing this token.
    #[must_use]
    pub fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    /// Runs a query there.
    pub async fn sql(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let request = self.http.post(format!("{}/sql", self.base)).json(&SqlRequest { query: query.to_owned() });
        let body = self.answer(request).await?.bytes().await.map_err(lost)?;
        let reader = StreamReader::try_new(body.as_ref(), None)?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<Vec<_>, _>>()?))
    }

    /// The topics of its logs.
    pub async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.get("/log".to_owned()).await
    }

    /// Records of one topic.
    pub async fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        let LogRange { partition, offset, limit } = range;
        self.get(format!("/log/{topic}?partition={partition}&offset={offset}&limit={limit}")).await
    }

    /// Its counts.
    pub async fn stats(&self) -> Result<Stats> {
        self.get("/stats".to_owned()).await
    }

    /// Its newest report of progress; none before the first.
    pub async fn last_progress(&self) -> Result<Option<Progress>> {
        self.get("/progress".to_owned()).await
    }

    /// Its newest `n` reports, oldest first.
    pub async fn recent_progress(&self, n: usize) -> Result<Vec<Progress>> {
        self.get(format!("/progress?n={n}")).await
    }

    /// What it did in the last two seconds; waits at most as long for the answer.
    pub async fn live_progress(&self) -> Result<Progress> {
        let request = self.http.get(format!("{}/progress/live", self.base)).timeout(Duration::from_secs(2));
        self.answer(request).await?.json().await.map_err(lost)
    }

    /// What it does with bad records, and how many there were.
    pub async fn dead_letters(&self) -> Result<DeadLetters> {
        self.get("/api/v1/dead-letters?limit=0".to_owned()).await
    }

    /// Lets it give dead letters again. Waits for as long as it takes.
    pub async fn replay(&self, wanted: &ReplayWanted) -> Result<Replayed> {
        let request = self.http.post(format!("{}/api/v1/dead-letters/replay", self.base)).json(wanted);
        self.answer(request).await?.json().await.map_err(lost)
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T> {
        self.answer(self.http.get(format!("{}{path}", self.base))).await?.json().await.map_err(lost)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let response = request.send().await.map_err(lost)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let refused = response.status() == reqwest::StatusCode::UNAUTHORIZED;
        let failure: Failure = response.json().await.map_err(lost)?;
        let error = Error::invalid(failure.error);
        Err(if refused { error.hint("set RIVERRUN_TOKEN, or RIVERRUN_TOKEN_FILE to a file that holds it") } else { error })
    }
}

fn lost(e: reqwest::Error) -> Error {
    Error::transient(format!("the running process does not answer: {e}"))
}
