//! The alerts of query 3, read from their topic as any consumer would.

use std::sync::Arc;

use riverrun_connectors::log::{Log, Reader};
use riverrun_engine::{Error, Result};
use serde::Deserialize;

use crate::cli::summary::clock_time;

/// The topic of alerts.
pub const TOPIC: &str = "fraud-alerts";

/// Follows the topic of alerts from its end on.
pub struct Alerts {
    readers: Vec<Reader>,
    seen: u64,
}

#[derive(Deserialize)]
struct Place {
    lat: f64,
    lon: f64,
}

/// What is shown of an alert.
#[derive(Deserialize)]
struct Alert {
    user_id: String,
    amount: f64,
    merchant: Option<String>,
    reasons: Vec<String>,
    distance_km: Option<f64>,
    time_diff_seconds: Option<f64>,
    velocity_kmh: Option<f64>,
    location: Option<Place>,
}

impl Alerts {
    /// From the end of the topic, which is made if it is missing.
    pub fn open(log: Arc<Log>) -> Result<Self> {
        let topic = log.create_topic(TOPIC, None, None)?;
        let reader = |partition| Reader::open(log.clone(), topic.clone(), partition, topic.end(partition), false);
        Ok(Self { readers: (0..topic.partitions()).map(reader).collect::<Result<_>>()?, seen: 0 })
    }

    /// How many came.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Prints those that came since.
    pub fn print_new(&mut self) -> Result<()> {
        for reader in &mut self.readers {
            let mut lines = Vec::new();
            reader.read(1000, 1 << 20, i64::MAX, |record| {
                lines.push(record.value.map(|value| describe(value, record.timestamp)));
            })?;
            self.seen += lines.len() as u64;
            for line in lines.into_iter().flatten() {
                println!("{}", line?);
            }
        }
        Ok(())
    }
}

fn describe(value: &[u8], at: i64) -> Result<String> {
    let alert: Alert = serde_json::from_slice(value).map_err(|e| Error::permanent(format!("an alert cannot be read: {e}")))?;
    let place = alert.location.map_or(String::new(), |p| format!(" at {:.2},{:.2}", p.lat, p.lon));
    let step = match (alert.distance_km, alert.time_diff_seconds, alert.velocity_kmh) {
        (Some(km), Some(s), Some(v)) => format!(": {km:.0} km in {s:.0} s = {v:.0} km/h"),
        _ => String::new(),
    };
    let merchant = alert.merchant.unwrap_or_default();
    let (time, reasons) = (clock_time(at), alert.reasons.join(" + "));
    Ok(format!("  ALERT {time} {reasons} {} {:.2} {merchant}{place}{step}", alert.user_id, alert.amount))
}
