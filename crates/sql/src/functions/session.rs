//! `session(time, gap)`: a mark for the planner. A session depends on the rows around, so no row can compute its own.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{interval, window};

/// The mark.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Session {
    signature: Signature,
}

impl Default for Session {
    fn default() -> Self {
        // Stable, not immutable: nobody may try to compute it while planning.
        Self { signature: Signature::user_defined(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Session {
    fn name(&self) -> &str {
        "session"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        interval::coerce("session", &["the gap"], types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        internal_err!("session says its type by return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        interval::micros("session", "gap", args.scalar_arguments[1])?;
        Ok(Arc::new(Field::new("session", window::window_type(), args.arg_fields[0].is_nullable())))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!(
            "session() is no function of one row: use it in the GROUP BY of a streaming query; over tables at rest, number the \
             sessions yourself: sum(CASE WHEN ts - LAG(ts) OVER w < gap THEN 0 ELSE 1 END) OVER w, WINDOW w AS (PARTITION BY \
             key ORDER BY ts), and group by that number"
        )
    }
}
