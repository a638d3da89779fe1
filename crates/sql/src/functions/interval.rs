//! Constant lengths of time as arguments of functions.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};

use riverrun_engine::time::Micros;

/// Whether a type can say a length of time.
pub fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

/// The length of the constant argument `what` of `function`, in microseconds: days are 24 hours.
///
/// # Errors
/// It is no constant, no interval, NULL, holds months, is less than a microsecond or overflows.
pub fn micros(function: &str, what: &str, value: Option<&ScalarValue>) -> Result<Micros> {
    let Some(value) = value else {
        return plan_err!("{function}(): the {what} must be a constant such as INTERVAL '5 minutes', not a column or a formula");
    };
    let nanos = match value {
        ScalarValue::IntervalMonthDayNano(Some(v)) if v.months == 0 => nanos(v.days, i128::from(v.nanoseconds)),
        ScalarValue::IntervalDayTime(Some(v)) => nanos(v.days, i128::from(v.milliseconds) * 1_000_000),
        ScalarValue::IntervalMonthDayNano(Some(_)) | ScalarValue::IntervalYearMonth(Some(_)) => {
            return plan_err!(
                "{function}(): the {what} cannot be in months or years, which differ in length: write days or less"
            );
        }
        ScalarValue::DurationSecond(Some(v)) => i128::from(*v) * 1_000_000_000,
        ScalarValue::DurationMillisecond(Some(v)) => i128::from(*v) * 1_000_000,
        ScalarValue::DurationMicrosecond(Some(v)) => i128::from(*v) * 1000,
        ScalarValue::DurationNanosecond(Some(v)) => i128::from(*v),
        other if other.is_null() => return plan_err!("{function}(): the {what} is NULL; write one such as INTERVAL '5 minutes'"),
        other => {
            return plan_err!(
                "{function}(): the {what} must be an interval such as INTERVAL '5 minutes', not {}",
                other.data_type()
            );
        }
    };
    match i64::try_from(nanos / 1000) {
        Ok(micros) if micros > 0 => Ok(micros),
        Ok(_) => plan_err!("{function}(): the {what} must be a microsecond or more, and is {value}"),
        Err(_) => plan_err!("{function}(): the {what} {value} is too long"),
    }
}

fn nanos(days: i32, nanos: i128) -> i128 {
    i128::from(days) * 86_400_000_000_000 + nanos
}

/// The types that `function`'s arguments become: the first a TIMESTAMP, whatever its unit and zone; the others intervals as
/// they are.
///
/// # Errors
/// A wrong number of arguments, or one of another type.
pub fn coerce(function: &str, arguments: &[&str], types: &[DataType]) -> Result<Vec<DataType>> {
    if types.len() != arguments.len() + 1 {
        let list = arguments.join(", ");
        return plan_err!(
            "{function}() takes a TIMESTAMP and {list}: {function}(ts, {})",
            vec!["INTERVAL '…'"; arguments.len()].join(", ")
        );
    }
    match &types[0] {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => {}
        other => return plan_err!("{function}(): the first argument must be a TIMESTAMP, not {other}"),
    }
    for (what, data_type) in arguments.iter().zip(&types[1..]) {
        if !is_interval(data_type) {
            return plan_err!("{function}(): {what} must be an interval such as INTERVAL '5 minutes', not {data_type}");
        }
    }
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Ok(std::iter::once(time).chain(types[1..].iter().cloned()).collect())
}
