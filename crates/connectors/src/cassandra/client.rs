//! A session with a cluster, and the threads that its I/O runs on: the client is async, sources and sinks are not.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use riverrun_engine::{Error, Result};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::unprepared::Statement;
use tokio::runtime::{Builder, Handle, Runtime};

use super::config::Config;
use super::{failure, tls};

/// Threads of a sink's or source's I/O.
const THREADS: usize = 2;

/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A session, and where its I/O runs.
pub(super) struct Client {
    runtime: Option<Runtime>,
    pub session: Arc<Session>,
    patience: Duration,
}

impl Client {
    /// Connects, and looks that the datacenter is there.
    ///
    /// # Errors
    /// A node that cannot be reached is transient; a login or a certificate that is not accepted is permanent.
    pub fn connect(config: &Config) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("cassandra-io").enable_all().build();
        let runtime = runtime.map_err(|e| Error::transient(format!("cannot start the I/O threads: {e}")))?;
        let builder = builder(config)?;
        let session = block_on(&runtime, async {
            let waited = tokio::time::timeout(config.request_timeout.max(CONNECT_TIMEOUT) * 2, builder.build()).await;
            let unanswered = || Error::transient(format!("Cassandra at {} does not answer", config.nodes()));
            waited
                .map_err(|_| unanswered().hint("is it running? (option 'contact_points')"))?
                .map_err(|e| failure::connecting(&e, config))
        })?;
        let client = Self { runtime: Some(runtime), session: Arc::new(session), patience: config.request_timeout };
        client.check_datacenter(config)?;
        Ok(client)
    }

    fn check_datacenter(&self, config: &Config) -> Result<()> {
        let Some(wanted) = &config.datacenter else { return Ok(()) };
        let state = self.session.get_cluster_state();
        let mut there: Vec<_> = state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
        there.sort_unstable();
        there.dedup();
        if there.contains(&wanted.as_str()) {
            return Ok(());
        }
        let text = format!("option 'datacenter': the cluster at {} has no datacenter '{wanted}'", config.nodes());
        Err(Error::invalid(text).hint(format!("it has {}", there.join(", "))))
    }

    /// Where I/O runs.
    pub fn handle(&self) -> &Handle {
        self.runtime().handle()
    }

    fn runtime(&self) -> &Runtime {
        match &self.runtime {
            Some(runtime) => runtime,
            None => unreachable!("the runtime lives as long as its owner"),
        }
    }

    /// Runs a future to its end.
    pub fn run<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        block_on(self.runtime(), future)
    }

    /// Prepares a statement, whose repetition changes nothing.
    pub fn prepare(&self, text: String, place: &str) -> Result<PreparedStatement> {
        let statement = Statement::new(text);
        let prepared = self.run(async {
            let waited = tokio::time::timeout(self.patience, self.session.prepare(statement)).await;
            let late = |_| Error::transient(format!("{place}: no answer for {} s", self.patience.as_secs_f64()));
            waited.map_err(late)?.map_err(|e| failure::preparing(&e, place))
        });
        let mut prepared = prepared?;
        prepared.set_is_idempotent(true);
        Ok(prepared)
    }

    /// Runs a statement that changes the schema, and waits until all nodes agree on it.
    pub fn change_schema(&self, text: &str, place: &str) -> Result<()> {
        tracing::info!("{place}: {text}");
        let outcome = self.run(self.session.query_unpaged(text, ()));
        outcome.map(|_| ()).map_err(|e| failure::executing(&e, place))
    }

    /// Reads the schema again.
    pub fn refresh(&self, place: &str) -> Result<()> {
        self.run(self.session.refresh_metadata()).map_err(|e| Error::transient(format!("{place}: {e}")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // An ordinary drop would panic inside an async task, and wait for requests that nobody waits for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Called from an async task it moves to a thread of its own meanwhile.
fn block_on<T: Send>(runtime: &Runtime, future: impl Future<Output = T> + Send) -> T {
    if Handle::try_current().is_err() {
        return runtime.block_on(future);
    }
    let outcome = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn builder(config: &Config) -> Result<SessionBuilder> {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &config.datacenter {
        policy = policy.prefer_datacenter(datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(config.consistency)
        .request_timeout(Some(config.request_timeout))
        .load_balancing_policy(policy.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(CONNECT_TIMEOUT)
        .keyspaces_to_fetch([&config.keyspace]);
    if let Some(login) = &config.login {
        builder = builder.user(&login.username, &login.password);
    }
    if let Some(wanted) = &config.tls {
        builder = builder.tls_context(Some(tls::client(wanted)?));
    }
    Ok(builder)
}
