//! A cluster that is not there when a run begins.

use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use riverrun_engine::graph::SinkNode;
use riverrun_engine::sink::Flushed;
use riverrun_engine::table::Emit;

use super::super::late;
use super::*;

/// A sink on a port where nobody listens.
fn nowhere() -> SinkNode {
    let names = ["user_id", "category", "at"];
    let schema = Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Utf8, true)).to_vec()));
    let table = table(&[("contact_points", "127.0.0.1:1")]);
    SinkNode { table, schema, emit: Emit::Update, trigger: Duration::ZERO, key: vec![0, 1, 2] }
}

#[test]
fn a_run_over_what_is_there_does_not_wait() {
    let error = late::open(&nowhere(), true).err().unwrap();
    assert!(error.is_transient() && error.message().contains("127.0.0.1:1 cannot be reached"), "{error}");
}

#[test]
fn a_run_that_goes_on_tries_again_and_tells_each_failure_once() {
    let mut sink = late::open(&nowhere(), false).unwrap();
    for _ in 0..2 {
        assert!(!sink.is_ready(), "nothing is taken before there is a connection");
        let mut looks = 0;
        let error = loop {
            match sink.flush(0, true) {
                Ok(flushed) => assert_eq!(flushed, Flushed::Trying),
                Err(error) => break error,
            }
            looks += 1;
            assert!(looks < 3000, "no try has ended");
        };
        assert!(error.is_transient() && error.message().contains("cannot be reached"), "{error}");
        assert_eq!(sink.flush(0, true).unwrap(), Flushed::Trying, "it is tried again");
    }
}
