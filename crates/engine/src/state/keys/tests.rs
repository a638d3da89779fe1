use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};

use proptest::prelude::*;

use super::*;
use crate::operator::StatePart;
use crate::state::parts::Restored;
use crate::state::parts::lives::{Ledger, on_disk, written_and_read};

fn keys() -> Keys {
    keys_in(&Backend::Memory)
}

fn keys_in(backend: &Backend) -> Keys {
    let fields = [Field::new("s", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
    Keys::new(fields.map(Arc::new).into(), backend).unwrap()
}

fn insert(keys: &mut Keys, rows: &[(Option<&str>, Option<i64>)]) -> Vec<u32> {
    let text = StringArray::from_iter(rows.iter().map(|r| r.0));
    let numbers = Int64Array::from_iter(rows.iter().map(|r| r.1));
    let mut slots = Vec::new();
    keys.insert(&[Arc::new(text), Arc::new(numbers)], rows.len(), &mut slots).unwrap();
    slots
}

#[test]
fn slots_are_given_in_first_seen_order_and_null_is_a_key() {
    let mut keys = keys();
    let slots = insert(&mut keys, &[(Some("a"), Some(1)), (None, Some(1)), (Some("a"), Some(1)), (Some("a"), None)]);
    assert_eq!(slots, [0, 1, 0, 2]);
    assert_eq!(insert(&mut keys, &[(Some("a"), None), (Some("b"), Some(2)), (None, Some(1))]), [2, 3, 1]);
    let columns = keys.columns([3, 1]).unwrap();
    assert_eq!(columns[0].as_string::<i32>().iter().collect::<Vec<_>>(), [Some("b"), None]);
    assert_eq!(columns[1].as_primitive::<Int64Type>().values(), &[2, 1]);
    assert_eq!(keys.columns([]).unwrap()[0].len(), 0);
}

#[test]
fn dropped_keys_give_their_slots_and_their_bytes_back() {
    let mut keys = keys();
    let names: Vec<String> = (0..1000).map(|i| format!("a name of some length, number {i}")).collect();
    let rows: Vec<_> = names.iter().map(|n| (Some(n.as_str()), Some(7))).collect();
    for _ in 0..50 {
        let slots = insert(&mut keys, &rows);
        assert!(slots.iter().all(|s| *s < 1000), "slots are used again");
        let half: Vec<_> = slots[500..].to_vec();
        slots[..500].iter().for_each(|s| keys.remove(*s).unwrap());
        assert_eq!(insert(&mut keys, &rows[500..]), half, "the other keys stay where they are");
        half.into_iter().for_each(|s| keys.remove(s).unwrap());
    }
    assert!(keys.is_empty());
    assert!(keys.bytes() < 500_000, "{}", keys.bytes());
}

#[test]
fn without_columns_there_is_one_key() {
    let mut keys = Keys::new(Vec::new(), &Backend::Memory).unwrap();
    let mut slots = Vec::new();
    keys.insert(&[], 3, &mut slots).unwrap();
    assert_eq!(slots, [0, 0, 0]);
    assert!(keys.columns([0]).unwrap().is_empty());
}

fn save(keys: &mut Keys, next: &mut u64) -> Vec<StatePart> {
    let mut snapshot = Snapshot::new(next);
    keys.save(&mut snapshot).unwrap();
    snapshot.finish(0).unwrap()
}

fn restored(parts: Vec<StatePart>, backend: &Backend) -> Keys {
    let mut keys = keys_in(backend);
    keys.restore(Restored::new(written_and_read(parts)).unwrap().unwrap().section().unwrap()).unwrap();
    keys
}

#[derive(Debug, Clone)]
enum Step {
    Insert(Vec<u16>),
    Remove(Vec<u16>),
    Save,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(0u16..300, 0..120);
    prop_oneof![
        some().prop_map(Step::Insert),
        (some(), 0u16..300).prop_map(|(mut all, from)| {
            all.extend(from..300);
            Step::Remove(all)
        }),
        some().prop_map(Step::Remove),
        Just(Step::Save),
        Just(Step::Restart),
    ]
}

proptest! {
    /// A new key takes the least slot that is free: so what is restored goes on as what was not.
    #[test]
    fn keys_equal_a_map_that_gives_the_least_free_slot(steps in prop::collection::vec(step(), 1..40), disk in any::<bool>()) {
        let backend = || if disk { on_disk() } else { Backend::Memory };
        let (mut keys, mut model) = (keys_in(&backend()), std::collections::BTreeMap::<u16, u32>::new());
        let (mut next, mut ledger) = (0, Ledger::default());
        for step in steps {
            match step {
                Step::Insert(all) => {
                    let texts: Vec<_> = all.iter().map(|key| "x".repeat(*key as usize % 40)).collect();
                    let rows: Vec<_> = all.iter().zip(&texts).map(|(key, text)| (Some(text.as_str()), Some(i64::from(*key)))).collect();
                    let slots = insert(&mut keys, &rows);
                    for (key, slot) in all.iter().zip(slots) {
                        let free = (0..).find(|slot| !model.values().any(|used| used == slot)).unwrap();
                        prop_assert_eq!(*model.entry(*key).or_insert(free), slot);
                    }
                }
                Step::Remove(all) => {
                    for key in all {
                        if let Some(slot) = model.remove(&key) {
                            keys.remove(slot).unwrap();
                        }
                    }
                }
                Step::Save => drop(ledger.note(&save(&mut keys, &mut next))),
                Step::Restart => {
                    let parts = save(&mut keys, &mut next);
                    ledger.note(&parts);
                    keys = restored(parts, &backend());
                }
            }
            prop_assert_eq!(keys.len(), model.len());
            let columns = keys.columns(model.values().copied()).unwrap();
            let numbers = columns[1].as_primitive_opt::<Int64Type>().unwrap();
            prop_assert!(numbers.values().iter().copied().eq(model.keys().map(|key| i64::from(*key))));
        }
    }
}

#[test]
fn segments_of_many_snapshots_stay_few_and_keys_are_written_a_few_times() {
    let (mut keys, mut next, mut ledger, mut bytes) = (keys(), 0, Ledger::default(), 0);
    for round in 0..2000 {
        let rows: Vec<_> = (0..20).map(|i| (None, Some(round * 20 + i))).collect();
        insert(&mut keys, &rows);
        let parts = save(&mut keys, &mut next);
        assert!(parts.len() <= 1 + FAN_IN * CLASSES, "{} parts", parts.len());
        // The header and a kilobyte or so of schema for each new part are not what is counted here.
        bytes += ledger.note(&parts[1..]).saturating_sub(800);
    }
    assert!(bytes < 40_000 * 20 * (CLASSES + 2), "{bytes} bytes for 40000 keys");
}

/// A key as bytes, as checkpoints hold it. Where arrow changes its row format: another `FORMAT` in `segment.rs`, so that
/// older states are refused rather than misread.
#[test]
fn the_row_format_is_the_one_that_checkpoints_are_written_in() {
    let mut keys = keys();
    insert(&mut keys, &[(Some("ab"), Some(-7)), (None, Some(1)), (Some(""), None)]);
    let hex = |slot| {
        keys.segments
            .bytes_of(&keys.keys.get(slot).unwrap())
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(
        [hex(0), hex(1), hex(2)],
        ["02616200000000000002017ffffffffffffff9", "00018000000000000001", "01000000000000000000"]
    );
}

#[test]
fn keys_of_other_columns_are_refused() {
    let mut numbers = Keys::new(vec![Arc::new(Field::new("n", DataType::Int64, true))], &Backend::Memory).unwrap();
    numbers.insert(&[Arc::new(Int64Array::from(vec![1]))], 1, &mut Vec::new()).unwrap();
    let mut parts = Restored::new(written_and_read(save(&mut numbers, &mut 0))).unwrap().unwrap();
    assert!(keys().restore(parts.section().unwrap()).is_err());
}
