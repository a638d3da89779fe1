//! The console's sink.

use std::io::{ErrorKind, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

/// Prints the rows of each epoch as a table with a heading. An epoch without rows prints nothing.
pub struct ConsoleSink {
    name: String,
    out: Box<dyn Write + Send>,
}

impl ConsoleSink {
    /// A console sink that prints to `out`.
    pub fn new(name: &str, out: Box<dyn Write + Send>) -> Self {
        Self { name: name.to_owned(), out }
    }
}

impl Sink for ConsoleSink {
    fn write(&mut self, output: &EpochOutput) -> Result<()> {
        if output.rows() == 0 {
            return Ok(());
        }
        let text = render(&self.name, output)?;
        let printed = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        printed.map_err(|e| match e.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock => Error::transient(format!("standard output: {e}")),
            _ => Error::permanent(format!("standard output cannot be written to: {e}")),
        })
    }

    fn flush(&mut self, _: Micros, _: bool) -> Result<Flushed> {
        Ok(Flushed::All)
    }
}

/// The heading and the table. Where rows are taken back, a first column says which: `-`.
fn render(name: &str, output: &EpochOutput) -> Result<String> {
    let deletes = output.batches.iter().any(|b| b.change == Change::Delete);
    let mut table = Table::new();
    table.load_preset(presets::ASCII_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    for batch in &output.batches {
        if table.header().is_none() {
            table.set_header(heading(&batch.rows.schema(), deletes));
        }
        rows(&mut table, batch, deletes)?;
    }
    let at = chrono::DateTime::from_timestamp_micros(output.clock).unwrap_or_default().format("%Y-%m-%d %H:%M:%S%.3f UTC");
    let (rows, task, epoch) = (output.rows(), output.task, output.epoch);
    let noun = if rows == 1 { "row" } else { "rows" };
    Ok(format!("-- {name}: {rows} {noun} at {at} (task {task}, epoch {epoch})\n{table}\n"))
}

fn heading(schema: &Schema, deletes: bool) -> Vec<Cell> {
    let mark = deletes.then(|| Cell::new(""));
    mark.into_iter().chain(schema.fields().iter().map(|f| Cell::new(printable(f.name())))).collect()
}

fn rows(table: &mut Table, batch: &Batch, deletes: bool) -> Result<()> {
    let rows: &RecordBatch = &batch.rows;
    let options = FormatOptions::default().with_null("NULL").with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.fZ"));
    let columns = rows.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let schema = rows.schema();
    for row in 0..rows.num_rows() {
        let mark = deletes.then(|| Cell::new(if batch.change == Change::Delete { "-" } else { "" }));
        let cells = columns.iter().zip(schema.fields()).map(|(column, field)| {
            let text = column.value(row).try_to_string()?;
            Ok(Cell::new(printable(&text)).set_alignment(alignment(field.data_type())))
        });
        table.add_row(mark.map(Ok).into_iter().chain(cells).collect::<Result<Vec<_>>>()?);
    }
    Ok(())
}

fn alignment(data_type: &DataType) -> CellAlignment {
    if data_type.is_numeric() { CellAlignment::Right } else { CellAlignment::Left }
}

/// Control characters spelt out: data must not move the cursor or break the table.
fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn batch(names: &[Option<&str>], change: Change) -> Batch {
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        let sums: ArrayRef = Arc::new(Float64Array::from_iter_values((0..names.len()).map(|i| i as f64 * 1000.5)));
        let times = TimestampMicrosecondArray::from_value(1_714_564_800_250_000, names.len()).with_timezone("UTC");
        let columns = [("name", names), ("sum", sums), ("at", Arc::new(times) as ArrayRef)];
        Batch { rows: RecordBatch::try_from_iter(columns).unwrap(), change }
    }

    fn printed(batches: Vec<Batch>) -> String {
        let paper = Paper::default();
        let mut sink = ConsoleSink::new("screen", Box::new(paper.clone()));
        sink.write(&EpochOutput { task: 2, epoch: 7, clock: 1_714_564_801_000_000, batches }).unwrap();
        assert_eq!(sink.flush(0, true).unwrap(), Flushed::All);
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_round_is_one_aligned_table_under_its_heading() {
        let text = printed(vec![batch(&[Some("a"), None], Change::Upsert), batch(&[Some("long name")], Change::Upsert)]);
        let expected = "\
-- screen: 3 rows at 2024-05-01 12:00:01.000 UTC (task 2, epoch 7)
+-----------+--------+--------------------------+
| name      | sum    | at                       |
+===============================================+
| a         |    0.0 | 2024-05-01 12:00:00.250Z |
| NULL      | 1000.5 | 2024-05-01 12:00:00.250Z |
| long name |    0.0 | 2024-05-01 12:00:00.250Z |
+-----------+--------+--------------------------+
";
        assert_eq!(text, expected);
    }

    #[test]
    fn rows_that_are_taken_back_are_marked() {
        let text = printed(vec![batch(&[Some("a")], Change::Upsert), batch(&[Some("b")], Change::Delete)]);
        assert!(text.contains("|   | a ") && text.contains("| - | b "), "{text}");
    }

    #[test]
    fn nothing_is_truncated_and_nothing_moves_the_cursor() {
        let long = "x".repeat(500);
        let text = printed(vec![batch(&[Some(&long), Some("a\nb\u{1b}[2J")], Change::Insert)]);
        assert!(text.contains(&long), "{text}");
        assert!(text.contains(r"a\nb\u{1b}[2J") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn an_epoch_without_rows_prints_nothing() {
        assert_eq!(printed(vec![batch(&[], Change::Insert)]), "");
    }

    #[test]
    fn a_closed_output_is_a_permanent_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut sink = ConsoleSink::new("screen", Box::new(Closed));
        let output = EpochOutput { task: 0, epoch: 1, clock: 0, batches: vec![batch(&[None], Change::Insert)] };
        let error = sink.write(&output).unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("standard output"), "{error}");
    }
}
