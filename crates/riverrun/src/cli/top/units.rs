//! Numbers as people read them, each with its unit, short enough for a column.

use std::time::Duration;

use crate::cli::summary::grouped;

/// A count: `1,234,567`, or `1.23 M` where `room` is too narrow for that.
pub fn number(count: u64, room: usize) -> String {
    let text = grouped(count);
    if text.len() <= room {
        return text;
    }
    let (power, unit) = match count {
        0..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    let value = count as f64 / power;
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}

/// Bytes: `532 B`, `1.2 KiB`, `64 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 9.95 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A latency by one unit, in no more than 7 characters: `0.4 ms`, `83 ms`, `5.2 s`, `4.9 min`.
pub fn latency(millis: f64) -> String {
    match millis {
        ..9.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        ..99_950.0 => format!("{:.1} s", millis / 1e3),
        _ => format!("{:.1} min", millis / 6e4),
    }
}

/// A span of time by its two greatest units: `250 ms`, `12 s`, `10 min 2 s`, `3 h 5 min`, `2 d 1 h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let two = |great: u64, per: u64, names: (&str, &str)| match great % per {
        0 => format!("{} {}", great / per, names.0),
        rest => format!("{} {} {rest} {}", great / per, names.0, names.1),
    };
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds, 60, ("min", "s")),
        3600..86_400 => two(seconds / 60, 60, ("h", "min")),
        _ => two(seconds / 3600, 24, ("d", "h")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_too_long_for_its_column_is_rounded() {
        assert_eq!(number(1_234_567, 9), "1,234,567");
        assert_eq!(
            [1_234_567, 12_345_678, 999_499_999, 5_000_000_000].map(|n| number(n, 8)),
            ["1.23 M", "12.3 M", "999 M", "5.00 G"]
        );
    }

    #[test]
    fn a_latency_has_one_unit() {
        assert_eq!(
            [0.04, 0.42, 9.96, 83.4, 999.6, 5_210.0, 294_000.0].map(latency),
            ["0.0 ms", "0.4 ms", "10 ms", "83 ms", "1.0 s", "5.2 s", "4.9 min"]
        );
    }

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(
            [0, 1023, 1024, 10_189, 1_048_575, 64 << 20, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "10 KiB", "1.0 MiB", "64 MiB", "16777216 TiB"]
        );
        let spans = [0, 250, 12_900, 602_000, 600_000, 3_600_000, 11_100_000, 176_400_000];
        assert_eq!(
            spans.map(|ms| span(Duration::from_millis(ms))),
            ["0 ms", "250 ms", "12 s", "10 min 2 s", "10 min", "1 h", "3 h 5 min", "2 d 1 h"]
        );
    }
}
