use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;
use riverrun_engine::batch::{Batch, Change};
use riverrun_engine::connect::{Connectors as _, Context};
use riverrun_engine::graph::{SinkNode, SourceNode};
use riverrun_engine::sink::{EpochOutput, Flushed, Sink};
use riverrun_engine::source::{BadRecord, Limit, PartitionReader, Poll, Source, Start};
use riverrun_engine::table::{Column, Emit, Location, Metadata, Options, Table};
use riverrun_engine::time::ManualClock;

use crate::registry::Registry;

mod recovery;

const CLOCK: i64 = 1_800_000_000_000_000;

fn table(options: &[(&str, &str)]) -> Table {
    let column = |name: &str, t: DataType, nullable, metadata| {
        let field = Arc::new(Field::new(name, t, nullable));
        Column { field, metadata, location: Location::default() }
    };
    Table {
        name: "files".into(),
        columns: vec![
            column("id", DataType::Int64, false, None),
            column("name", DataType::Utf8, true, None),
            column("at", DataType::Int64, false, Some(Metadata::Offset)),
            column("file", DataType::Utf8, false, Some(Metadata::Topic)),
        ],
        watermark: None,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        options: Options::of(options).with("connector", "filesystem"),
        location: Location::default(),
    }
}

fn context() -> Context {
    Context::new("p", ".", Arc::new(ManualClock::at(CLOCK)))
}

fn source(path: &Path, options: &[(&str, &str)]) -> riverrun_engine::Result<Arc<dyn Source>> {
    let mut table = table(options);
    table.options = table.options.with("path", &path.to_string_lossy());
    Registry::default().check(&table)?;
    let schema = table.schema();
    Registry::default().source(&SourceNode { table, schema }, &context())
}

/// Rows as (id, name, offset), and bad records, until the end or until `rows` rows came.
#[derive(Debug, Default, PartialEq)]
struct Read {
    rows: Vec<(i64, Option<String>, i64)>,
    bad: Vec<BadRecord>,
    next: i64,
}

impl Read {
    fn take(&mut self, reader: &mut dyn PartitionReader, limit: usize, until: usize) -> bool {
        while self.rows.len() < until {
            match reader.poll(Limit::new(limit, 1 << 20), CLOCK).unwrap() {
                Poll::Ready(fetch) => {
                    assert!(fetch.rows.num_rows() <= limit);
                    self.add(&fetch.rows);
                    self.bad.extend(fetch.bad);
                    self.next = fetch.next_offset;
                }
                Poll::Pending => {}
                Poll::End => return true,
            }
        }
        false
    }

    fn add(&mut self, rows: &RecordBatch) {
        let names = rows.column(1).as_string::<i32>();
        for row in 0..rows.num_rows() {
            let name = names.is_valid(row).then(|| names.value(row).to_owned());
            let number = |column: usize| rows.column(column).as_primitive::<Int64Type>().value(row);
            self.rows.push((number(0), name, number(2)));
        }
    }

    fn ids(&self) -> Vec<i64> {
        self.rows.iter().map(|r| r.0).collect()
    }
}

fn read_from(source: &dyn Source, position: i64, stop: Option<i64>, limit: usize) -> Read {
    let mut read = Read::default();
    let mut reader = source.open(0, position, stop).unwrap();
    assert!(read.take(reader.as_mut(), limit, usize::MAX));
    read
}

fn read_all(path: &Path, options: &[(&str, &str)]) -> Read {
    read_from(source(path, options).unwrap().as_ref(), 0, None, 1000)
}

fn lines(ids: std::ops::Range<i64>) -> String {
    ids.fold(String::new(), |mut text, id| {
        let _ = writeln!(text, "{{\"id\":{id},\"name\":\"n{id}\"}}");
        text
    })
}

#[test]
fn a_file_is_read_to_its_end_and_the_last_line_needs_no_newline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    std::fs::write(&path, format!("\u{feff}{}\r\n\n  \n{{\"id\":9}}", lines(0..2).trim_end())).unwrap();
    let read = read_all(&path, &[]);
    assert_eq!(read.ids(), [0, 1, 9]);
    assert_eq!(read.rows[2].1, None);
    assert!(read.bad.is_empty(), "{:?}", read.bad);
    assert_eq!(read.next, std::fs::metadata(&path).unwrap().len() as i64);
}

#[test]
fn files_of_a_folder_are_read_by_name_and_a_position_leads_back() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.jsonl"), lines(10..20)).unwrap();
    std::fs::write(folder.path().join("a.jsonl"), lines(0..10)).unwrap();
    std::fs::write(folder.path().join(".hidden"), "x").unwrap();
    std::fs::write(folder.path().join("_SUCCESS"), "x").unwrap();
    let source = source(folder.path(), &[]).unwrap();
    let all = read_from(source.as_ref(), 0, None, 3);
    assert_eq!(all.ids(), (0..20).collect::<Vec<_>>());
    for (id, _, offset) in &all.rows {
        assert_eq!(read_from(source.as_ref(), *offset, None, 100).ids(), (*id..20).collect::<Vec<_>>());
        assert_eq!(read_from(source.as_ref(), 0, Some(*offset), 100).ids(), (0..*id).collect::<Vec<_>>());
    }
    assert_eq!(source.end_offset(0).unwrap(), Some(all.next));
    assert_eq!(source.resolve(0, Start::Latest).unwrap(), all.next);
    let glob = read_all(&folder.path().join("a*.jsonl"), &[]);
    assert_eq!(glob.ids(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let told = |path: &str| source(&folder.path().join(path), &[]).map(|_| ()).unwrap_err().to_string();
    assert!(told("nothing.jsonl").contains("there is no file or folder"), "{}", told("nothing.jsonl"));
    assert!(told("*.jsonl").contains("no file matches"), "{}", told("*.jsonl"));
}

#[test]
fn a_watched_folder_gives_new_files_and_a_growing_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    write("a.jsonl", &lines(0..2));
    let source = source(folder.path(), &[("watch", "true"), ("poll_interval", "1 ms")]).unwrap();
    let mut reader = source.open(0, 0, None).unwrap();
    let mut read = Read::default();
    read.take(reader.as_mut(), 100, 2);
    write("a.jsonl", &format!("{}{{\"id\":", lines(2..3)));
    read.take(reader.as_mut(), 100, 3);
    write("a.jsonl", "7}\n");
    read.take(reader.as_mut(), 100, 4);
    write("b.jsonl", &lines(4..6));
    read.take(reader.as_mut(), 100, 6);
    assert_eq!((read.ids(), read.bad.len()), (vec![0, 1, 2, 7, 4, 5], 0));

    write("a1.jsonl", &lines(0..1));
    let error = loop {
        match reader.poll(Limit::new(1, 1), CLOCK) {
            Err(error) => break error.to_string(),
            Ok(poll) => assert!(matches!(poll, Poll::Pending), "{poll:?}"),
        }
    };
    assert!(error.contains("a1.jsonl appeared before") && error.contains("hint"), "{error}");
}

#[test]
fn bad_lines_cost_themselves_and_name_their_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    let good = lines(0..1);
    std::fs::write(&path, format!("{good}{{\"id\":\n{good}{{\"id\":\"x\"}}\n{good}")).unwrap();
    let read = read_all(&path, &[]);
    assert_eq!(read.ids(), [0, 0, 0]);
    let length = good.len() as i64;
    let bad: Vec<_> = read.bad.iter().map(|b| (b.offset, b.reason)).collect();
    assert_eq!(bad, [(length, "malformed"), (2 * length + 7, "wrong_type")]);
}

#[test]
fn csv_is_read_by_header_or_by_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    std::fs::write(&path, "name,extra,id\n\"a,\nb\",x,1\n,y,2\nc,z\nd,z,4,5\ne,z,\"6\n").unwrap();
    let read = read_all(&path, &[("format", "csv")]);
    assert_eq!(read.rows.iter().map(|r| (r.0, r.1.as_deref())).collect::<Vec<_>>(), [(1, Some("a,\nb")), (2, None)]);
    assert_eq!(read.bad.iter().map(|b| b.reason).collect::<Vec<_>>(), ["malformed"; 3]);
    let source = source(&path, &[("format", "csv")]).unwrap();
    assert_eq!(read_from(source.as_ref(), read.rows[1].2, None, 10).ids(), [2]);

    std::fs::write(&path, "1;a\nx;b\n3;c").unwrap();
    let read = read_all(&path, &[("format", "csv"), ("header", "false"), ("delimiter", ";")]);
    assert_eq!((read.ids(), read.bad[0].reason), (vec![1, 3], "wrong_type"));
    assert!(read.bad[0].detail.contains("field id: 'x' is no BIGINT"), "{}", read.bad[0].detail);
}

fn rows(ids: &[Option<i64>]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]);
    let names = StringArray::from_iter(ids.iter().map(|id| id.map(|id| format!("n{id}"))));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(names)]).unwrap()
}

fn sink(path: &Path, options: &[(&str, &str)]) -> riverrun_engine::Result<Box<dyn Sink>> {
    named("files", path, options)
}

fn named(name: &str, path: &Path, options: &[(&str, &str)]) -> riverrun_engine::Result<Box<dyn Sink>> {
    let mut table = table(options);
    table.name = name.into();
    table.columns.clear();
    table.options = table.options.with("path", &path.to_string_lossy());
    Registry::default().check(&table)?;
    let schema = rows(&[]).schema();
    let node = SinkNode { table, schema, emit: Emit::Append, trigger: Duration::ZERO, key: Vec::new() };
    Registry::default().sink(&node, &context())
}

fn output(task: u32, epoch: u64, ids: &[Option<i64>]) -> EpochOutput {
    EpochOutput { task, epoch, clock: CLOCK, batches: vec![Batch::insert(rows(ids))] }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

#[test]
fn what_the_sink_wrote_the_source_reads_in_every_format() {
    for format in ["json", "csv", "parquet"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut sink = sink(&path, &[("format", format)]).unwrap();
        sink.write(&output(0, 1, &[Some(1), Some(2)])).unwrap();
        assert_eq!(sink.flush(CLOCK, false).unwrap(), Flushed::Pending);
        sink.write(&output(1, 1, &[Some(4)])).unwrap();
        sink.write(&output(0, 2, &[])).unwrap();
        sink.write(&output(0, 3, &[Some(3), None])).unwrap();
        assert!(names(&path).iter().all(|n| n.starts_with('.')), "{:?}", names(&path));
        assert_eq!(sink.flush(CLOCK, true).unwrap(), Flushed::All);
        let files = names(&path);
        assert!(files[0].starts_with("part-00000-000000000001-000000000003.") && files.len() == 2, "{files:?}");
        let read = read_all(&path, &[("format", format)]);
        assert_eq!(read.ids(), [1, 2, 3, 4], "{format}");
        assert_eq!(read.bad.iter().map(|b| b.reason).collect::<Vec<_>>(), ["missing_field"], "{format}");
        let source = source(&path, &[("format", format)]).unwrap();
        assert_eq!(read_from(source.as_ref(), read.rows[1].2, Some(read.rows[3].2), 1).ids(), [2, 3], "{format}");
    }
}

#[test]
fn a_bad_row_of_a_parquet_file_shows_itself_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = sink(folder.path(), &[("format", "parquet")]).unwrap();
    sink.write(&output(0, 1, &[Some(1), None])).unwrap();
    sink.flush(CLOCK, true).unwrap();
    let read = read_all(folder.path(), &[("format", "parquet")]);
    assert_eq!((&read.bad[0].payload[..], read.bad[0].offset), (&b"{\"id\":null,\"name\":null}"[..], 1));
}

#[test]
fn files_are_finished_by_size_and_by_age_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let options = [("roll_size", "60"), ("roll_interval", "10 s")];
    let mut sink = sink(folder.path(), &options).unwrap();
    sink.write(&output(0, 1, &[Some(1)])).unwrap();
    assert_eq!(sink.flush(CLOCK + 9_000_000, false).unwrap(), Flushed::Pending);
    assert_eq!(sink.flush(CLOCK + 10_000_000, false).unwrap(), Flushed::All);
    sink.write(&output(0, 1, &[Some(2), Some(3), Some(4)])).unwrap();
    assert_eq!(sink.flush(CLOCK, false).unwrap(), Flushed::All);
    assert_eq!(
        names(folder.path()),
        ["part-00000-000000000001-000000000001-2.jsonl", "part-00000-000000000001-000000000001.jsonl"]
    );
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut killed = sink(folder.path(), &[]).unwrap();
    killed.write(&output(0, 1, &[Some(1)])).unwrap();
    std::mem::forget(killed);
    assert_eq!(names(folder.path()).len(), 1);
    let mut sink = sink(folder.path(), &[]).unwrap();
    sink.write(&output(0, 5, &[Some(2)])).unwrap();
    sink.flush(CLOCK, true).unwrap();
    assert_eq!(names(folder.path()), ["part-00000-000000000005-000000000005.jsonl"]);
}

#[test]
fn one_file_is_appended_to_and_a_broken_last_line_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/dead.jsonl");
    let mut first = sink(&path, &[]).unwrap();
    first.write(&output(0, 1, &[Some(1)])).unwrap();
    assert_eq!(first.flush(CLOCK, false).unwrap(), Flushed::All);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"id\":1,\"name\":\"n1\"}\n");
    std::fs::write(&path, format!("{text}{{\"id\":2,")).unwrap();
    let mut second = sink(&path, &[]).unwrap();
    second.write(&output(0, 2, &[Some(3)])).unwrap();
    let read = read_all(&path, &[]);
    assert_eq!((read.ids(), read.bad.len()), (vec![1, 3], 1));

    let csv = folder.path().join("x.csv");
    for epoch in 1..3 {
        sink(&csv, &[("format", "csv")]).unwrap().write(&output(0, epoch, &[Some(epoch as i64)])).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&csv).unwrap(), "id,name\n1,n1\n2,n2\n");
}

#[test]
fn an_output_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let occupied = folder.path().join("file");
    std::fs::write(&occupied, "x").unwrap();
    let told = sink(&occupied.join("x.jsonl"), &[]).map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("sink files: cannot create folder"), "{told}");
    let told = sink(&folder.path().join("x.parquet"), &[("format", "parquet")]).map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("cannot be appended to"), "{told}");
    let mut out = sink(&folder.path().join("out"), &[]).unwrap();
    let mut taken_back = output(0, 1, &[Some(1)]);
    taken_back.batches[0].change = Change::Delete;
    assert!(out.write(&taken_back).unwrap_err().to_string().contains("cannot take rows back"));
}

#[test]
fn a_full_disk_is_waited_for() {
    let error = super::config::io_error("cannot write to", Path::new("x"), &std::io::Error::from_raw_os_error(28));
    assert!(error.is_transient() && error.to_string().contains("free some space"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neither_limits_nor_files_nor_restarts_change_what_is_read(
        kinds in proptest::collection::vec(0..6_u8, 1..80),
        cuts in proptest::collection::vec(1..30_usize, 1..5),
        limit in 1..50_usize,
    ) {
        let line = |(id, kind): (usize, &u8)| match kind {
            0 => "{\"id\":".to_owned(),
            1 => format!("{{\"id\":\"x{id}\"}}"),
            2 => format!("{{\"id\":{id}}}{{\"id\":{id}}}"),
            _ => format!("{{\"id\":{id},\"name\":\"{}\"}}", "y".repeat(id)),
        };
        let all: Vec<String> = kinds.iter().enumerate().map(line).collect();
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("one.jsonl");
        std::fs::write(&one, all.join("\n") + "\n").unwrap();
        let whole = read_all(&one, &[]);
        prop_assert_eq!(whole.rows.len() + whole.bad.len(), all.len());

        let many = folder.path().join("many");
        std::fs::create_dir(&many).unwrap();
        let (mut rest, mut file) = (&all[..], 0);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            std::fs::write(many.join(format!("{file:05}.jsonl")), now.join("\n") + "\n").unwrap();
            (rest, file) = (later, file + 1);
            if rest.is_empty() {
                break;
            }
        }
        let source = source(&many, &[]).unwrap();
        prop_assert_eq!(&read_from(source.as_ref(), 0, None, limit), &whole);

        // Ranges as a run with limits told them, read again with others.
        let mut reader = source.open(0, 0, None).unwrap();
        let mut ends = Vec::new();
        while let Poll::Ready(fetch) = reader.poll(Limit::new(limit, 1 << 20), CLOCK).unwrap() {
            ends.push(fetch.next_offset);
        }
        let mut reader = source.open(0, 0, None).unwrap();
        let mut repeated = Read::default();
        for until in ends.into_iter().filter(|end| end % 3 > 0).chain([i64::MAX]) {
            let mut again = Limit { until, ..Limit::new(cuts[0], 1 << 20) };
            while repeated.next < until {
                match reader.poll(again, CLOCK).unwrap() {
                    Poll::Ready(fetch) => {
                        prop_assert!(fetch.next_offset <= until);
                        repeated.add(&fetch.rows);
                        repeated.bad.extend(fetch.bad);
                        repeated.next = fetch.next_offset;
                    }
                    Poll::Pending => {}
                    Poll::End => break,
                }
            }
            again.until = again.until.min(repeated.next);
            prop_assert!(!matches!(reader.poll(again, CLOCK).unwrap(), Poll::Ready(_)));
        }
        prop_assert_eq!(&repeated, &whole);

        let mut first = Read::default();
        first.take(source.open(0, 0, None).unwrap().as_mut(), limit, kinds.len() / 2);
        let second = read_from(source.as_ref(), first.next, None, limit);
        first.rows.extend(second.rows);
        first.bad.extend(second.bad);
        prop_assert_eq!(&first.rows, &whole.rows);
        prop_assert_eq!(&first.bad, &whole.bad);
    }
}
