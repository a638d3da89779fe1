//! The few of DataFusion's rules that run on a streaming query.
//!
//! Types are coerced and constants folded. Nothing that moves work between views: a rule that pushes one query's filter or
//! column list into a view that another query reads too would make two steps of one, and an operator's identity must not
//! hang on what else a script asks. Columns that nobody needs are left out later, over all queries at once.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{Optimizer, OptimizerContext};

/// The plan with types coerced and constants folded.
pub(crate) fn optimize(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let options = state.config_options();
    let plan = state.analyzer().execute_and_check(plan, options, |_, _| {})?;
    // Without a start time now() is not folded into a constant.
    let context = OptimizerContext::new_with_config_options(Arc::clone(options)).without_query_execution_start_time();
    let rules = Optimizer::with_rules(vec![Arc::new(ReplaceDistinctWithAggregate::new()), Arc::new(SimplifyExpressions::new())]);
    rules.optimize(plan, &context, |_, _| {})
}
