//! What a run did, in a table: the same for `run` and `demo`.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use riverrun_engine::runtime::stats::{NodeStats, PipelineStats, Role};
use riverrun_engine::time::Micros;

/// Counts of sources, operators and sinks.
pub fn counts(stats: &PipelineStats, seconds: f64) -> String {
    let mut text = String::new();
    for node in stats.role(Role::Source) {
        let rows = node.rows_in.load(Relaxed);
        let rate = rows as f64 / seconds.max(1e-9);
        let _ = writeln!(
            text,
            "read    {:<32} {:>12} records ({} / s){}",
            node.name,
            grouped(rows),
            grouped(rate as u64),
            trouble(node)
        );
    }
    for node in stats.role(Role::Operator).filter(|n| n.late.load(Relaxed) > 0) {
        let _ = writeln!(text, "dropped {:<32} {:>12} late rows", node.name, grouped(node.late.load(Relaxed)));
    }
    for sink in &stats.sinks {
        let _ = writeln!(text, "wrote   {:<32} {:>12} rows", sink.name, grouped(sink.rows_safe.load(Relaxed)));
    }
    text
}

/// The work of each node: seconds of a thread's time, and nanoseconds per row that it took.
pub fn profile(stats: &PipelineStats, seconds: f64) -> String {
    let mut text = format!("took {seconds:.2} s; work of each stage, in seconds of one thread:\n");
    for node in &stats.nodes {
        let busy = node.busy_nanos.load(Relaxed) as f64;
        let rows = node.rows_in.load(Relaxed);
        let per_row = busy / (rows.max(1) as f64);
        let _ = writeln!(text, "  {:<40} {:>8.2} s {:>8.0} ns/row {:>12} rows", node.name, busy / 1e9, per_row, grouped(rows));
    }
    text
}

fn trouble(node: &NodeStats) -> String {
    let mut text = String::new();
    let late = node.late.load(Relaxed);
    if late > 0 {
        let _ = write!(text, ", {} late", grouped(late));
    }
    for (reason, count) in node.bad() {
        let _ = write!(text, ", {} bad ({reason})", grouped(count));
    }
    text
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time of day, UTC, to the second.
pub fn clock_time(micros: Micros) -> String {
    let seconds = micros.div_euclid(1_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1,234", "1,234,567"]);
    }

    #[test]
    fn a_time_before_1970_has_a_time_of_day() {
        assert_eq!((clock_time(3_661_000_000), clock_time(-1)), ("01:01:01".to_owned(), "23:59:59".to_owned()));
    }
}
