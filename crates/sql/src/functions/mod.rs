//! Riverrun's own SQL functions: windows of time ([`tumble`], [`hop_windows`], [`session`]) and [`haversine_km`], for SQL and,
//! as builders of [`Expr`], for programs.
//!
//! A window is a struct (start, end), both TIMESTAMP, the end exclusive; NULL for a row without a time. Windows of `tumble`
//! and `hop_windows` are aligned to 1970-01-01T00:00:00Z.

mod haversine;
mod hop_windows;
mod interval;
mod session;
mod tumble;
mod window;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::prelude::lit;
use datafusion::scalar::ScalarValue;

pub use interval::micros as interval_micros;
pub use window::{fields as window_fields, window_type};

static TUMBLE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(tumble::Tumble::default())));
static HOP_WINDOWS: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(hop_windows::HopWindows::default())));
static SESSION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(session::Session::default())));
static HAVERSINE_KM: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(haversine::HaversineKm::default())));

/// All of them.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    [&TUMBLE, &HOP_WINDOWS, &SESSION, &HAVERSINE_KM].map(|udf| Arc::clone(udf)).to_vec()
}

/// The window of length `size` that holds `time`.
pub fn tumble(time: Expr, size: Duration) -> Expr {
    TUMBLE.call(vec![time, interval(size)])
}

/// The list of all windows of length `size`, one every `slide`, that hold `time`, in order. To group by them, make it a
/// column and unnest that: `df.with_column("window", hop_windows(…))?.unnest_columns(&["window"])`.
pub fn hop_windows(time: Expr, size: Duration, slide: Duration) -> Expr {
    HOP_WINDOWS.call(vec![time, interval(size), interval(slide)])
}

/// The session that holds `time`: rows less than `gap` apart share one. Only as a key of a streaming aggregation.
pub fn session(time: Expr, gap: Duration) -> Expr {
    SESSION.call(vec![time, interval(gap)])
}

/// The great circle between two places in degrees, on a sphere with a radius of 6371 km. DOUBLE, in km.
pub fn haversine_km(lat1: Expr, lon1: Expr, lat2: Expr, lon2: Expr) -> Expr {
    HAVERSINE_KM.call(vec![lat1, lon1, lat2, lon2])
}

/// An interval longer than 290 years is as good as 290 years.
fn interval(length: Duration) -> Expr {
    let nanos = i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    lit(ScalarValue::new_interval_mdn(0, 0, nanos))
}

#[cfg(test)]
mod tests;
