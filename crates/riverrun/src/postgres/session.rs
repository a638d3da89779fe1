//! What is done with each statement of a connection.
//!
//! Invariant: only what stands here is done. Queries are planned over the live tables, verified to read only, and run within
//! their time; settings of a session change how its rows are written, and nothing else; everything else is refused.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_postgres::arrow_pg::datatypes::df::encode_dataframe;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::hooks::{HookClient, QueryHook};
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{FieldInfo, QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionManager, PgWireServerHandlers, Type, auth::StartupHandler,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use datafusion_postgres::{DfSessionService, Parser};
use futures::{Sink, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use super::startup::{Password, Startup};
use super::statement::{Kind, kind, refuse, without_effect};
use crate::Tables;
use crate::tables::{check_reads, check_text};

/// How long a query may take, the reading of its rows included, unless the session asks for less.
const QUERY_TIME: Duration = Duration::from_secs(30);

/// Where the session keeps its `statement_timeout`, in milliseconds.
const STATEMENT_TIMEOUT: &str = "statement_timeout_ms";

/// Answers all connections.
pub struct Service {
    queries: Arc<DfSessionService>,
    connections: Arc<ConnectionManager>,
    cancel: Arc<DefaultCancelHandler>,
}

impl Service {
    /// Over the tables of `context`.
    pub fn new(context: SessionContext, tables: Arc<Tables>) -> Self {
        let connections = Arc::new(ConnectionManager::new());
        let hook: Arc<dyn QueryHook> = Arc::new(ReadOnly { tables });
        Self {
            queries: Arc::new(DfSessionService::new_with_hooks(Arc::new(context), vec![hook])),
            cancel: Arc::new(DefaultCancelHandler::new(connections.clone())),
            connections,
        }
    }
}

/// Answers one connection.
pub struct Handlers {
    service: Arc<Service>,
    startup: Arc<Startup>,
    guarded: Arc<Guarded>,
}

impl Handlers {
    /// Of a connection, with the token if one is set.
    pub fn new(service: Arc<Service>, password: Option<Arc<Password>>) -> Self {
        let startup = Arc::new(Startup::new(password, service.connections.clone()));
        let parser = Arc::new(GuardedParser(service.queries.query_parser()));
        let guarded = Arc::new(Guarded { queries: service.queries.clone(), parser });
        Self { service, startup, guarded }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.guarded.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.guarded.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.service.cancel.clone()
    }
}

/// Looks at the text of a query before anybody parses it.
struct Guarded {
    queries: Arc<DfSessionService>,
    parser: Arc<GuardedParser>,
}

struct GuardedParser(Arc<Parser>);

/// How the rows of the portal that is executed are to be written: hooks are not told.
struct WantedFormat(Format);

/// A statement as it is kept for a portal: its text, and what was planned of it.
type Prepared = (String, Option<(Statement, LogicalPlan)>);

fn check(query: &str) -> PgWireResult<()> {
    check_text(query).map_err(|e| refuse("54000", e.to_string()))
}

#[async_trait]
impl SimpleQueryHandler for Guarded {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        check(query)?;
        SimpleQueryHandler::do_query(self.queries.as_ref(), client, query).await
    }
}

#[async_trait]
impl QueryParser for GuardedParser {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        check(sql)?;
        self.0.parse_sql(client, sql, types).await
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        self.0.get_parameter_types(statement)
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        self.0.get_result_schema(statement, format)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Guarded {
    type Statement = Prepared;
    type QueryParser = GuardedParser;

    fn query_parser(&self) -> Arc<GuardedParser> {
        self.parser.clone()
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, most: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        client.session_extensions().insert(WantedFormat(portal.result_column_format.clone()));
        ExtendedQueryHandler::do_query(self.queries.as_ref(), client, portal, most).await
    }
}

/// Decides about every statement.
struct ReadOnly {
    tables: Arc<Tables>,
}

/// What went wrong with a query, in our words.
fn failed(tables: &Tables, error: &DataFusionError) -> PgWireError {
    let code = match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::SQL(..) => "42601",
        _ => "42000",
    };
    refuse(code, tables.explain(error).to_string())
}

/// The same of one that was running: the library hands such errors on as they are.
fn broke_off(tables: &Tables, error: PgWireError) -> PgWireError {
    match error {
        PgWireError::ApiError(cause) => match cause.downcast_ref() {
            Some(of_query) => failed(tables, of_query),
            None => PgWireError::ApiError(cause),
        },
        other => other,
    }
}

impl ReadOnly {
    fn failed(&self, error: &DataFusionError) -> PgWireError {
        failed(&self.tables, error)
    }

    async fn plan(&self, statement: &Statement, context: &SessionContext) -> PgWireResult<LogicalPlan> {
        let mut statement = statement.clone();
        riverrun_sql::hop::rewrite(&mut statement, "query", "").map_err(|e| refuse("42601", e.to_string()))?;
        let plan = context.state().statement_to_plan(PlanStatement::Statement(Box::new(statement))).await;
        let plan = plan.map_err(|e| self.failed(&e))?;
        check_reads(&plan).map_err(|e| self.failed(&e))?;
        Ok(plan)
    }

    /// Runs a plan; its rows come within the time of the query, or an error does.
    async fn run(
        &self,
        plan: impl Future<Output = PgWireResult<LogicalPlan>> + Send,
        (context, format): (&SessionContext, &Format),
        client: &dyn HookClient,
    ) -> PgWireResult<Response> {
        let asked = client.metadata().get(STATEMENT_TIMEOUT).and_then(|text| text.parse().ok()).map(Duration::from_millis);
        let time = asked.map_or(QUERY_TIME, |asked| asked.min(QUERY_TIME));
        let deadline = deadline(time);
        let too_long = move || refuse("57014", format!("canceling statement due to statement timeout ({} ms)", time.as_millis()));
        let begun = async {
            let plan = plan.await?;
            let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
            encode_dataframe(DataFrame::new(context.state(), plan), format, Some(options)).await
        };
        let begun = timeout_at(deadline, begun).await.map_err(|_| too_long())?;
        let QueryResponse { row_schema, data_rows, .. } = begun.map_err(|e| broke_off(&self.tables, e))?;
        let tables = Arc::clone(&self.tables);
        let data_rows = data_rows.map(move |row| row.map_err(|e| broke_off(&tables, e)));
        let rows = futures::stream::unfold(Some(data_rows), move |rows| async move {
            let mut rows = rows?;
            match timeout_at(deadline, rows.next()).await {
                Ok(Some(row)) => Some((row, Some(rows))),
                Ok(None) => None,
                Err(_) => Some((Err(too_long()), None)),
            }
        });
        Ok(Response::Query(QueryResponse::new(row_schema, rows)))
    }
}

#[allow(clippy::disallowed_methods, reason = "a query's deadline: no result depends on it")]
fn deadline(time: Duration) -> Instant {
    Instant::now() + time
}

#[async_trait]
impl QueryHook for ReadOnly {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        let kind = match kind(statement) {
            Ok(kind) => kind,
            Err(refusal) => return Some(Err(refusal)),
        };
        // Within a transaction that has failed nothing but its end is done.
        if let Some(answer) = TransactionStatementHook.handle_simple_query(statement, context, client).await {
            return Some(answer);
        }
        match (kind, statement) {
            (Kind::Query, _) => Some(self.run(self.plan(statement, context), (context, &Format::UnifiedText), client).await),
            (Kind::Setting, Statement::Set(set)) if without_effect(set) => Some(Ok(Response::Execution(Tag::new("SET")))),
            (Kind::Forget(tag), _) => Some(Ok(Response::Execution(Tag::new(tag)))),
            _ => SetShowHook.handle_simple_query(statement, context, client).await,
        }
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        match kind(statement) {
            Err(refusal) => Some(Err(refusal)),
            Ok(Kind::Query) => Some(self.plan(statement, context).await),
            Ok(Kind::Transaction) => TransactionStatementHook.handle_extended_parse_query(statement, context, client).await,
            Ok(Kind::Setting | Kind::Show) => SetShowHook.handle_extended_parse_query(statement, context, client).await,
            Ok(Kind::Forget(_)) => Some(Ok(LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
                produce_one_row: false,
                schema: Arc::new(datafusion::common::DFSchema::empty()),
            }))),
        }
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        plan: &LogicalPlan,
        params: &ParamValues,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        match kind(statement) {
            Ok(Kind::Query) => {
                let bound = plan.clone().replace_params_with_values(params).map_err(|e| self.failed(&e));
                let wanted = client.session_extensions().get::<WantedFormat>();
                let format = wanted.map_or(Format::UnifiedText, |wanted| wanted.0.clone());
                Some(self.run(async { bound }, (context, &format), client).await)
            }
            _ => self.handle_simple_query(statement, context, client).await,
        }
    }
}
