//! `haversine_km(lat1, lon1, lat2, lon2)`: the great circle between two places.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Radius of the sphere that stands for the earth.
const RADIUS_KM: f64 = 6371.0;

/// The function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct HaversineKm {
    signature: Signature,
}

impl Default for HaversineKm {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HaversineKm {
    fn name(&self) -> &str {
        "haversine_km"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.len() != 4 {
            return plan_err!("haversine_km() takes two places in degrees: haversine_km(lat1, lon1, lat2, lon2)");
        }
        match types.iter().find(|t| !t.is_numeric() && !t.is_null()) {
            Some(other) => plan_err!("haversine_km(): degrees are numbers, not {other}"),
            None => Ok(vec![DataType::Float64; 4]),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let column = |i: usize| {
            let found: Option<&Float64Array> = arrays[i].as_primitive_opt::<Float64Type>();
            found.ok_or_else(|| exec_datafusion_err!("haversine_km(): degrees came as {}", arrays[i].data_type()))
        };
        let distances = distances([column(0)?, column(1)?, column(2)?, column(3)?]);
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        Ok(match constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&distances, 0)?),
            false => ColumnarValue::Array(Arc::new(distances)),
        })
    }
}

/// NULL where any of the four is.
fn distances(degrees: [&Float64Array; 4]) -> Float64Array {
    let nulls = degrees.iter().fold(None, |nulls: Option<NullBuffer>, column| NullBuffer::union(nulls.as_ref(), column.nulls()));
    let [lat1, lon1, lat2, lon2] = degrees.map(|column| column.values());
    let places = lat1.iter().zip(lon1).zip(lat2.iter().zip(lon2));
    let km: Vec<f64> = places.map(|((lat1, lon1), (lat2, lon2))| haversine_km(*lat1, *lon1, *lat2, *lon2)).collect();
    Float64Array::new(ScalarBuffer::from(km), nulls)
}

/// The haversine formula (R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984). Exact to the metre for near
/// places; rounding can push the haversine of opposite places past 1, where the arc sine has no value: it is held there.
fn haversine_km(lat1: f64, lon1: f64, lat2: f64, lon2: f64) -> f64 {
    let (phi1, phi2) = (lat1.to_radians(), lat2.to_radians());
    let across = ((phi2 - phi1) / 2.0).sin();
    let along = ((lon2 - lon1).to_radians() / 2.0).sin();
    let haversine = across * across + phi1.cos() * phi2.cos() * along * along;
    2.0 * RADIUS_KM * haversine.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests;
