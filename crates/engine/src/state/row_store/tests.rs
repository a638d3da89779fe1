use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Int64Array, StringArray, StringViewArray};
use arrow::datatypes::{Field, Schema};
use proptest::prelude::*;

use super::*;
use crate::state::parts::lives::on_disk;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]))
}

fn store() -> RowStore {
    RowStore::new(schema(), &Backend::Memory).unwrap()
}

fn live(store: &RowStore) -> (Vec<RowRef>, Vec<u32>) {
    let (mut all, mut of) = (Vec::new(), Vec::new());
    let tell = &mut |refs: &[RowRef], owners: &[u32]| {
        all.extend_from_slice(refs);
        of.extend_from_slice(owners);
        Ok(())
    };
    store.for_each_live(tell).unwrap();
    (all, of)
}

fn column(store: &RowStore, column: usize, refs: &[Option<RowRef>]) -> ArrayRef {
    store.view(refs.iter().copied()).unwrap().column(column).unwrap()
}

fn rows(numbers: &[i64]) -> RecordBatch {
    let text = StringArray::from_iter_values(numbers.iter().map(|n| format!("row {n}")));
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(numbers.to_vec())), Arc::new(text)]).unwrap()
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    let text = batch.column(1).as_string::<i32>();
    let numbers = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
    numbers.iter().zip(text).for_each(|(n, s)| assert_eq!(s, n.map(|n| format!("row {n}")).as_deref()));
    numbers.values().to_vec()
}

#[test]
fn rows_come_back_in_the_order_asked_for() {
    let mut store = store();
    let a = store.append(rows(&[1, 2, 3]), &[10, 11, 12]).unwrap();
    let b = store.append(rows(&[4, 5]), &[13, 14]).unwrap();
    let at = |segment, row| RowRef { segment, row };
    assert_eq!(numbers(&store.gather(&[at(b, 1), at(a, 0), at(b, 0), at(a, 0)]).unwrap()), [5, 1, 4, 1]);
    let optional = column(&store, 0, &[None, Some(at(a, 2)), None]);
    assert_eq!(optional.as_primitive::<arrow::datatypes::Int64Type>().iter().collect::<Vec<_>>(), [None, Some(3), None]);
    assert_eq!(store.gather(&[]).unwrap().num_rows(), 0);
    assert_eq!(column(&store, 1, &[None]).null_count(), 1);
}

#[test]
fn rows_without_columns_are_counted() {
    let mut store = RowStore::new(Arc::new(Schema::empty()), &Backend::Memory).unwrap();
    let rows = batch(store.schema(), Vec::new(), 3).unwrap();
    let segment = store.append(rows, &[0, 1, 2]).unwrap();
    assert_eq!(store.size().rows, 3);
    assert_eq!(store.gather(&[RowRef { segment, row: 1 }]).unwrap().num_rows(), 1);
    assert_eq!(live(&store).1, [0, 1, 2]);
}

#[test]
fn a_segment_without_live_rows_gives_its_memory_and_number_back() {
    let mut store = store();
    let segment = store.append(rows(&[1, 2]), &[0, 1]).unwrap();
    store.free(RowRef { segment, row: 0 });
    store.free(RowRef { segment, row: 0 });
    assert_eq!(store.size().rows, 1);
    store.free(RowRef { segment, row: 1 });
    assert_eq!(store.size(), StateSize::default());
    assert_eq!(store.append(rows(&[3]), &[2]).unwrap(), segment);
}

#[test]
fn a_small_slice_does_not_hold_on_to_a_large_batch() {
    let large: Vec<i64> = (0..100_000).collect();
    let large = rows(&large);
    let mut store = store();
    store.append(large.slice(500, 5), &[0; 5]).unwrap();
    assert!(store.size().bytes < 4096, "{:?}", store.size());
    assert_eq!(numbers(&store.gather(&live(&store).0).unwrap()), [500, 501, 502, 503, 504]);

    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..10_000).map(|n| format!("longer than twelve {n}"))));
    let copy = unshared(&views.slice(10, 1)).unwrap();
    assert!(copy.get_array_memory_size() < 2048);
    assert_eq!(copy.as_string_view().value(0), "longer than twelve 10");
}

#[test]
fn tiny_appends_leave_few_segments_and_are_rewritten_a_few_times() {
    let mut store = store();
    let (epochs, mut moves) = (4000, 0u64);
    for epoch in 0..epochs {
        store.append(rows(&[epoch, epoch, epoch, epoch, epoch]), &[0; 5]).unwrap();
        store
            .compact(&mut |_, _, _| {
                moves += 1;
                Ok(())
            })
            .unwrap();
    }
    let segments = store.segments.iter().flatten().count();
    assert!(segments <= FAN_IN * CLASSES, "{segments} segments");
    assert!(moves <= 5 * epochs as u64 * CLASSES as u64, "{moves} moves");
    assert_eq!(store.size().rows, 5 * epochs as u64);
}

#[test]
fn updating_the_same_rows_for_long_keeps_memory_bounded() {
    let mut store = store();
    let mut at: Vec<Option<RowRef>> = vec![None; 1000];
    let mut most = 0;
    for round in 0..2000u32 {
        let owners: Vec<u32> = (0..10).map(|i| (round * 7 + i * 97) % 1000).collect();
        let segment = store.append(rows(&[i64::from(round); 10]), &owners).unwrap();
        for (row, owner) in owners.iter().enumerate() {
            let old = at[*owner as usize].replace(RowRef { segment, row: row as u32 });
            old.into_iter().for_each(|old| store.free(old));
        }
        let moved = &mut |owner, from, to| {
            assert_eq!(at[owner as usize].replace(to), Some(from));
            Ok(())
        };
        store.compact(moved).unwrap();
        most = most.max(store.segments.iter().flatten().map(|s| s.owners().unwrap().len()).sum());
    }
    assert_eq!(store.size().rows, 1000);
    assert!(most <= 5000, "{most} rows held for 1000");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_store_equals_a_map_whatever_is_appended_freed_and_compacted(
        steps in prop::collection::vec((prop::collection::vec(0u32..40, 0..30), any::<bool>()), 1..40),
        disk in any::<bool>(),
    ) {
        let backend = if disk { on_disk() } else { Backend::Memory };
        let mut store = RowStore::new(schema(), &backend).unwrap();
        let mut model: HashMap<u32, (RowRef, i64)> = HashMap::new();
        let mut next = 0;
        for (owners, compact) in steps {
            let values: Vec<i64> = owners.iter().map(|_| { next += 1; next }).collect();
            let segment = store.append(rows(&values), &owners).unwrap();
            for (row, (owner, value)) in owners.iter().zip(&values).enumerate() {
                let new = RowRef { segment, row: row as u32 };
                if let Some((old, _)) = model.insert(*owner, (new, *value)) {
                    store.free(old);
                }
            }
            if compact {
                store.compact(&mut |owner, from, to| {
                    let entry = model.get_mut(&owner).unwrap();
                    assert_eq!(entry.0, from);
                    entry.0 = to;
                    Ok(())
                }).unwrap();
            }
            let (refs, expected): (Vec<_>, Vec<_>) = model.values().copied().unzip();
            prop_assert_eq!(numbers(&store.gather(&refs).unwrap()), expected);
            let (all, owners) = live(&store);
            let live = store.gather(&all).unwrap();
            let live: HashMap<_, _> = owners.into_iter().zip(numbers(&live)).collect();
            prop_assert_eq!(live, model.iter().map(|(o, (_, v))| (*o, *v)).collect::<HashMap<_, _>>());
            prop_assert_eq!(store.size().rows as usize, model.len());
        }
    }
}
