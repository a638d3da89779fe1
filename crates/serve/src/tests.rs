//! Server and client against each other.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_engine::progress::{Durations, EventTime, Identity, Progress, Timestamp};
use riverrun_engine::{Error, Result};

use crate::client::Client;
use crate::discovery::{self, Announcement, Running};
use crate::protocol::{LogRange, LogRecord, Stats, TopicInfo};
use crate::server::{Backend, Server};

/// Has so many reports of progress.
struct Fixed(usize);

fn progress(batch_id: u64) -> Progress {
    Progress {
        identity: Identity::new("p", None, 0),
        timestamp: Timestamp(1_700_000_000_000_000),
        batch_id,
        batch_duration: 1000,
        num_input_rows: 7,
        input_rows_per_second: 7.0,
        processed_rows_per_second: 100.0 / 3.0,
        duration_ms: Durations::default(),
        event_time: EventTime::default(),
        state_operators: Vec::new(),
        operators: Vec::new(),
        sources: Vec::new(),
        sinks: Vec::new(),
    }
}

#[async_trait::async_trait]
impl Backend for Fixed {
    async fn sql(&self, query: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        if query != "SELECT 7 AS n" {
            return Err(Error::invalid("no such table: nowhere"));
        }
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![7]))])?;
        Ok((schema, vec![rows]))
    }

    fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(vec![TopicInfo { topic: "alerts".into(), partitions: vec![(0, 3)] }])
    }

    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        let record =
            |offset| LogRecord { partition: range.partition, offset, timestamp: 1, key: None, value: Some(topic.to_owned()) };
        Ok((range.offset..3).take(range.limit).map(record).collect())
    }

    fn stats(&self) -> Stats {
        Stats { pipeline: "p".into(), watermark: Some(5), lag: 9, nodes: Vec::new() }
    }

    fn last_progress(&self) -> Option<Arc<Progress>> {
        self.recent_progress(1).pop()
    }

    fn recent_progress(&self, n: usize) -> Vec<Arc<Progress>> {
        let all = self.0;
        (all - n.min(all)..all).map(|batch| Arc::new(progress(batch as u64))).collect()
    }

    fn live_progress(&self) -> Progress {
        progress(99)
    }
}

#[tokio::test]
async fn a_client_finds_the_running_process_and_asks_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::spawn_blocking(|| Server::start(0, Arc::new(Fixed(3))).unwrap()).await.unwrap();
    let running = Running { address: server.address().to_string(), pid: std::process::id(), pipeline: "p".into() };
    let announcement = Announcement::write(dir.path(), &running).unwrap();
    let client = Client::new(&discovery::find(dir.path()).unwrap());

    let (schema, rows) = client.sql("SELECT 7 AS n").await.unwrap();
    assert_eq!((schema.field(0).name().as_str(), rows[0].num_rows()), ("n", 1));
    assert_eq!(client.sql("SELECT * FROM nowhere").await.unwrap_err().message(), "no such table: nowhere");
    assert_eq!(client.topics().await.unwrap()[0].partitions, [(0, 3)]);
    let records = client.records("alerts", LogRange { partition: 0, offset: 1, limit: 9 }).await.unwrap();
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(client.stats().await.unwrap().lag, 9);

    drop(announcement);
    assert_eq!(discovery::find(dir.path()), None);
    drop(server);
    assert!(client.stats().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn progress_is_the_newest_report_the_recent_ones_or_what_happens_now() {
    for reports in [0, 3] {
        let server = tokio::task::spawn_blocking(move || Server::start(0, Arc::new(Fixed(reports))).unwrap()).await.unwrap();
        let running = Running { address: server.address().to_string(), pid: 1, pipeline: "p".into() };
        let client = Client::new(&running);
        let newest = client.last_progress().await.unwrap();
        assert_eq!(newest, reports.checked_sub(1).map(|n| progress(n as u64)));
        let recent = client.recent_progress(2).await.unwrap();
        assert_eq!(recent.iter().map(|p| p.batch_id).collect::<Vec<_>>(), [1, 2][..reports.min(2)]);
        assert_eq!(client.live_progress().await.unwrap(), progress(99));
        let wrong = reqwest::get(format!("http://{}/progress?n=many", server.address())).await.unwrap();
        assert_eq!(wrong.status(), 400);
        assert!(wrong.text().await.unwrap().contains("/progress?n=10"));
    }
}
