//! The operators: stateless ones evaluate DataFusion's physical expressions, stateful ones keep rows in [`crate::state`].

pub mod filter;
pub mod over;
pub mod project;
pub mod repartition;
pub mod union;
pub mod unnest;
pub mod window_aggregate;

/// An expression as SQL would write it, for `explain`.
pub fn sql_text(expression: &dyn datafusion_physical_expr::PhysicalExpr) -> String {
    std::fmt::from_fn(|f| expression.fmt_sql(f)).to_string()
}
