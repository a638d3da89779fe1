//! What a pipeline asks of its registry, and who waits for the answer.

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use riverrun_engine::connect::Context;
use riverrun_engine::table::Table;
use riverrun_engine::time::{Clock, Micros};
use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::cache::Cache;
use super::client::{Answer, Client, Registered, Schema};
use super::config::Config;

/// So long an answer that is no schema holds before it is asked again: that the registry was away.
const AWAY: Duration = Duration::from_millis(500);

/// … and that it knows no such schema: another node of it may be behind.
const MISSING: Duration = Duration::from_secs(60);

/// What is known of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Its schema.
    Known(Arc<Schema>),
    /// The registry has none, or none that is Avro: why.
    Missing(String),
    /// It is being asked.
    Pending,
}

enum State {
    Asking,
    Known(Arc<Schema>),
    Missing(String, Micros),
    Failed(Error, Micros),
}

/// A table's registry. Shared by the readers of its partitions.
pub(crate) struct SchemaRegistry {
    config: Config,
    client: Option<Arc<Client>>,
    cache: Arc<Cache>,
    states: Arc<Mutex<HashMap<u32, State>>>,
    clock: Arc<dyn Clock>,
    /// One thread, for questions that nobody waits for. `None`: only while it is dropped, and in tests.
    runtime: Option<Runtime>,
}

/// What was last registered under a subject by this program.
#[derive(Serialize, Deserialize)]
struct Written {
    id: u32,
    schema: String,
}

impl SchemaRegistry {
    /// The registry of a table. Nothing is asked yet.
    pub fn open(table: &Table, context: &Context) -> Result<Arc<Self>> {
        let config = Config::of(table)?;
        let client = Some(Arc::new(Client::new(&config)?));
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("schema-registry").enable_all().build();
        let runtime = runtime.map_err(|e| Error::transient(format!("cannot start the schema registry's thread: {e}")))?;
        let root = config.cache.clone().unwrap_or_else(|| context.data_dir.join("schemas"));
        Ok(Arc::new(Self::with(config, client, &root, Arc::clone(&context.clock), Some(runtime))))
    }

    fn with(config: Config, client: Option<Arc<Client>>, root: &Path, clock: Arc<dyn Clock>, runtime: Option<Runtime>) -> Self {
        let cache = Arc::new(Cache::new(root, &config.urls[0]));
        Self { config, client, cache, states: Arc::default(), clock, runtime }
    }

    /// A registry that knows these schemas and reaches nobody.
    pub fn of_known(table: &Table, known: &[(u32, &str)]) -> Result<Arc<Self>> {
        let clock = Arc::new(riverrun_engine::time::ManualClock::at(0));
        let registry = Self::with(Config::of(table)?, None, Path::new("/nonexistent"), clock, None);
        for (id, text) in known {
            let schema = Schema { text: (*text).to_owned(), references: Vec::new() };
            lock(&registry.states).insert(*id, State::Known(Arc::new(schema)));
        }
        Ok(Arc::new(registry))
    }

    /// The options.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The schema of an id, if it is known by now. Never waits.
    ///
    /// # Errors
    /// Transient while the registry cannot be reached; permanent if it lets us not in.
    pub fn schema(&self, id: u32) -> Result<Lookup> {
        let now = self.clock.now();
        let mut states = lock(&self.states);
        match states.get(&id) {
            Some(State::Known(schema)) => return Ok(Lookup::Known(Arc::clone(schema))),
            Some(State::Asking) => return Ok(Lookup::Pending),
            Some(State::Missing(why, until)) if now < *until => return Ok(Lookup::Missing(why.clone())),
            Some(State::Failed(error, until)) if now < *until => return Err(error.clone()),
            _ => {}
        }
        if let Some(schema) = self.cache.get::<Schema>(&format!("id-{id}")) {
            let schema = Arc::new(schema);
            states.insert(id, State::Known(Arc::clone(&schema)));
            return Ok(Lookup::Known(schema));
        }
        let (Some(client), Some(runtime)) = (&self.client, &self.runtime) else {
            return Ok(Lookup::Missing("Schema not found".into()));
        };
        states.insert(id, State::Asking);
        drop(states);
        let (client, cache) = (Arc::clone(client), Arc::clone(&self.cache));
        let (states, clock) = (Arc::clone(&self.states), Arc::clone(&self.clock));
        runtime.spawn(async move {
            let until = |wait: Duration| clock.now() + wait.as_micros() as Micros;
            let state = match client.schema(id).await {
                Ok(Answer::Here(schema)) => {
                    cache.put(&format!("id-{id}"), &schema);
                    State::Known(Arc::new(schema))
                }
                Ok(Answer::Missing(why)) => State::Missing(why, until(MISSING)),
                Err(error) => State::Failed(error, until(AWAY)),
            };
            lock(&states).insert(id, state);
        });
        Ok(Lookup::Pending)
    }

    /// A version of a subject (`None`: the latest). While the registry cannot be reached: the one that was seen last, and that
    /// it is from the cache.
    ///
    /// # Errors
    /// Permanent: there is none. Transient: the registry is away, and nothing is known from before.
    pub fn version(&self, subject: &str, version: Option<u32>) -> Result<(Registered, bool)> {
        let name = match version {
            None => format!("subject-{subject}"),
            Some(version) => format!("subject-{subject}-{version}"),
        };
        let (client, of) = (self.client()?, subject.to_owned());
        match self.wait(async move { client.version(&of, version).await }) {
            Ok(Answer::Here(registered)) => {
                self.cache.put(&name, &registered);
                self.cache.put(&format!("id-{}", registered.id), &registered.schema);
                Ok((registered, false))
            }
            Ok(Answer::Missing(why)) => {
                let version = version.map_or_else(String::new, |v| format!(" version {v} of"));
                let what = format!("the schema registry at {} has no{version} subject '{subject}': {why}", self.config.urls[0]);
                Err(Error::permanent(what).hint("a producer registers it; or say subject = '…', or subject_strategy"))
            }
            Err(error) if error.is_transient() => match self.cache.get::<Registered>(&name) {
                Some(kept) => {
                    tracing::warn!("{error}; going on with version {} of subject '{subject}', kept from before", kept.version);
                    Ok((kept, true))
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Registers a schema under a subject, with the compatibility level of the options; its id. While the registry cannot be
    /// reached: the id that the same schema got before.
    ///
    /// # Errors
    /// Permanent, with the registry's reason: the schema is incompatible. Transient: the registry is away, and the schema is new.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let name = format!("written-{subject}");
        let (client, level) = (self.client()?, self.config.compatibility);
        let (of, text) = (subject.to_owned(), schema.to_owned());
        let registered = self.wait(async move {
            if let Some(level) = level {
                client.set_compatibility(&of, level).await?;
            }
            match client.register(&of, &text).await {
                Err(error) if !error.is_transient() => {
                    let why = client.why_incompatible(&of, &text).await.unwrap_or_default();
                    Err(refused(&error, &of, &text, &why))
                }
                outcome => outcome,
            }
        });
        match registered {
            Ok(id) => {
                self.cache.put(&name, &Written { id, schema: schema.to_owned() });
                Ok(id)
            }
            Err(error) if error.is_transient() => match self.cache.get::<Written>(&name).filter(|w| w.schema == schema) {
                Some(kept) => {
                    tracing::warn!("{error}; going on with the schema's id {}, kept from before", kept.id);
                    Ok(kept.id)
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn client(&self) -> Result<Arc<Client>> {
        self.client.clone().ok_or_else(|| Error::permanent("there is no schema registry to ask"))
    }

    /// Waits for an answer, from a thread of an async runtime too.
    fn wait<T: Send + 'static>(&self, question: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let gone = || Error::permanent("the schema registry's thread is gone");
        let runtime = self.runtime.as_ref().ok_or_else(gone)?;
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            // Nobody listens any more: nobody is waiting.
            let _ = sender.send(question.await);
        });
        receiver.recv().map_err(|_| gone())?
    }
}

impl Drop for SchemaRegistry {
    fn drop(&mut self) {
        // An ordinary drop would panic inside an async task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn refused(error: &Error, subject: &str, schema: &str, why: &[String]) -> Error {
    let mut message = format!("subject '{subject}': {}", error.message());
    for reason in why.iter().filter(|reason| !message.contains(reason.as_str())).collect::<Vec<_>>() {
        message = format!("{message}; {reason}");
    }
    message = format!("{message}\n  the columns' schema is {schema}");
    Error::permanent(message).hint(error.hint_text().unwrap_or(
        "a new column must be one that may be NULL; or write to another subject, or let the subject change freely: \
         compatibility = 'NONE'",
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
