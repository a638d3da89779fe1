use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::batch::Change;
use crate::checkpoint::Packed;

const TERM: u64 = 1;

fn handed(epoch: u64, rows: usize) -> Handed {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    let column = Int64Array::from(vec![epoch as i64; rows]);
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(column)]).unwrap();
    let batches = if rows.num_rows() > 0 { vec![Batch { rows, change: Change::Upsert }] } else { Vec::new() };
    Handed { output: EpochOutput { task: 0, epoch, clock: 0, batches }, record_time: Some(epoch as i64), term: TERM }
}

/// A backlog that was handed so many rows an epoch, from epoch 1.
fn backlog(keep: usize, rows: &[usize]) -> Backlog {
    let mut backlog = Backlog::new(keep);
    rows.iter().zip(1..).for_each(|(rows, epoch)| {
        hand(&mut backlog, epoch, *rows);
    });
    backlog
}

fn hand(backlog: &mut Backlog, epoch: u64, rows: usize) -> (bool, usize) {
    let handed = handed(epoch, rows);
    let bytes = handed.output.bytes();
    backlog.push(handed, bytes)
}

/// The sink takes outputs one by one; gives their epochs.
fn take_all(backlog: &mut Backlog) -> Vec<u64> {
    let mut epochs = Vec::new();
    while let Some(Due { output, term }) = backlog.due(0, false).unwrap() {
        backlog.took(0, term, output.epoch);
        epochs.push(output.epoch);
    }
    epochs
}

/// The parts that a checkpoint would hold: epochs and rows.
fn parts(backlog: &mut Backlog, epoch: u64, acknowledged: u64) -> Option<Vec<(u64, u64, usize)>> {
    let rows = |part: &PendingPart| Packed::pack(&part.outputs).unwrap().rows();
    let parts = backlog.pending(0, TERM, epoch, acknowledged)?;
    Some(parts.iter().map(|part| (part.first, part.last, rows(part))).collect())
}

#[test]
fn what_is_handed_is_there_until_it_is_safe() {
    let mut backlog = backlog(1 << 20, &[2, 1, 3]);
    assert_eq!(parts(&mut backlog, 2, 0), Some(vec![(1, 2, 3)]));
    assert_eq!(take_all(&mut backlog), [1, 2, 3]);
    assert!(!backlog.is_waiting());
    assert_eq!(parts(&mut backlog, 3, 0), Some(vec![(1, 3, 6)]), "taken is not safe");
    backlog.acknowledged(0, 2);
    assert_eq!(parts(&mut backlog, 3, 2).unwrap().iter().map(|part| part.2).sum::<usize>(), 3);
    backlog.acknowledged(0, 3);
    assert_eq!(parts(&mut backlog, 3, 3), Some(vec![]));
    assert_eq!(backlog.take_times(0, 2), [(1, 1), (2, 1)]);
    assert_eq!(backlog.take_times(0, 9), [(3, 1)]);
}

#[test]
fn beyond_the_bound_a_checkpoint_waits_for_the_sink() {
    let mut backlog = backlog(100, &[1, 1, 1, 1]);
    take_all(&mut backlog);
    hand(&mut backlog, 5, 1);
    assert_eq!(parts(&mut backlog, 5, 0), None, "the first ones were let go");
    assert_eq!(parts(&mut backlog, 5, 4).map(|parts| parts.len()), Some(1));
}

#[test]
fn epochs_without_rows_are_one_but_for_a_checkpoint_between_them() {
    let mut backlog = backlog(100, &[1, 0, 0]);
    assert_eq!(hand(&mut backlog, 4, 0), (false, 0));
    backlog.seal(0, TERM, 4);
    assert!(hand(&mut backlog, 5, 0).0);
    hand(&mut backlog, 6, 0);
    assert_eq!(take_all(&mut backlog), [1, 4, 6]);
}

/// The numbers in an output, and its clock.
fn content(output: &EpochOutput) -> (Vec<i64>, Micros) {
    let numbers = |batch: &Batch| batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    (output.batches.iter().flat_map(numbers).collect(), output.clock)
}

/// As many columns as a transaction has.
fn widen(batch: &mut Batch) {
    let number = batch.rows.column(0).clone();
    let columns = (0..15).map(|i| (format!("n{i}"), number.clone()));
    batch.rows = RecordBatch::try_from_iter(columns).unwrap();
}

#[test]
fn small_outputs_that_wait_take_little_and_stay_what_they_are() {
    let rows_of = |epoch: u64| if epoch.is_multiple_of(97) { 150 } else { [1, 0, 3][epoch as usize % 3] };
    let (mut backlog, mut waiting, mut handed_bytes) = (Backlog::new(1 << 20), 0, 0);
    for epoch in 1..=2000 {
        let mut handed = handed(epoch, rows_of(epoch));
        handed.output.clock = 7 * epoch as i64;
        handed.output.batches.iter_mut().for_each(widen);
        let bytes = handed.output.bytes();
        let (waits, freed) = backlog.push(handed, bytes);
        assert!(waits || rows_of(epoch) == 0);
        (waiting, handed_bytes) = (waiting + bytes - freed, handed_bytes + bytes);
        if epoch == 1000 {
            backlog.seal(0, TERM, epoch);
        }
    }
    assert!(2 * waiting < handed_bytes, "{waiting} bytes of {handed_bytes}");
    let expected: Vec<i64> = (1..=2000).flat_map(|epoch| vec![epoch as i64; rows_of(epoch)]).collect();
    let of_parts = |parts: Vec<PendingPart>| -> Vec<i64> {
        let outputs =
            |part: &PendingPart| Packed::pack(&part.outputs).unwrap().outputs(0).map(Result::unwrap).collect::<Vec<_>>();
        parts.iter().flat_map(outputs).flat_map(|output| content(&output).0).collect()
    };
    let sealed = expected.iter().take_while(|number| **number <= 1000).count();
    assert_eq!(of_parts(backlog.pending(0, TERM, 1000, 0).unwrap()), expected[..sealed]);
    assert_eq!(of_parts(backlog.pending(0, TERM, 2000, 0).unwrap()), expected);
    let all = backlog.due(0, true).unwrap().unwrap();
    assert_eq!((content(&all.output).0, all.output.epoch, all.output.clock), (expected.clone(), 2000, 14_000));
    let mut taken = Vec::new();
    while let Some(Due { output, term }) = backlog.due(0, false).unwrap() {
        let (numbers, clock) = content(&output);
        assert!(numbers.iter().all(|number| *number == output.epoch as i64) && clock == 7 * output.epoch as i64);
        taken.extend(numbers);
        waiting -= backlog.took(0, term, output.epoch);
    }
    assert_eq!((taken, waiting, backlog.is_waiting()), (expected, 0, false));
}

#[test]
fn what_the_feed_was_given_stays_as_it_is() {
    let mut backlog = backlog(1 << 20, &[1]);
    let given = backlog.due(0, false).unwrap().unwrap();
    for epoch in 2..=200 {
        hand(&mut backlog, epoch, 1);
    }
    assert!(Arc::ptr_eq(&given.output, &backlog.due(0, false).unwrap().unwrap().output));
}

#[test]
fn parts_stay_what_they_are_and_are_few() {
    let mut backlog = Backlog::new(1 << 30);
    let (mut before, mut written) = (Vec::new(), 0);
    for epoch in 1..=300 {
        hand(&mut backlog, epoch, 10);
        let now = parts(&mut backlog, epoch, 0).unwrap();
        written += now.iter().filter(|part| !before.contains(*part)).map(|part| part.2).sum::<usize>();
        assert!(now.len() < 12, "epoch {epoch}: {now:?}");
        assert_eq!((now[0].0, now[now.len() - 1].1), (1, epoch));
        before = now;
    }
    assert!(written < 3_000 * 10, "{written} rows were written, of 3,000");
}

#[test]
fn a_merge_keeps_what_comes_before_a_checkpoint_apart_from_what_comes_behind() {
    let mut backlog = backlog(1 << 30, &[3000, 3000, 3000]);
    backlog.seal(0, TERM, 3);
    hand(&mut backlog, 4, 3000);
    hand(&mut backlog, 5, 3000);
    let mut epochs = Vec::new();
    for mut waiting in backlog.mergeable() {
        epochs.push(waiting.epochs);
        waiting.batches.truncate(1);
        assert!(backlog.merged(waiting) > 0);
    }
    assert_eq!(epochs, [(1, 3), (4, 5)]);
    assert_eq!(parts(&mut backlog, 3, 0), Some(vec![(1, 3, 3000)]));
    assert!(backlog.mergeable().is_empty(), "nothing new");
    let due = backlog.due(0, true).unwrap().unwrap();
    assert_eq!((due.output.epoch, due.output.rows()), (5, 6000));
    assert!(backlog.took(0, due.term, 5) > 0);
    assert!(!backlog.is_waiting());
}

#[test]
fn nothing_of_an_ended_term_is_left_and_what_was_refused_is_not_relied_on() {
    let terms = Terms::new(1);
    assert_eq!(terms.begin(0), TERM);
    let mut backlog = backlog(100, &[1, 1]);
    assert_eq!(backlog.forget_ended(0, &terms), 0);
    assert!(backlog.forget(0) > 0);
    hand(&mut backlog, 3, 1);
    assert!(!backlog.is_waiting(), "the sink takes nothing more in this term");
    assert_eq!(parts(&mut backlog, 3, 3), None);
    let next = Handed { term: terms.begin(0), ..handed(3, 1) };
    let bytes = next.output.bytes();
    assert_eq!(backlog.push(next, bytes), (true, 0));
    assert!(!hand(&mut backlog, 4, 1).0, "late, of the term before");
    assert_eq!(parts(&mut backlog, 4, 0), Some(vec![]), "the term before has nothing here");
    assert_eq!(take_all(&mut backlog), [3]);
}
