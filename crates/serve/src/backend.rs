//! What the endpoint asks of the running process.

use std::sync::Arc;

use riverrun_engine::Result;
use riverrun_engine::progress::Progress;
use riverrun_engine::runtime::Steering;
use riverrun_engine::runtime::health::Health;
use riverrun_engine::runtime::stats::PipelineStats;

use crate::metrics::family::Family;
use crate::protocol::{
    Answer, GraphInfo, LogRange, LogRecord, PipelineInfo, ReplayWanted, Replayed, RowsWanted, Stats, TableInfo, TopicInfo,
};

/// What the running process can answer. Where it cannot yet, for it is starting, the error is transient.
#[async_trait::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs a read-only query over the live tables; gives at most `limit` rows.
    async fn query(&self, query: &str, limit: usize) -> Result<Answer>;

    /// Rows of one table.
    async fn rows(&self, table: &str, wanted: RowsWanted) -> Result<Answer>;

    /// The tables of its script.
    fn tables(&self) -> Result<Vec<TableInfo>>;

    /// The topics of its logs.
    fn topics(&self) -> Result<Vec<TopicInfo>>;

    /// Records of one.
    fn records(&self, topic: &str, range: LogRange) -> Result<Vec<LogRecord>>;

    /// What it is and does.
    fn pipeline(&self) -> PipelineInfo;

    /// Its graph.
    fn graph(&self) -> Result<GraphInfo>;

    /// What pauses, resumes and stops it.
    fn steering(&self) -> Result<Steering>;

    /// Its counts, and the rows that are kept to be looked at.
    fn observed(&self) -> Result<Arc<PipelineStats>>;

    /// By source: what becomes of bad records (the option `bad_records`), and the table that keeps them.
    fn fates(&self) -> Vec<(String, String, Option<String>)>;

    /// Gives dead letters again to where they came from. Blocks for as long as it takes.
    fn replay(&self, wanted: &ReplayWanted) -> Result<Replayed>;

    /// Counts, as the command line asks for them.
    fn stats(&self) -> Result<Stats>;

    /// The newest report of progress; none before the first.
    fn last_progress(&self) -> Result<Option<Arc<Progress>>>;

    /// The newest `n` reports of those that are kept, oldest first.
    fn recent_progress(&self, n: usize) -> Result<Vec<Arc<Progress>>>;

    /// What the pipeline did in the last two seconds.
    fn live_progress(&self) -> Result<Progress>;

    /// Metrics.
    fn metrics(&self) -> Vec<Family>;

    /// Whether it lives and is ready.
    fn health(&self) -> Health;
}
