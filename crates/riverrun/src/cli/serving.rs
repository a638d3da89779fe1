//! Where a pipeline answers, and to whom: what the command line and the script say of it.

use std::path::PathBuf;

use clap::Args;
use riverrun_engine::{Error, Result};
use riverrun_serve::access::{Listen, Secret, parse_address};
use riverrun_serve::client::Client;
use riverrun_serve::discovery::Running;

use crate::Program;

/// Variables that hold the token, or name a file that does.
const TOKEN: &str = "RIVERRUN_TOKEN";
const TOKEN_FILE: &str = "RIVERRUN_TOKEN_FILE";

/// Arguments.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port of the HTTP endpoint on loopback (API, metrics, health, SQL); 0: any free one.
    #[arg(long = "http-port", visible_alias = "port", value_name = "PORT")]
    port: Option<u16>,
    /// Address of the HTTP endpoint, such as 0.0.0.0:8000; beyond loopback it needs a token.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port")]
    listen: Option<String>,
    /// A file with the token that whoever asks must show; else the variable RIVERRUN_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Listen beyond loopback without a token: whoever reaches it may ask and stop the pipeline.
    #[arg(long)]
    insecure: bool,
    /// Port of the PostgreSQL protocol, at the same address, for psql, Grafana and BI tools; 0: any free one.
    #[arg(long = "pg-port", value_name = "PORT")]
    postgres: Option<u16>,
}

impl ServeArgs {
    /// Where to listen, and who may ask: what the command line says, else the script, else `port` of loopback. Whether
    /// somebody named the port.
    ///
    /// # Errors
    /// A wrong address or token, or an open address without one.
    pub fn listen(&self, program: &Program, port: u16) -> Result<(Listen, bool)> {
        let settings = &program.settings;
        let (address, named) = match (&self.listen, self.port, &settings.serve_listen) {
            (Some(address), _, _) => (parse_address(address).map_err(|e| e.within("--listen"))?, true),
            (None, Some(port), _) => (Listen::loopback(port).address, true),
            (None, None, Some(address)) => (parse_address(address).map_err(|e| e.within("SET serve.listen"))?, true),
            (None, None, None) => (Listen::loopback(port).address, false),
        };
        let token = match (&self.token_file, &settings.serve_token) {
            (Some(file), _) => Some(read(file)?),
            (None, Some(token)) => Some(Secret::new(&token.0).map_err(|e| e.within("SET serve.token"))?),
            (None, None) => token()?,
        };
        Ok((Listen::new(address, token, self.insecure)?, named))
    }

    /// The port of the PostgreSQL protocol, if one is asked for.
    pub fn postgres(&self, program: &Program) -> Option<u16> {
        self.postgres.or(program.settings.serve_postgres_port)
    }
}

/// The token that the environment holds or names, if it does.
fn token() -> Result<Option<Secret>> {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    match (variable(TOKEN), variable(TOKEN_FILE)) {
        (Some(token), _) => Secret::new(&token).map(Some).map_err(|e| e.within(TOKEN)),
        (None, Some(file)) => read(&PathBuf::from(file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read(file: &PathBuf) -> Result<Secret> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::invalid(format!("{}: {e}", file.display())))?;
    Secret::new(&text).map_err(|e| e.within(file.display()))
}

/// A connection to the running process, with the token of the environment.
///
/// # Errors
/// The token is none.
pub fn client(running: &Running) -> Result<Client> {
    Ok(Client::new(running).with_token(token()?))
}
