//! `riverrun demo`: the transactions pipeline from one command. Generator, embedded log, the very script that production
//! runs, a Delta table and embedded tables in one data directory; alerts as they happen, and a sum at the end that must
//! come out even.

mod alerts;
mod reckoning;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use riverrun_connectors::generator::{FraudRates, Generator, Labels, ProduceSettings, Settings, Summary, produce};
use riverrun_connectors::log::{Log, LogRecords};
use riverrun_engine::runtime::Pipeline;
use riverrun_engine::runtime::stats::{PipelineStats, Role};
use riverrun_engine::table::parse_duration;
use riverrun_engine::time::{Clock, Micros, SystemClock};
use riverrun_engine::{Error, Result};

use self::alerts::Alerts;
use self::reckoning::Reckoning;
use super::backend::Endpoint;
use super::serving::ServeArgs;
use super::stop_flag;
use super::summary::{clock_time, grouped};
use crate::{Program, Variables};

/// The script that production runs; the demo sets only its variables.
const SCRIPT: &str = include_str!("../../../../pipelines/transactions.sql");
const INPUT: &str = "financial-transactions";
/// Where the demo answers unless told otherwise.
const PORT: u16 = 8000;
const POSTGRES_PORT: u16 = 5433;
/// How long the pipeline may take to read what was sent before the demo gives up.
const CATCH_UP: Micros = 60_000_000;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  riverrun demo                               until Ctrl-C
  riverrun demo --duration '30 seconds'
  riverrun demo --rate 20000 --data /tmp/demo")]
pub struct Demo {
    /// Transactions per second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Stop after this long; default: at Ctrl-C.
    #[arg(long, value_parser = |text: &str| parse_duration(text).ok_or("write it like '30 seconds'"))]
    duration: Option<Duration>,
    /// Where the log, the tables and the lake live.
    #[arg(long, default_value = "./riverrun-data")]
    data: PathBuf,
    /// Users.
    #[arg(long, default_value_t = 2_000)]
    users: u32,
    /// Share of transactions that are fraud.
    #[arg(long, default_value_t = 0.002)]
    fraud: f64,
    /// Share of records that cannot be decoded.
    #[arg(long, default_value_t = 0.0005)]
    malformed: f64,
    /// Another seed, other users. Keep it for one data directory: users who suddenly live elsewhere are alerts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    serve: ServeArgs,
}

impl Demo {
    /// Runs the demo.
    pub fn run(self) -> Result<()> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let flag = stop_flag()?;
        let program = Program::parse("pipelines/transactions.sql", SCRIPT, &self.variables()?)?;
        let log = Log::open(&self.data.join("log"))?;
        // The topic is made first, so that "latest" is its beginning in a new directory.
        LogRecords::new(log.clone(), INPUT, None, clock.clone())?;
        let before = Reckoning::before(&program, &log)?;
        let alerts = Alerts::open(log.clone())?;
        let mut endpoint = self.listen(&program)?;
        let pipeline = program.start(false, None)?;
        let stats = pipeline.stats();
        endpoint.runs(&program, &pipeline)?;
        self.greet(&program, &endpoint, &before);

        let generator = self.start_generator(log.clone(), clock.clone(), flag)?;
        let screen = Screen { stats: stats.clone(), alerts, clock: clock.clone(), begun: clock.now(), last: (0, clock.now()) };
        let outcome = screen.watch(generator, pipeline);
        endpoint.tell_end(&outcome);
        let outcome = outcome?;
        println!();
        let settled = before.settle(&program, &log, &stats, &outcome.summary, outcome.alerts, &self.data);
        // Until here the endpoint keeps the tables open: a large one takes a moment to close, and none could read it meanwhile.
        drop(endpoint);
        settled
    }

    /// On the port that was asked for, else on 8000, else on any.
    fn listen(&self, program: &Program) -> Result<Endpoint> {
        let (listen, named) = self.serve.listen(program, PORT)?;
        let postgres = self.serve.postgres(program).or_else(postgres_port);
        match Endpoint::start(program, listen.clone(), postgres) {
            Err(taken) if !named => {
                let endpoint = Endpoint::start(program, listen.with_port(0), postgres)?;
                println!("{}; it takes port {} instead", taken.message(), endpoint.address.port());
                Ok(endpoint)
            }
            endpoint => endpoint,
        }
    }

    fn variables(&self) -> Result<Variables> {
        let mut variables = Variables::default();
        variables.or_set("DATA_DIR", &self.data.display().to_string());
        variables.or_set("LAKE", &self.data.join("lake").display().to_string());
        variables.or_set("STARTING_OFFSETS", "earliest");
        variables.or_set("BUS", "log");
        variables.or_set("AGGREGATES", "table");
        variables.or_set("SCREEN", "blackhole");
        Ok(variables)
    }

    fn greet(&self, program: &Program, endpoint: &Endpoint, before: &Reckoning) {
        println!(
            "Riverrun demo: pipelines/transactions.sql over {} transactions / s of {} users",
            self.rate,
            grouped(self.users.into())
        );
        println!("dashboard on http://{}, data in {}", endpoint.address, program.context.data_dir.display());
        if let Some(told) = before.carried_on() {
            println!("{told}");
        }
        let data = if self.data == std::path::Path::new("./riverrun-data") {
            String::new()
        } else {
            format!(" --data {}", self.data.display())
        };
        println!("metrics on http://{}/metrics, health on /livez and /readyz", endpoint.address);
        if let Some(postgres) = endpoint.postgres {
            println!("the PostgreSQL protocol: psql -h {} -p {}", postgres.ip(), postgres.port());
        }
        println!("in a second terminal try:");
        println!(
            "  riverrun sql{data} \"SELECT user_id, category, transaction_count, total_amount FROM transaction_aggregates ORDER BY total_amount DESC LIMIT 5\""
        );
        println!("  riverrun log tail fraud-alerts{data}");
        println!("Ctrl-C stops it.\n");
    }

    /// Sends transactions until it is stopped, on a thread of its own.
    fn start_generator(
        &self,
        log: Arc<Log>,
        clock: Arc<dyn Clock>,
        flag: Arc<AtomicBool>,
    ) -> Result<JoinHandle<Result<Summary>>> {
        let settings = Settings {
            seed: self.seed,
            users: self.users,
            events_per_second: self.rate,
            start: clock.now(),
            malformed: self.malformed,
            fraud: FraudRates::evenly(self.fraud),
            ..Settings::default()
        };
        let mut generator = Generator::new(settings)?;
        let mut sink = LogRecords::new(log, INPUT, None, clock.clone())?;
        let path = self.data.join("labels.jsonl");
        let file =
            std::fs::File::create(&path).map_err(|e| Error::permanent(format!("{} cannot be written: {e}", path.display())))?;
        let pace = ProduceSettings { rate: Some(self.rate), count: None, duration: self.duration, live: true };
        Ok(std::thread::spawn(move || {
            let mut labels = Labels::new(std::io::BufWriter::new(file));
            let summary = produce((&mut generator, &mut sink), &pace, Some(&mut labels), clock.as_ref(), &flag, &mut |_| ())?;
            labels.finish().map_err(|e| Error::permanent(format!("labels cannot be written: {e}")))?;
            Ok(summary)
        }))
    }
}

/// Where the demo speaks the PostgreSQL protocol unless told otherwise: its usual port may be a real server's.
fn postgres_port() -> Option<u16> {
    let free = |port: u16| std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_ok();
    cfg!(feature = "postgres").then(|| if free(POSTGRES_PORT) { POSTGRES_PORT } else { 0 })
}

/// What the demo saw when it was over.
struct Outcome {
    summary: Summary,
    alerts: u64,
}

/// The live part: alerts at once, a line of counts every second.
struct Screen {
    stats: Arc<PipelineStats>,
    alerts: Alerts,
    clock: Arc<dyn Clock>,
    begun: Micros,
    last: (u64, Micros),
}

impl Screen {
    /// Shows what happens until the generator is done and everything it sent was read; then stops the pipeline in order.
    fn watch(mut self, generator: JoinHandle<Result<Summary>>, pipeline: Pipeline) -> Result<Outcome> {
        let stop = pipeline.stop_handle();
        while !generator.is_finished() && !stop.stopped() {
            self.show()?;
        }
        if stop.stopped() {
            pipeline.wait()?;
            return Err(Error::permanent("the pipeline ended before the generator"));
        }
        let panicked = |_| Error::permanent("the generator panicked");
        let summary = generator.join().map_err(panicked)??;
        let deadline = self.clock.now() + CATCH_UP;
        while (self.read() < summary.sent || self.stats.lag() > 0) && self.clock.now() < deadline && !stop.stopped() {
            self.show()?;
        }
        stop.stop();
        pipeline.wait()?;
        self.alerts.print_new()?;
        Ok(Outcome { summary, alerts: self.alerts.seen() })
    }

    fn read(&self) -> u64 {
        self.stats.role(Role::Source).map(|n| n.rows_in.load(Relaxed)).sum()
    }

    fn show(&mut self) -> Result<()> {
        self.alerts.print_new()?;
        self.clock.sleep(Duration::from_millis(50));
        let now = self.clock.now();
        if now - self.last.1 >= 1_000_000 {
            self.line(now);
        }
        Ok(())
    }

    fn line(&mut self, now: Micros) {
        let read = self.read();
        let rate = (read - self.last.0) as f64 / ((now - self.last.1) as f64 / 1e6);
        self.last = (read, now);
        let late: u64 = self.stats.role(Role::Source).map(|n| n.late.load(Relaxed)).sum();
        let bad: u64 = self.stats.role(Role::Source).flat_map(|n| n.bad().into_values()).sum();
        let watermark = self.stats.watermark().map_or_else(|| "none yet".to_owned(), clock_time);
        let since = (now - self.begun) / 1_000_000;
        println!(
            "[{since:>4} s] {} events/s, {} read, watermark {watermark}, lag {}, late {}, bad {}, alerts {}",
            grouped(rate as u64),
            grouped(read),
            grouped(self.stats.lag()),
            grouped(late),
            grouped(bad),
            grouped(self.alerts.seen()),
        );
    }
}
