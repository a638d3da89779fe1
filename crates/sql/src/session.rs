//! The DataFusion session that plans and evaluates everything: scripts, ad-hoc queries, and the batch that streaming must
//! equal.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, plan_datafusion_err};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::ast::DataType as SqlType;
use riverrun_engine::table::Location;

use crate::functions;
use crate::parse::arrow_type;

/// A context with Riverrun's functions ([`functions`]) and types: times in UTC, TIMESTAMP in microseconds, VARCHAR as Utf8.
/// `hop(…)` must be rewritten before it plans ([`crate::hop`]).
pub fn session_context() -> SessionContext {
    session_context_with(SessionConfig::new().with_information_schema(true))
}

/// As [`session_context`], from a configuration of one's own; what Riverrun's types need is set upon it.
pub fn session_context_with(config: SessionConfig) -> SessionContext {
    session_context_in(config, Arc::default())
}

/// As [`session_context_with`], with memory, disk and stores of objects of one's own.
pub fn session_context_in(mut config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionContext {
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    let state = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    let state = state.with_type_planner(Arc::new(Types)).build();
    let context = SessionContext::new_with_state(state);
    for function in functions::all() {
        context.register_udf(function.as_ref().clone());
    }
    context
}

/// Types in queries are the types of columns.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &SqlType) -> Result<Option<FieldRef>> {
        let nullable = |data_type: DataType| Some(Arc::new(Field::new("", data_type, true)));
        match arrow_type(sql, Location::default()) {
            Ok(data_type) => Ok(nullable(data_type)),
            // DataFusion knows further types, for casts only.
            Err(_) if !matches!(sql, SqlType::Custom(..) | SqlType::Timestamp(..)) => Ok(None),
            Err(fault) => {
                Err(plan_datafusion_err!("{}{}", fault.message, fault.hint.map(|h| format!(": {h}")).unwrap_or_default()))
            }
        }
    }
}
