//! A feed and a sink that is busy: what comes meanwhile is held, one row per key, and makes room.

use super::*;
use crate::batch::{Batch, Change};
use crate::runtime::feed::{Feed, Shared};
use crate::runtime::part::Work as _;
use crate::runtime::positions::Positions;
use crate::runtime::queue::{Handed, SinkQueue};
use crate::runtime::stats::PipelineStats;
use crate::runtime::terms::Terms;

/// Says whether it is ready, and gives out what it takes at once.
#[derive(Clone)]
struct Busy(Collected, Arc<Mutex<bool>>);

impl Sink for Busy {
    fn is_ready(&self) -> bool {
        *self.1.lock().unwrap()
    }

    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        assert!(self.is_ready(), "written to while it is busy");
        self.0.write(output)
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        Ok(if self.is_ready() { Flushed::All } else { Flushed::Pending })
    }
}

fn upserts(epoch: u64, keys: std::ops::Range<i64>) -> EpochOutput {
    let times = TimestampMicrosecondArray::from_iter_values(keys.clone().map(|_| epoch as i64)).with_timezone("UTC");
    let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(times), Arc::new(Int64Array::from_iter_values(keys))];
    let rows = RecordBatch::try_new(schema(), columns).unwrap();
    EpochOutput { task: 0, epoch, clock: 10 * epoch as i64, batches: vec![Batch { rows, change: Change::Upsert }] }
}

#[test]
fn what_comes_while_a_sink_is_busy_becomes_one_row_per_key_and_makes_room() {
    let mut graph = graph(&[Port::Rows]);
    let NodeKind::Sink(plan) = &mut graph.nodes[1].kind else { panic!("a sink") };
    (plan.emit, plan.key) = (Emit::Update, vec![1]);
    let plan = plan.clone();
    let stats = Arc::new(PipelineStats::new(&graph, &[], 1, 1 << 20, 0));
    let queue = Arc::new(SinkQueue::new(stats.sinks[0].clone(), true));
    let (positions, terms) = (Arc::new(Positions::new(1, 1)), Arc::new(Terms::new(1)));
    let term = terms.begin(0);
    let shared = Shared {
        queue: queue.clone(),
        positions: positions.clone(),
        stats,
        clock: Arc::new(ManualClock::at(0)),
        stop_deadline: Duration::from_secs(1),
        terms,
        commits: None,
        shares: false,
    };
    let sink = Busy(Collected::default(), Arc::new(Mutex::new(false)));
    let mut feed = Feed::new(0, 1, &plan, Box::new(sink.clone()), shared).unwrap();
    for epoch in 1..=500 {
        queue.hand(Handed { output: upserts(epoch, 0..100), record_time: None, term });
        feed.step().unwrap();
        assert!(!queue.is_full(), "after epoch {epoch}");
    }
    assert!(sink.0.0.lock().unwrap().is_empty());
    assert_eq!(positions.safe_epoch(0), 0, "nothing is safe yet");
    *sink.1.lock().unwrap() = true;
    feed.step().unwrap();
    let outputs = sink.0.0.lock().unwrap();
    assert_eq!((outputs.len(), outputs[0].epoch, outputs[0].clock, outputs[0].rows()), (1, 500, 5000, 100));
    assert_eq!((positions.safe_epoch(0), queue.bytes()), (500, 0));
}
