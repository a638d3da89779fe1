//! The PostgreSQL protocol over the live tables, for psql, Grafana and BI tools: [`datafusion_postgres`] speaks it, its catalog
//! answers what clients ask about tables.
//!
//! Invariants: nothing is changed ([`session::ReadOnly`] decides about every statement); a query is bounded in time and shares
//! the memory of all queries; where a token is set, whoever connects must know it (as any user's password, by SCRAM: it is not
//! sent); connections are bounded in number.

mod session;
mod startup;
mod statement;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::SessionConfig;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use datafusion_postgres::pgwire::tokio::process_socket;
use riverrun_engine::{Error, Result};
use riverrun_serve::access::{Access, Listen};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::session::{Handlers, Service};
use self::startup::Password;
use crate::Tables;

/// Connections at once; more are closed at once.
const CONNECTIONS: usize = 64;

/// How long to wait after a connection could not be taken.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What clients see as the database.
const DATABASE: &str = "riverrun";

/// Speaks the protocol, on the threads of queries, until they end; gives the address.
///
/// # Errors
/// The address cannot be listened on.
pub fn start(listen: &Listen, tables: &Arc<Tables>, threads: &Handle) -> Result<SocketAddr> {
    let failed =
        |e: std::io::Error| Error::permanent(format!("the PostgreSQL protocol cannot listen on {}: {e}", listen.address));
    let config = SessionConfig::new().with_information_schema(true).with_default_catalog_and_schema(DATABASE, "public");
    let context = tables.session(config)?;
    setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|e| Error::permanent(e.to_string()))?;
    let service = Arc::new(Service::new(context, tables.clone()));
    let password = match &listen.access {
        Access::Token(token) => Some(Arc::new(Password::new(token))),
        Access::Loopback | Access::Anyone => None,
    };
    let listener = threads.block_on(TcpListener::bind(listen.address)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    threads.spawn(accept(listener, service, password));
    Ok(address)
}

async fn accept(listener: TcpListener, service: Arc<Service>, password: Option<Arc<Password>>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // One that finds no slot is dropped: a pool of clients that waits would only wait longer.
                let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
                let handlers = Arc::new(Handlers::new(service.clone(), password.clone()));
                tokio::spawn(async move {
                    if let Err(e) = process_socket(socket, None, handlers).await {
                        tracing::debug!("a connection of the PostgreSQL protocol ended: {e}");
                    }
                    drop(slot);
                });
            }
            Err(e) => {
                tracing::debug!("a connection of the PostgreSQL protocol could not be taken: {e}");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}
