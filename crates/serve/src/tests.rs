//! Server and client against each other.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use riverrun_engine::progress::{Durations, EventTime, Identity, Progress, Timestamp};
use riverrun_engine::runtime::Steering;
use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::PipelineStats;
use riverrun_engine::{Error, Result};

use crate::access::{Listen, Secret};
use crate::client::Client;
use crate::discovery::{self, Announcement, Running};
use crate::limits::Limits;
use crate::metrics::family::Family;
use crate::metrics::starting;
use crate::protocol::{
    Answer, ColumnInfo, GraphInfo, LogRange, LogRecord, PipelineInfo, ReplayWanted, Replayed, ReplayedSource, RowsWanted, Stats,
    Status, TableInfo, TopicInfo,
};
use crate::server::{Backend, Server};

mod access;
mod api;
mod fuzz;

/// Has so many reports of progress.
struct Fixed(usize);

fn starting_error() -> Error {
    Error::transient("the pipeline is starting")
}

/// A server on a free port of loopback.
async fn server(token: Option<&str>) -> Server {
    let token = token.map(|token| Secret::new(token).unwrap());
    let listen = Listen::new(Listen::loopback(0).address, token, false).unwrap();
    let limits = Limits { query_time: std::time::Duration::from_secs(3), ..Limits::default() };
    tokio::task::spawn_blocking(move || Server::start(&listen, limits, Arc::new(Fixed(3))).unwrap()).await.unwrap()
}

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
    async fn query(&self, query: &str, limit: usize) -> Result<Answer> {
        match query {
            "SELECT 7 AS n" => {
                let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
                let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![7]))])?;
                let columns = vec![ColumnInfo { name: "n".into(), data_type: "BIGINT".into(), nullable: false }];
                Ok(Answer { schema, columns, batches: vec![rows.slice(0, limit.min(1))], truncated: limit == 0 })
            }
            "panic" => panic!("the query panics"),
            "for ever" => std::future::pending().await,
            _ => Err(Error::invalid("no such table: nowhere")),
        }
    }

    async fn rows(&self, table: &str, wanted: RowsWanted) -> Result<Answer> {
        assert_eq!((table, &wanted.key), ("numbers", &vec!["7".to_owned()]));
        self.query("SELECT 7 AS n", wanted.limit).await
    }

    fn tables(&self) -> Result<Vec<TableInfo>> {
        let table = |name: &str, problem: Option<&str>| TableInfo {
            name: name.into(),
            connector: "table".into(),
            role: "sink".into(),
            primary_key: vec!["n".into()],
            time: None,
            columns: Vec::new(),
            readable: problem.is_none(),
            problem: problem.map(str::to_owned),
        };
        Ok(vec![table("numbers", None), table("screen", Some("what goes to console cannot be read back"))])
    }

    fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(vec![TopicInfo { topic: "alerts".into(), partitions: vec![(0, 3)] }])
    }

    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>> {
        let record =
            |offset| LogRecord { partition: range.partition, offset, timestamp: 1, key: None, value: Some(topic.to_owned()) };
        Ok((range.offset..3).take(range.limit).map(record).collect())
    }

    fn pipeline(&self) -> PipelineInfo {
        PipelineInfo::starting("p", None, 1_700_000_000_000_000)
    }

    fn graph(&self) -> Result<GraphInfo> {
        Err(starting_error())
    }

    fn steering(&self) -> Result<Steering> {
        Err(starting_error())
    }

    fn observed(&self) -> Result<Arc<PipelineStats>> {
        Err(starting_error())
    }

    fn fates(&self) -> Vec<(String, String, Option<String>)> {
        Vec::new()
    }

    fn replay(&self, wanted: &ReplayWanted) -> Result<Replayed> {
        let source =
            ReplayedSource { source: wanted.source.clone().unwrap_or_default(), replayed: 2, ..ReplayedSource::default() };
        Ok(Replayed { dry_run: wanted.dry_run, sources: vec![source], records: Vec::new() })
    }

    fn stats(&self) -> Result<Stats> {
        Ok(Stats { pipeline: "p".into(), watermark: Some(5), lag: 9, nodes: Vec::new() })
    }

    fn last_progress(&self) -> Result<Option<Arc<Progress>>> {
        Ok(self.recent_progress(1)?.pop())
    }

    fn recent_progress(&self, n: usize) -> Result<Vec<Arc<Progress>>> {
        let all = self.0;
        Ok((all - n.min(all)..all).map(|batch| Arc::new(progress(batch as u64))).collect())
    }

    fn live_progress(&self) -> Result<Progress> {
        Ok(progress(99))
    }

    fn metrics(&self) -> Vec<Family> {
        starting("p")
    }

    fn health(&self) -> Health {
        Health { dead: Vec::new(), not_ready: vec!["source orders, partition 3: has not answered yet".into()] }
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let server = server(None).await;
    let url = format!("http://{}/metrics", server.address());
    for (accept, content_type, end) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", false),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            true,
        ),
    ] {
        let answer = reqwest::Client::new().get(&url).header("accept", accept).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &content_type.parse().unwrap()));
        let text = answer.text().await.unwrap();
        assert!(
            text.contains("riverrun_live{pipeline=\"p\"} 1\n") && text.contains("riverrun_ready{pipeline=\"p\"} 0\n"),
            "{text}"
        );
        assert_eq!(text.ends_with("# EOF\n"), end);
        if cfg!(target_os = "linux") {
            let resident = text.lines().find_map(|l| l.strip_prefix("process_resident_memory_bytes ")).unwrap();
            assert!(resident.parse::<f64>().unwrap() > 1e6, "{resident}");
        }
    }
}

#[tokio::test]
async fn health_is_a_status_and_the_reason() {
    let server = server(None).await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", server.address())).await.unwrap();
        (answer.status().as_u16(), answer.json::<Status>().await.unwrap())
    };
    assert_eq!(get("/livez").await, (200, Status { status: "ok".into(), problems: Vec::new() }));
    let (code, status) = get("/readyz").await;
    assert_eq!((code, status.status.as_str()), (503, "unavailable"));
    assert_eq!(status.problems, ["source orders, partition 3: has not answered yet"]);
}

#[tokio::test]
async fn a_client_finds_the_running_process_and_asks_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(None).await;
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
        let backend = Arc::new(Fixed(reports));
        let start = move || Server::start(&Listen::loopback(0), Limits::default(), backend).unwrap();
        let server = tokio::task::spawn_blocking(start).await.unwrap();
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
