//! Who may connect: anyone on loopback, else who knows the token.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::SASLAuthStartupHandler;
use datafusion_postgres::pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password};
use datafusion_postgres::pgwire::api::auth::{
    AuthSource, DefaultServerParameterProvider, LoginInfo, Password as Salted, ServerParameterProvider, StartupHandler,
};
use datafusion_postgres::pgwire::api::{ClientInfo, ConnectionManager};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::Sink;
use riverrun_serve::access::Secret;

/// The token as SCRAM wants it: salted, the same for every user.
pub struct Password(Salted);

impl Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Password {
    /// Of a token; the salt is another one in each process.
    pub fn new(token: &Secret) -> Self {
        let salt: Vec<u8> = (0..2).flat_map(|_| RandomState::new().build_hasher().finish().to_be_bytes()).collect();
        let salted = gen_salted_password(token.reveal(), &salt, SCRAM_ITERATIONS);
        Self(Salted::new(Some(salt), salted))
    }
}

#[async_trait]
impl AuthSource for Password {
    async fn get_password(&self, _: &LoginInfo) -> PgWireResult<Salted> {
        Ok(self.0.clone())
    }
}

/// Lets `Arc<Password>` be asked.
#[derive(Debug)]
struct Shared(Arc<Password>);

#[async_trait]
impl AuthSource for Shared {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Salted> {
        self.0.get_password(login).await
    }
}

/// What clients are told when they connect.
pub struct Parameters;

impl ServerParameterProvider for Parameters {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let mut parameters = DefaultServerParameterProvider::default().server_parameters(client)?;
        for (name, value) in [("default_transaction_read_only", "on"), ("in_hot_standby", "on"), ("is_superuser", "off")] {
            parameters.insert(name.to_owned(), value.to_owned());
        }
        Some(parameters)
    }
}

/// The start of one connection.
pub enum Startup {
    /// Whoever connects.
    Open(Open),
    /// Who knows the token.
    Scram(Box<SASLAuthStartupHandler<Parameters>>),
}

/// Asks for nothing.
pub struct Open(Arc<ConnectionManager>);

impl NoopStartupHandler for Open {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(self.0.clone())
    }
}

impl Startup {
    /// Of a connection, with the token if one is set; `connections` are those that can be cancelled.
    pub fn new(password: Option<Arc<Password>>, connections: Arc<ConnectionManager>) -> Self {
        match password {
            None => Self::Open(Open(connections)),
            Some(password) => {
                let scram = ScramAuth::new(Arc::new(Shared(password)));
                let handler = SASLAuthStartupHandler::new(Arc::new(Parameters)).with_scram(scram);
                Self::Scram(Box::new(handler.with_connection_manager(connections)))
            }
        }
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match self {
            Self::Open(open) => open.on_startup(client, message).await,
            Self::Scram(scram) => scram.on_startup(client, message).await,
        }
    }
}
