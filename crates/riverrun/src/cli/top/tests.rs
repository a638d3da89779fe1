//! Frames of known progress: every number is where it belongs, at 80 by 24 and wide.

use std::time::Duration;

use riverrun_engine::progress::Progress;
use riverrun_engine::time::ManualClock;
use serde_json::json;

use super::view::{Action, Link, View};
use super::{frame, frame_lines, text};

/// Two seconds that end at 22:20:02.
fn progress() -> Progress {
    let source = json!({
        "description": "log[transactions]", "name": "transactions",
        "start_offset": {"0": 500_000, "1": 500_000}, "end_offset": {"0": 600_000, "1": 634_567},
        "latest_offset": {"0": 600_000, "1": 634_579},
        "watermark": {"0": "2023-11-14T22:10:01.000Z", "1": "2023-11-14T22:10:00.000Z"},
        "lag": 12, "num_input_rows": 100_024, "num_input_rows_total": 1_234_567, "input_rows_per_second": 50_012.0,
        "processed_rows_per_second": 181_000.4, "num_input_bytes": 20_971_520, "num_input_bytes_total": 99, "num_late_rows": 1,
        "num_late_rows_total": 7, "busy_ms": 240, "bad_records_total": {"malformed": 3, "missing_field": 1}
    });
    let sink = json!({
        "description": "log[alerts]", "name": "alerts", "num_output_rows": 30, "num_output_rows_total": 415,
        "output_rows_per_second": 15.0, "latency_ms": {"p50": 4.0, "p95": 21.0, "p99": 37.5}, "busy_ms": 20,
        "queue_bytes": 67_108_864, "retries_total": 2
    });
    let operator = |name: &str, taken: u64, given: u64| {
        json!({"operator_name": name, "num_input_rows": taken, "num_input_rows_total": taken, "num_output_rows": given,
               "num_output_rows_total": given, "busy_ms": 600})
    };
    serde_json::from_value(json!({
        "id": "i", "run_id": "r", "name": "devices", "timestamp": "2023-11-14T22:20:00.000Z", "batch_id": 1234,
        "batch_duration": 2000, "num_input_rows": 100_024, "input_rows_per_second": 50_012.0,
        "processed_rows_per_second": 181_000.4,
        "duration_ms": {"trigger_execution": 860, "get_batch": 240, "add_batch": 600, "hand_over": 0, "state_snapshot": 20,
                        "backpressure": 0, "write_sinks": 20, "write_checkpoint": 20, "commit_offsets": 0},
        "event_time": {"min": "2023-11-14T22:19:58.000Z", "max": "2023-11-14T22:20:01.000Z",
                       "avg": "2023-11-14T22:20:00.000Z", "watermark": "2023-11-14T22:10:00.000Z"},
        "state_operators": [{"operator_name": "spending: window aggregate", "num_rows_total": 12_345,
                             "memory_used_bytes": 3_355_443, "num_rows_dropped_by_watermark": 1,
                             "num_rows_dropped_by_watermark_total": 7}],
        "operators": [operator("large: filter", 100_020, 30), operator("spending: window aggregate", 100_020, 2_000)],
        "sources": [source], "sinks": [sink]
    }))
    .unwrap()
}

fn view() -> View {
    View::new("127.0.0.1:4000".into(), progress())
}

/// 22:20:05.
fn clock() -> ManualClock {
    ManualClock::at(1_700_000_405_000_000)
}

#[test]
fn a_frame_of_80_by_24_shows_known_numbers() {
    let lines = frame_lines(&mut view(), (80, 24), &clock());
    let expected = [
        "riverrun top  devices  127.0.0.1:4000                               22:20:02 UTC",
        "read 50,012 rows/s, could do 181,000 rows/s   lag 12 rows   epoch 1,234",
        "watermark 22:10:00, 10 min 2 s behind   event time 22:19:58 to 22:20:01",
        "threads: read 12%  operate 30%  hand over 0%  blocked 0%  sinks 1%  save 2%",
        "rows/s, up to 50,012 █",
        "                     █",
        "SOURCES               ROWS/S          ROWS        LAG    LATE    BAD      BEHIND",
        "transactions          50,012     1,234,567         12       7      4  10 min 2 s",
        "",
        "OPERATORS                      IN/S     OUT/S  BUSY  STATE ROWS    STATE    LATE",
        "large: filter                50,010        15  30 %           -        -       -",
        "spending: window aggrega…    50,010     1,000  30 %      12,345  3.2 MiB       7",
        "",
        "SINKS                       ROWS/S          ROWS      P99  BUSY    QUEUE RETRIES",
        "alerts                          15           415    38 ms   1 %   64 MiB       2",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "",
        "q quit   arrows scroll   p partitions",
    ];
    assert_eq!(lines, expected, "{}", lines.join("\n"));
}

#[test]
fn a_wide_frame_has_more_columns_and_partitions_have_lines() {
    let mut view = view();
    view.act(Action::Partitions);
    let text = text(&mut view, 120, &clock());
    let expected = [
        "riverrun top  devices  127.0.0.1:4000                                                                       22:20:02 UTC",
        "read 50,012 rows/s, could do 181,000 rows/s   lag 12 rows   epoch 1,234",
        "watermark 22:10:00, 10 min 2 s behind   event time 22:19:58 to 22:20:01",
        "threads: read 12%  operate 30%  hand over 0%  blocked 0%  sinks 1%  save 2%",
        "SOURCES                                       ROWS/S          ROWS   BYTES/S        LAG    LATE    BAD  BUSY      BEHIND",
        "transactions                                  50,012     1,234,567    10 MiB         12       7      4  12 %  10 min 2 s",
        "     0  600,000 of 600,000, lag 0, watermark 22:10:01, 10 min 1 s behind",
        "     1  634,567 of 634,579, lag 12, watermark 22:10:00, 10 min 2 s behind",
        "",
        "OPERATORS                                                              IN/S     OUT/S  BUSY  STATE ROWS    STATE    LATE",
        "large: filter                                                        50,010        15  30 %           -        -       -",
        "spending: window aggregate                                           50,010     1,000  30 %      12,345  3.2 MiB       7",
        "",
        "SINKS                                                      ROWS/S          ROWS      P50      P99  BUSY    QUEUE RETRIES",
        "alerts                                                         15           415   4.0 ms    38 ms   1 %   64 MiB       2",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn a_process_that_went_away_is_told_and_its_last_numbers_stay() {
    let (mut view, clock) = (view(), clock());
    view.lost(1_700_000_403_000_000);
    clock.advance(Duration::from_secs(60));
    view.lost(1_700_000_465_000_000);
    let lines = frame_lines(&mut view, (80, 24), &clock);
    assert!(lines[0].ends_with(" DISCONNECTED 1 min 2 s, trying again"), "{}", lines[0]);
    assert!(lines[1].starts_with("at 22:20:02 UTC: read 50,012 rows/s"), "{}", lines[1]);

    let mut restarted = progress();
    restarted.identity.run_id = "another".into();
    restarted.num_input_rows = 0;
    view.answered("127.0.0.1:5000".into(), restarted);
    assert_eq!((view.link.clone(), view.history.len()), (Link::Connected, 1));
    let lines = frame_lines(&mut view, (80, 24), &clock);
    assert!(lines[0].contains("127.0.0.1:5000"), "{}", lines[0]);
    assert!(lines[1].starts_with("idle: nothing comes"), "{}", lines[1]);
}

#[test]
fn what_does_not_fit_is_scrolled_to_and_no_further_than_there_is() {
    let mut view = view();
    let lines = frame_lines(&mut view, (80, 12), &clock());
    assert!(lines[11].ends_with("4 more lines below"), "{}", lines[11]);
    view.act(Action::Scroll(100));
    let lines = frame_lines(&mut view, (80, 12), &clock());
    assert_eq!(view.scroll, 4);
    assert!(lines[10].starts_with("alerts"), "{}", lines.join("\n"));
    view.act(Action::Scroll(-1));
    view.act(Action::Top);
    assert_eq!(view.scroll, 0);
}

#[test]
fn no_size_breaks_a_frame() {
    for (width, height) in [(1, 1), (3, 2), (20, 5), (40, 10), (300, 100)] {
        let lines = frame_lines(&mut view(), (width, height), &clock());
        assert_eq!(lines.len(), usize::from(height));
    }
    assert_eq!(frame::full_height(&view(), 80), 6 + 9 + 1);
}
