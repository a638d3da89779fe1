//! The promise itself: a script run as a stream, by the live tasks, gives the rows that DataFusion gives over the same
//! records at rest.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::dataframe::DataFrame;
use datafusion::prelude::SessionConfig;
use riverrun::connectors::generator::{FraudRates, Generator, Labels, LineSink, ProduceSettings, Settings, produce};
use riverrun::engine::Result;
use riverrun::engine::connect::Connectors;
use riverrun::engine::graph::SourceNode;
use riverrun::engine::runtime;
use riverrun::engine::sink::{EpochOutput, Flushed, Sink};
use riverrun::engine::time::{Clock, ManualClock, Micros};
use riverrun::sql::plan::batch_plan;
use riverrun::sql::session::session_context_with;
use riverrun::sql::source_table::SourceTable;
use riverrun::{Program, Variables};

const SCRIPT: &str = include_str!("equals_batch.sql");
/// After all event times of the generator: no record is ahead of its time.
const NOW: Micros = 1_800_000_000_000_000;
const OUTPUTS: [&str; 5] = ["spending", "rapid", "journeys", "hourly", "both"];

/// What a sink was given, and in how many epochs.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<(Vec<RecordBatch>, usize)>>);

impl Sink for Collected {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        let mut collected = self.0.lock().unwrap();
        collected.0.extend(output.batches.iter().map(|b| b.rows.clone()));
        collected.1 += usize::from(output.rows() > 0);
        Ok(())
    }

    fn flush(&mut self, _now: Micros, _force: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}

/// Transactions with fraud, disorder and malformed records among them.
fn generate(path: &Path, count: u64, seed: u64) {
    let settings = Settings {
        seed,
        users: 200,
        events_per_second: 0.5,
        malformed: 0.01,
        fraud: FraudRates::evenly(0.02),
        out_of_order: 0.1,
        ..Settings::default()
    };
    let mut generator = Generator::new(settings).unwrap();
    let mut sink = LineSink::new(std::fs::File::create(path).unwrap());
    let pace = ProduceSettings { count: Some(count), ..ProduceSettings::default() };
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut labels = Labels::new(std::io::sink());
    let clock = ManualClock::at(NOW);
    produce((&mut generator, &mut sink), &pace, Some(&mut labels), &clock as &dyn Clock, &stop, &mut |_| ()).unwrap();
}

/// Rows as sorted lines of text.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    lines.sort();
    lines
}

fn program(dir: &Path, backend: &str) -> Program {
    let script = format!("SET state.backend = '{backend}';\n{SCRIPT}");
    let set = [format!("INPUT={}", dir.join("input.jsonl").display()), format!("DATA_DIR={}", dir.display())];
    Program::parse("equals_batch.sql", &script, &Variables::parse(&set).unwrap()).unwrap()
}

/// The script over the records at rest, by plain DataFusion.
fn at_rest(program: &Program) -> BTreeMap<String, Vec<String>> {
    let (_, source) = program.graph.sources().next().unwrap();
    let node = SourceNode { table: source.table.clone(), schema: source.schema.clone() };
    let provider = SourceTable::new(node.schema.clone(), program.registry.source(&node, &program.context).unwrap(), NOW);
    let tables: HashMap<String, Arc<dyn TableProvider>> = HashMap::from([(node.table.name, Arc::new(provider) as _)]);
    let context = session_context_with(SessionConfig::new().with_target_partitions(1));
    let queries = batch_plan(&program.script, tables, context.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answers = queries.into_iter().map(|query| {
        let rows = runtime.block_on(DataFrame::new(context.state(), query.plan).collect()).unwrap();
        (query.sink.name, lines(&rows))
    });
    answers.collect()
}

#[test]
fn a_script_as_a_stream_gives_the_rows_that_it_gives_at_rest() {
    let runs = [
        ("memory", 1, 7, 50),
        ("memory", 2, 512, 4096),
        ("memory", 3, 8192, 65_536),
        ("disk", 3, 8192, 65_536),
        ("disk", 2, 512, 4096),
    ];
    for (backend, seed, chunk_rows, epoch_rows) in runs {
        let dir = tempfile::tempdir().unwrap();
        generate(&dir.path().join("input.jsonl"), 6000, seed);
        let program = program(dir.path(), backend);
        let sinks: BTreeMap<_, _> = OUTPUTS.iter().map(|name| ((*name).to_owned(), Collected::default())).collect();
        let own = sinks.iter().map(|(name, sink)| (name.clone(), Box::new(sink.clone()) as Box<dyn Sink>)).collect();
        let settings = runtime::Settings { bounded: true, chunk_rows, epoch_rows, ..runtime::Settings::default() };
        program.start_with(own, settings).unwrap().wait().unwrap();

        let expected = at_rest(&program);
        for (name, sink) in &sinks {
            let (rows, epochs) = &*sink.0.lock().unwrap();
            let streamed = lines(rows);
            assert!(!streamed.is_empty(), "{name} gave rows");
            assert_eq!(streamed, expected[name], "{name}, seed {seed}, state in {backend}");
            assert!(epoch_rows > 50 || name == "rapid" || *epochs > 1, "{name}: rows left before the end of the input");
        }
    }
}
