//! A checkpoint costs what changed: 1,000,000 groups kept, 1,000 changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{col, lit};

use super::super::{Aggregate, Window, WindowAggregate};
use crate::batch::{Batch, Port};
use crate::operator::{OperatorSpec, Output};
use crate::state::parts::lives::Kept;
use crate::state::{Backend, Disk};
use crate::time::Micros;

const KEPT: i64 = 1_000_000;
const CHANGED: i64 = 1_000;
const KIB: usize = 1024;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("v", DataType::Int64, false),
    ]))
}

/// count(*) and sum(v) by k.
fn plan(session: bool) -> WindowAggregate {
    let build = |function, of| {
        let of = if of == "*" { lit(1i64) } else { col(of, &schema()).unwrap() };
        let function = AggregateExprBuilder::new(function, vec![of]).schema(schema()).alias("a").build().unwrap();
        Aggregate { function: Arc::new(function), filter: None }
    };
    let aggregates = vec![build(count_udaf(), "*"), build(sum_udaf(), "v")];
    let mut keys = vec![(col("k", &schema()).unwrap(), Arc::new(Field::new("k", DataType::Utf8, false)))];
    let mut window = Window::None;
    if session {
        let window_type = DataType::Struct(super::rows::window_fields());
        keys.insert(0, (lit(0i64), Arc::new(Field::new("w", window_type, true))));
        window = Window::Session { key: 0, time: col("ts", &schema()).unwrap(), gap: 10 };
    }
    WindowAggregate::new(schema(), keys, window, aggregates, None).unwrap()
}

fn rows(keys: impl Iterator<Item = i64>, time: Micros) -> Batch {
    let keys: Vec<_> = keys.collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(keys.iter().map(|k| format!("account {k}")))),
        Arc::new(TimestampMicrosecondArray::from(vec![time; keys.len()])),
        Arc::new(Int64Array::from_iter_values(keys.iter().copied())),
    ];
    Batch::insert(RecordBatch::try_new(schema(), columns).unwrap())
}

/// Bytes of the first checkpoint, and of those behind it; what is read back is what the operator goes on with.
fn checkpoints(plan: &WindowAggregate, port: Port, rounds: i64) -> (usize, Vec<usize>) {
    let (mut operator, mut out, mut kept) = (plan.create(&[port], &Backend::Memory).unwrap(), Output::default(), Kept::new());
    for from in (0..KEPT).step_by(50_000) {
        operator.on_batch(0, rows(from..from + 50_000, 5), &mut out).unwrap();
        operator.on_epoch_end(&mut out).unwrap();
        out.take();
    }
    assert_eq!(operator.state_size().rows, KEPT as u64);
    let first = kept.write(operator.snapshot().unwrap());
    let mut each = Vec::new();
    for round in 0..rounds {
        // A tenth in each of ten epochs, spread over all keys.
        for epoch in 0..10 {
            let key = |i: i64| (i * 7919 + (round * 10 + epoch) * 104_729) % KEPT;
            operator.on_batch(0, rows((0..CHANGED / 10).map(key), 6 + round), &mut out).unwrap();
            operator.on_epoch_end(&mut out).unwrap();
            out.take();
        }
        each.push(kept.write(operator.snapshot().unwrap()));
        if round == rounds / 2 {
            let groups = operator.state_size().rows;
            operator = plan.create(&[port], &Backend::Memory).unwrap();
            operator.restore(kept.read()).unwrap();
            assert_eq!(operator.state_size().rows, groups);
        }
    }
    (first, each)
}

#[test]
fn a_checkpoint_of_a_million_groups_costs_what_changed() {
    let all = [("updates", false, Port::Update), ("finals", false, Port::Rows), ("sessions", true, Port::Update)];
    for (name, session, port) in all {
        let (first, each) = checkpoints(&plan(session), port, 24);
        let (most, mean) = (*each.iter().max().unwrap(), each.iter().sum::<usize>() / each.len());
        println!("{name}: first {} KiB, then {mean} bytes, at most {most}", first / KIB);
        assert!(first > 10 * KIB * KIB, "{name}: {first} bytes hold all groups");
        assert!(mean < 300 * KIB, "{name}: {mean} bytes for {CHANGED} of {KEPT} groups: {each:?}");
        assert!(most < KIB * KIB, "{name}: {most} bytes for {CHANGED} of {KEPT} groups: {each:?}");
    }
}

#[test]
fn groups_on_disk_take_little_memory_and_their_checkpoints_are_the_same() {
    const GROUPS: i64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let disk = Backend::Disk(Disk::open(folder.path(), 1 << 20).unwrap().space().unwrap());
    let fill = |backend: &Backend| {
        let (mut operator, mut out) = (plan(false).create(&[Port::Update], backend).unwrap(), Output::default());
        for round in 0..2 {
            for from in (0..GROUPS).step_by(20_000) {
                let keys = (from..from + 20_000).map(|i| if round == 0 { i } else { i * 7919 % GROUPS });
                operator.on_batch(0, rows(keys, 5), &mut out).unwrap();
                operator.on_epoch_end(&mut out).unwrap();
                out.take();
            }
        }
        operator
    };
    let (mut in_memory, mut on_disk) = (fill(&Backend::Memory), fill(&disk));
    let (memory, held) = (in_memory.state_size(), on_disk.state_size());
    println!("{memory:?} in memory, {held:?} on disk");
    assert_eq!((memory.rows, memory.disk, held.rows), (GROUPS as u64, 0, GROUPS as u64));
    assert!(held.bytes * 3 < memory.bytes && held.disk < 3 * memory.bytes, "{memory:?} in memory, {held:?} on disk");

    // What either goes on with from the other's checkpoint it gives as before.
    let mut given = Vec::new();
    for (operator, backend) in [(&mut in_memory, &disk), (&mut on_disk, &Backend::Memory)] {
        let mut kept = Kept::new();
        kept.write(operator.snapshot().unwrap());
        let (mut restored, mut out) = (plan(false).create(&[Port::Update], backend).unwrap(), Output::default());
        restored.restore(kept.read()).unwrap();
        for operator in [operator, &mut restored] {
            operator.on_batch(0, rows((0..5000).map(|i| i * 104_729 % GROUPS), 6), &mut out).unwrap();
            operator.on_epoch_end(&mut out).unwrap();
            given.push(out.take().0.into_iter().map(|(_, batch)| batch.rows).collect::<Vec<_>>());
        }
    }
    assert!(given.iter().all(|rows| rows == &given[0]) && !given[0].is_empty());
}

#[test]
fn a_key_that_comes_costs_itself() {
    let mut operator = plan(false).create(&[Port::Update], &Backend::Memory).unwrap();
    let (mut out, mut kept) = (Output::default(), Kept::new());
    operator.on_batch(0, rows(0..100_000, 5), &mut out).unwrap();
    operator.on_epoch_end(&mut out).unwrap();
    kept.write(operator.snapshot().unwrap());
    operator.on_batch(0, rows(100_000..100_001, 5), &mut out).unwrap();
    operator.on_epoch_end(&mut out).unwrap();
    let bytes = kept.write(operator.snapshot().unwrap());
    assert!(bytes < 8 * KIB, "{bytes} bytes");
}
