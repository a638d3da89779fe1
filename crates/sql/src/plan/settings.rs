//! `SET name = value`: the settings of a pipeline, typed. An unknown one is an error that names the nearest.

use std::collections::BTreeMap;
use std::time::Duration;

use riverrun_engine::table::{OptionValue, parse_bytes, parse_duration};

use super::refusal::{Refusal, Result};
use crate::suggest;

/// What `SET` can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `pipeline.name`: consumer group, names of internal things.
    pub pipeline_name: Option<String>,
    /// `pipeline.instance`: the name of this one among instances that share the pipeline's tasks.
    pub instance: Option<String>,
    /// `checkpoint.location`: a path or URL.
    pub checkpoint_location: Option<String>,
    /// `checkpoint.interval`, 10 seconds by default.
    pub checkpoint_interval: Duration,
    /// `checkpoint.keep`: how many checkpoints of each task are kept, 2 by default.
    pub checkpoint_keep: usize,
    /// `checkpoint.s3.NAME`: options of the object store, by name.
    pub checkpoint_s3: BTreeMap<String, String>,
    /// `trigger.interval`: rounds are at least this far apart. Zero (the default): continuous.
    pub trigger_interval: Duration,
    /// `progress.interval`: how often progress is reported, 10 seconds by default, at least 100 ms.
    pub progress_interval: Duration,
    /// `repartition.partitions`: how many partitions the topics have over which rows go by keys that are not their source's. 0 (the
    /// default): there are none, one task reads all partitions then.
    pub repartition: u32,
    /// `serve.listen`: where the HTTP endpoint listens, such as `0.0.0.0:8000`.
    pub serve_listen: Option<String>,
    /// `serve.token`: who knows it may ask.
    pub serve_token: Option<Token>,
    /// `serve.postgres.port`: the port of the PostgreSQL protocol.
    pub serve_postgres_port: Option<u16>,
    /// `state.ttl`: how long the newest row of a silent key is kept by OVER, in event time. `None`: for ever.
    pub state_ttl: Option<Duration>,
    /// `state.backend`: where operators keep their state while they run.
    pub state_backend: StateBackend,
    /// `state.path`: the directory for it, on disk. `None`: one in the data directory.
    pub state_path: Option<String>,
    /// `state.memory`: bytes of state on disk that are in memory too, 128 MiB by default.
    pub state_memory: usize,
}

/// Where operators keep their state while they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StateBackend {
    /// In memory.
    #[default]
    Memory,
    /// On disk, with a bounded part of it in memory.
    Disk,
}

/// A secret of a script; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pipeline_name: None,
            instance: None,
            checkpoint_location: None,
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_keep: 2,
            checkpoint_s3: BTreeMap::new(),
            trigger_interval: Duration::ZERO,
            progress_interval: Duration::from_secs(10),
            repartition: 0,
            serve_listen: None,
            serve_token: None,
            serve_postgres_port: None,
            state_ttl: None,
            state_backend: StateBackend::Memory,
            state_path: None,
            state_memory: 128 << 20,
        }
    }
}

impl Settings {
    /// What begins the names of metrics that a script declares: `SET metric.orders_total = '…'`. What they may say, the
    /// crate knows that gives metrics.
    pub const METRIC: &'static str = "metric.";

    /// The names that `SET` knows.
    pub const NAMES: [&'static str; 15] = [
        "pipeline.name",
        "pipeline.instance",
        "checkpoint.location",
        "checkpoint.interval",
        "checkpoint.keep",
        "trigger.interval",
        "progress.interval",
        "repartition.partitions",
        "serve.listen",
        "serve.token",
        "serve.postgres.port",
        "state.ttl",
        "state.backend",
        "state.path",
        "state.memory",
    ];

    /// What begins the names of options of the object store that checkpoints go to.
    pub const S3: &'static str = "checkpoint.s3.";

    /// Why a text cannot be an instance's name, if it cannot: it becomes part of names in other systems.
    pub fn refuse_instance(name: &str) -> Option<&'static str> {
        let fits = (1..=100).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        (!fits).then_some("an instance's name has up to 100 letters, digits, dots, underscores and hyphens")
    }

    /// Reads the settings of a script.
    pub(crate) fn parse(values: &BTreeMap<String, OptionValue>) -> Result<Self> {
        let mut settings = Self::default();
        for (name, value) in values {
            settings.set(name, &value.value).map_err(|e| e.or_at(value.location))?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let duration = || {
            parse_duration(value)
                .ok_or_else(|| Refusal::new(format!("SET {name}: '{value}' is not a duration such as '10 seconds'")))
        };
        match name {
            "pipeline.name" => self.pipeline_name = Some(value.to_owned()),
            "pipeline.instance" => match Self::refuse_instance(value) {
                None => self.instance = Some(value.to_owned()),
                Some(why) => return Err(Refusal::new(format!("SET {name}: '{value}': {why}"))),
            },
            "checkpoint.location" => self.checkpoint_location = Some(value.to_owned()),
            "checkpoint.interval" => self.checkpoint_interval = duration()?,
            "checkpoint.keep" => {
                let count = value.parse().ok().filter(|n| (1..=1000).contains(n));
                let wrong = || Refusal::new(format!("SET {name}: '{value}' is not a number from 1 to 1000"));
                self.checkpoint_keep = count.ok_or_else(wrong)?;
            }
            "trigger.interval" => self.trigger_interval = duration()?,
            "progress.interval" => {
                let least = Duration::from_millis(100);
                let too_short = || Refusal::new(format!("SET {name}: '{value}' is too short; at least '100 milliseconds'"));
                self.progress_interval = Some(duration()?).filter(|d| *d >= least).ok_or_else(too_short)?;
            }
            "repartition.partitions" => {
                let wrong = || {
                    let what = format!("SET {name}: '{value}' is not a number from 0 to 10000");
                    Refusal::new(what).hint("0: no repartition topics, one task reads all partitions instead")
                };
                self.repartition = value.parse().ok().filter(|partitions| *partitions <= 10_000).ok_or_else(wrong)?;
            }
            "serve.listen" => self.serve_listen = Some(value.to_owned()),
            // Empty: the variable that it is made of is not set.
            "serve.token" => self.serve_token = Some(Token(value.to_owned())).filter(|token| !token.0.trim().is_empty()),
            "serve.postgres.port" => {
                let wrong = || Refusal::new(format!("SET {name}: '{value}' is not a port"));
                self.serve_postgres_port = Some(value.parse().map_err(|_| wrong())?);
            }
            "state.backend" => {
                self.state_backend = match value {
                    "memory" => StateBackend::Memory,
                    "disk" => StateBackend::Disk,
                    _ => return Err(Refusal::new(format!("SET {name}: '{value}' is neither 'memory' nor 'disk'"))),
                }
            }
            "state.path" if value.is_empty() => return Err(Refusal::new(format!("SET {name}: '' is no directory"))),
            "state.path" => self.state_path = Some(value.to_owned()),
            "state.memory" => {
                let size = parse_bytes(value).and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes >= 1 << 20);
                let wrong =
                    || Refusal::new(format!("SET {name}: '{value}' is not a size of at least '1 MiB', such as '256 MiB'"));
                self.state_memory = size.ok_or_else(wrong)?;
            }
            "state.ttl" => self.state_ttl = Some(duration()?).filter(|ttl| !ttl.is_zero()),
            _ if name.starts_with(Self::METRIC) => {}
            _ if name.starts_with(Self::S3) => {
                self.checkpoint_s3.insert(name[Self::S3.len()..].to_owned(), value.to_owned());
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(format!("unknown setting '{name}'")).hint(suggest::hint(name, Settings::NAMES))
}
