//! The tables of a frame: sources, operators, sinks, a line each. Columns that do not fit are left out.

use std::time::Duration;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use riverrun_engine::progress::{OperatorProgress, Progress, SinkProgress, SourceProgress, Timestamp};
use riverrun_engine::time::Micros;

use super::units::{bytes, latency as latency_text, number, span};
use crate::cli::summary::clock_time;

/// Head of a column, its width with the space before it, and the width of the terminal from which on it is shown.
type Column = (&'static str, usize, usize);

const SOURCE: [Column; 8] = [
    ("ROWS/S", 10, 0),
    ("ROWS", 14, 0),
    ("BYTES/S", 10, 92),
    ("LAG", 11, 0),
    ("LATE", 8, 0),
    ("BAD", 7, 0),
    ("BUSY", 6, 98),
    ("BEHIND", 12, 0),
];
const OPERATOR: [Column; 6] =
    [("IN/S", 10, 0), ("OUT/S", 10, 0), ("BUSY", 6, 0), ("STATE ROWS", 12, 0), ("STATE", 9, 0), ("LATE", 8, 0)];
const SINK: [Column; 7] =
    [("ROWS/S", 10, 0), ("ROWS", 14, 0), ("P50", 9, 92), ("P99", 9, 0), ("BUSY", 6, 0), ("QUEUE", 9, 0), ("RETRIES", 8, 0)];

/// A number that somebody should look at.
const TROUBLE: Style = Style::new().fg(Color::Yellow);
const PLAIN: Style = Style::new();

/// Text of a cell and how it looks.
type Cell = (String, Style);

/// All lines of the body for a width.
pub fn lines(progress: &Progress, partitions: bool, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![head("SOURCES", &SOURCE, width)];
    for source in &progress.sources {
        lines.push(row(&source.name, &source_cells(source, progress), &SOURCE, width));
        if partitions {
            lines.extend(source.end_offset.keys().map(|p| partition_line(source, *p, end(progress))));
        }
    }
    lines.push(Line::default());
    lines.push(head("OPERATORS", &OPERATOR, width));
    lines.extend(progress.operators.iter().map(|o| row(&o.operator_name, &operator_cells(o, progress), &OPERATOR, width)));
    lines.push(Line::default());
    lines.push(head("SINKS", &SINK, width));
    lines.extend(progress.sinks.iter().map(|s| row(&s.name, &sink_cells(s, progress), &SINK, width)));
    lines
}

fn source_cells(source: &SourceProgress, progress: &Progress) -> Vec<Cell> {
    let bad: u64 = source.bad_records_total.values().sum();
    let seconds = seconds(progress);
    let watermark = source.watermark.values().min();
    vec![
        plain(number(source.input_rows_per_second.round() as u64, 9)),
        plain(number(source.num_input_rows_total, 13)),
        plain(bytes((source.num_input_bytes as f64 / seconds).round() as u64)),
        plain(number(source.lag, 10)),
        (number(source.num_late_rows_total, 7), trouble(source.num_late_rows_total)),
        (number(bad, 6), trouble(bad)),
        plain(share(source.busy_ms, progress)),
        plain(watermark.map_or_else(|| "-".into(), |w| behind(*w, end(progress)))),
    ]
}

/// `0 of 123,456 (lag 0), watermark 17:50:01`: where one partition is.
fn partition_line(source: &SourceProgress, partition: u32, now: Micros) -> Line<'static> {
    let end = source.end_offset.get(&partition).copied().unwrap_or_default();
    let mut text = format!("  {partition:>4}  {}", number(end.max(0) as u64, 20));
    if let Some(latest) = source.latest_offset.get(&partition) {
        let lag = latest.saturating_sub(end).max(0) as u64;
        text.push_str(&format!(" of {}, lag {}", number((*latest).max(0) as u64, 20), number(lag, 20)));
    }
    match source.watermark.get(&partition) {
        Some(w) => text.push_str(&format!(", watermark {}, {} behind", clock_time(w.0), behind(*w, now))),
        None => text.push_str(", no watermark yet"),
    }
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn operator_cells(operator: &OperatorProgress, progress: &Progress) -> Vec<Cell> {
    let rate = |rows: u64| plain(number((rows as f64 / seconds(progress)).round() as u64, 9));
    let state = progress.state_operators.iter().find(|s| s.operator_name == operator.operator_name);
    let dropped = state.map_or(0, |s| s.num_rows_dropped_by_watermark_total);
    let of_state = |cell: Option<Cell>| cell.unwrap_or_else(|| plain("-".into()));
    vec![
        rate(operator.num_input_rows),
        rate(operator.num_output_rows),
        plain(share(operator.busy_ms, progress)),
        of_state(state.map(|s| plain(number(s.num_rows_total, 11)))),
        of_state(state.map(|s| plain(bytes(s.memory_used_bytes)))),
        of_state(state.map(|_| (number(dropped, 7), trouble(dropped)))),
    ]
}

fn sink_cells(sink: &SinkProgress, progress: &Progress) -> Vec<Cell> {
    vec![
        plain(number(sink.output_rows_per_second.round() as u64, 9)),
        plain(number(sink.num_output_rows_total, 13)),
        latency(sink.latency_ms.map(|l| l.p50)),
        latency(sink.latency_ms.map(|l| l.p99)),
        plain(share(sink.busy_ms, progress)),
        plain(bytes(sink.queue_bytes)),
        (number(sink.retries_total, 7), trouble(sink.retries_total)),
    ]
}

fn plain(text: String) -> Cell {
    (text, PLAIN)
}

/// From a record's time to the sink's acknowledgement.
fn latency(millis: Option<f64>) -> Cell {
    plain(millis.map_or_else(|| "-".into(), latency_text))
}

fn trouble(count: u64) -> Style {
    if count > 0 { TROUBLE } else { PLAIN }
}

/// When the interval ended: the moment that all its numbers are of.
pub fn end(progress: &Progress) -> Micros {
    progress.timestamp.0.saturating_add_unsigned(progress.batch_duration.saturating_mul(1000))
}

/// How far a moment lies back.
pub fn behind(moment: Timestamp, now: Micros) -> String {
    span(Duration::from_micros(now.saturating_sub(moment.0).max(0) as u64))
}

fn seconds(progress: &Progress) -> f64 {
    (progress.batch_duration as f64 / 1000.0).max(0.001)
}

/// Of one thread's time, in percent.
fn share(busy_ms: u64, progress: &Progress) -> String {
    format!("{:.0} %", busy_ms as f64 / (seconds(progress) * 10.0))
}

fn shown(columns: &[Column], width: usize) -> impl Iterator<Item = (usize, &Column)> {
    columns.iter().enumerate().filter(move |(_, (_, _, from))| width >= *from)
}

fn head(title: &str, columns: &[Column], width: usize) -> Line<'static> {
    let cells: Vec<Cell> = columns.iter().map(|(head, _, _)| plain((*head).to_owned())).collect();
    row(title, &cells, columns, width).style(Style::new().add_modifier(Modifier::REVERSED))
}

fn row(name: &str, cells: &[Cell], columns: &[Column], width: usize) -> Line<'static> {
    let taken: usize = shown(columns, width).map(|(_, (_, w, _))| w).sum();
    let room = width.saturating_sub(taken).max(8);
    let mut spans = vec![Span::raw(format!("{:<room$}", cut(name, room)))];
    for (i, (_, column, _)) in shown(columns, width) {
        let (text, style) = &cells[i];
        spans.push(Span::styled(format!("{text:>column$}"), *style));
    }
    Line::from(spans)
}

/// A name that is too long keeps its beginning.
fn cut(name: &str, room: usize) -> String {
    if name.chars().count() <= room {
        return name.to_owned();
    }
    let kept: String = name.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}…")
}
