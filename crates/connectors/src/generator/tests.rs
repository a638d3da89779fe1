use std::collections::BTreeMap;

use riverrun_engine::time::Micros;

use super::*;

fn records(settings: Settings, count: usize) -> Vec<Record> {
    let mut generator = Generator::new(settings).unwrap();
    let mut all = vec![Record::default(); count];
    all.iter_mut().for_each(|record| generator.next(record));
    all
}

fn bytes(settings: Settings, count: usize) -> Vec<u8> {
    records(settings, count).into_iter().flat_map(|r| [r.key, b"\t".to_vec(), r.payload, b"\n".to_vec()].concat()).collect()
}

/// A transaction as a reader of the JSON sees it.
#[derive(serde::Deserialize)]
struct Row {
    transaction_id: String,
    user_id: String,
    amount: f64,
    merchant: String,
    category: String,
    timestamp: String,
    location: Location,
    device_type: String,
}

#[derive(serde::Deserialize)]
struct Location {
    lat: f64,
    lon: f64,
}

impl Row {
    fn of(record: &Record) -> Self {
        serde_json::from_slice(&record.payload).unwrap()
    }

    fn time(&self) -> Micros {
        chrono::DateTime::parse_from_rfc3339(&self.timestamp).unwrap().timestamp_micros()
    }
}

/// Great circle on a sphere of 6371 km.
fn haversine_km(a: &Location, b: &Location) -> f64 {
    let (lat1, lat2) = (a.lat.to_radians(), b.lat.to_radians());
    let (dlat, dlon) = (lat2 - lat1, (b.lon - a.lon).to_radians());
    let h = (dlat / 2.0).sin().powi(2) + lat1.cos() * lat2.cos() * (dlon / 2.0).sin().powi(2);
    2.0 * 6371.0 * h.sqrt().min(1.0).asin()
}

/// The rules of the fraud query, as its specification words them.
fn rules(row: &Row, previous: Option<&Row>) -> Kinds {
    let mut kinds = Kinds::NONE;
    if row.amount > 10_000.0 {
        kinds = kinds.and(Kinds::LARGE_AMOUNT);
    }
    let Some(previous) = previous else { return kinds };
    let seconds = (row.time() - previous.time()) as f64 / 1e6;
    let km = haversine_km(&previous.location, &row.location);
    let kmh = if seconds == 0.0 { 0.0 } else { km / seconds * 3600.0 };
    if kmh > 800.0 {
        kinds = kinds.and(Kinds::IMPOSSIBLE_TRAVEL);
    }
    if seconds < 60.0 && km > 50.0 {
        kinds = kinds.and(Kinds::RAPID_CHANGE);
    }
    kinds
}

/// What the rules say of each record: over everything in event-time order, and as the records arrive, where the
/// predecessor is the greatest below among those that arrived before.
fn judge(records: &[Record]) -> (Vec<Kinds>, Vec<Kinds>) {
    let rows: Vec<Row> = records.iter().map(Row::of).collect();
    let mut users: BTreeMap<&str, BTreeMap<Micros, usize>> = BTreeMap::new();
    let mut at_arrival = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let seen = users.entry(&row.user_id).or_default();
        let previous = seen.range(..row.time()).next_back().map(|(_, i)| &rows[*i]);
        at_arrival.push(rules(row, previous));
        assert_eq!(seen.insert(row.time(), i), None, "two transactions at the same time");
    }
    let by_time = |(i, row): (usize, &Row)| {
        let previous = users[row.user_id.as_str()].range(..row.time()).next_back().map(|(_, i)| &rows[*i]);
        assert_eq!(records[i].transaction.time, row.time());
        rules(row, previous)
    };
    (rows.iter().enumerate().map(by_time).collect(), at_arrival)
}

fn assert_labels_are_the_truth(settings: Settings, count: usize) {
    let name = format!("{settings:?}");
    let records = records(settings, count);
    let (by_time, at_arrival) = judge(&records);
    for (i, record) in records.iter().enumerate() {
        let label = record.transaction.kinds.without(Kinds::BURST);
        assert_eq!(by_time[i], label, "{name}: in event-time order: {}", String::from_utf8_lossy(&record.payload));
        assert_eq!(at_arrival[i], label, "{name}: in order of arrival: {}", String::from_utf8_lossy(&record.payload));
    }
}

fn share(records: &[Record], of: impl Fn(&Record) -> bool) -> f64 {
    records.iter().filter(|r| of(r)).count() as f64 / records.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let settings = Settings { malformed: 0.05, ..Settings::default() };
    assert_eq!(bytes(settings.clone(), 5_000), bytes(settings.clone(), 5_000));
    assert_ne!(bytes(settings.clone(), 100), bytes(Settings { seed: 2, ..settings }, 100));
}

#[test]
fn labels_are_what_the_rules_say_in_event_time_order_and_in_order_of_arrival() {
    for seed in 1..=4 {
        let disorder = Settings { seed, out_of_order: 0.2, fraud: FraudRates::evenly(0.08), ..Settings::default() };
        assert_labels_are_the_truth(disorder, 25_000);
    }
    assert_labels_are_the_truth(Settings { users: 300, events_per_second: 15.0, ..Settings::default() }, 25_000);
}

#[test]
fn labels_are_the_truth_when_every_user_buys_several_times_a_second() {
    let busy = Settings { users: 50, events_per_second: 500.0, fraud: FraudRates::evenly(0.1), ..Settings::default() };
    assert_labels_are_the_truth(busy, 25_000);
    let dense = Settings { users: 5_000, events_per_second: 1e6, out_of_order: 0.1, ..Settings::default() };
    assert_labels_are_the_truth(dense, 25_000);
}

#[test]
fn labels_stay_the_truth_when_a_live_stream_stands_still() {
    let settings = Settings { users: 200, events_per_second: 10.0, fraud: FraudRates::evenly(0.2), ..Settings::default() };
    let mut generator = Generator::new(settings.clone()).unwrap();
    let mut records = vec![Record::default(); 5_000];
    for (i, record) in records.iter_mut().enumerate() {
        generator.advance_to(settings.start + (i as i64 / 500) * 3_600_000_000);
        generator.next(record);
    }
    let (by_time, _) = judge(&records);
    assert!(records.iter().zip(&by_time).all(|(r, kinds)| r.transaction.kinds.without(Kinds::BURST) == *kinds));
    assert!(by_time.iter().any(|kinds| !kinds.is_none()));
}

/// Sliding windows of a minute every 30 seconds with more than five transactions of a user.
#[test]
fn a_burst_and_nothing_else_fills_a_minute_with_more_than_five() {
    let settings = Settings { fraud: FraudRates::evenly(0.04), ..Settings::default() };
    let records = records(settings, 60_000);
    let mut windows: BTreeMap<(u32, i64), Vec<&Transaction>> = BTreeMap::new();
    for t in records.iter().map(|r| &r.transaction) {
        let last = t.time.div_euclid(30_000_000);
        for start in [last - 1, last] {
            windows.entry((t.user, start)).or_default().push(t);
        }
    }
    let full: Vec<_> = windows.values().filter(|w| w.len() > 5).collect();
    assert!(full.len() > 20);
    assert!(full.iter().all(|w| w.iter().any(|t| t.kinds.has(Kinds::BURST))));
    let caught = full.iter().flat_map(|w| w.iter()).filter(|t| t.kinds.has(Kinds::BURST)).map(|t| t.time);
    let caught: std::collections::BTreeSet<_> = caught.collect();
    let last = records.iter().map(|r| r.transaction.time).max().unwrap();
    let whole = |t: &&Transaction| t.kinds.has(Kinds::BURST) && t.time < last - 60_000_000;
    assert!(records.iter().map(|r| &r.transaction).filter(whole).all(|t| caught.contains(&t.time)));
}

#[test]
fn shares_are_as_asked() {
    let fraud = FraudRates { impossible_travel: 0.01, large_amount: 0.02, rapid_change: 0.005, burst: 0.03 };
    let settings =
        Settings { users: 5_000, events_per_second: 100.0, malformed: 0.05, out_of_order: 0.04, fraud, ..Settings::default() };
    let records = records(settings, 200_000);
    let near = |is: f64, asked: f64| assert!((is / asked - 1.0).abs() < 0.15, "{is} instead of {asked}");
    near(share(&records, |r| r.malformed.is_some()), 0.05);
    let good: Vec<_> = records.into_iter().filter(|r| r.malformed.is_none()).collect();
    near(share(&good, |r| r.transaction.kinds == Kinds::LARGE_AMOUNT), 0.02);
    near(share(&good, |r| r.transaction.kinds == Kinds::IMPOSSIBLE_TRAVEL), 0.01);
    near(share(&good, |r| r.transaction.kinds.has(Kinds::RAPID_CHANGE)), 0.005);
    near(share(&good, |r| r.transaction.kinds.has(Kinds::BURST)), 0.03);
    let mut newest = Micros::MIN;
    let late = good.iter().filter(|r| {
        let late = r.transaction.time < newest;
        newest = newest.max(r.transaction.time);
        late
    });
    near(late.count() as f64 / good.len() as f64, 0.04);
    let span = (newest - DEFAULT_START) as f64 / 1e6;
    near(good.len() as f64 / span, 100.0);
}

#[test]
fn transactions_have_the_fields_and_ranges_of_the_specification() {
    for settings in [Settings::default(), Settings::default().uniform()] {
        let records = records(settings, 20_000);
        let mut ids = std::collections::BTreeSet::new();
        for record in &records {
            let row = Row::of(record);
            assert_eq!(row.user_id.as_bytes(), record.key);
            let seconds = row.time().div_euclid(1_000_000);
            assert_eq!(row.transaction_id, format!("txn_{seconds}.{:06}", row.time().rem_euclid(1_000_000)));
            assert!(row.amount >= 10.0 && (row.amount <= 5000.0 || record.transaction.kinds == Kinds::LARGE_AMOUNT));
            assert!((25.0..=48.0).contains(&row.location.lat) && (-125.0..=-70.0).contains(&row.location.lon));
            assert!(["Amazon", "Walmart", "Target", "Costco"].contains(&row.merchant.as_str()));
            assert!(["Electronics", "Groceries", "Clothing"].contains(&row.category.as_str()));
            assert!(["mobile", "web", "pos"].contains(&row.device_type.as_str()));
            assert!(record.timestamp >= row.time(), "sent before it happened");
            assert!(ids.insert(row.transaction_id));
        }
    }
}

#[test]
fn uniform_fields_fill_their_ranges_evenly() {
    let records = records(Settings::default().uniform(), 40_000);
    let rows: Vec<_> = records.iter().map(Row::of).collect();
    let mean = |value: &dyn Fn(&Row) -> f64| rows.iter().map(value).sum::<f64>() / rows.len() as f64;
    assert!((mean(&|r| r.amount) - 2505.0).abs() < 30.0);
    assert!((mean(&|r| r.location.lat) - 36.5).abs() < 0.3);
    assert!((mean(&|r| r.location.lon) + 97.5).abs() < 0.6);
    assert!((mean(&|r| f64::from(u8::from(r.merchant == "Costco"))) - 0.25).abs() < 0.02);
    assert!(records.iter().all(|r| r.transaction.kinds.is_none()));
    let least = rows.iter().map(|r| r.amount).fold(f64::MAX, f64::min);
    let most = rows.iter().map(|r| r.amount).fold(0.0, f64::max);
    assert!(least < 11.0 && most > 4999.0, "{least} to {most}");
}

#[test]
fn malformed_records_are_no_transactions_and_all_ways_occur() {
    let records = records(Settings { malformed: 1.0, ..Settings::default() }, 2_000);
    let mut ways = std::collections::BTreeSet::new();
    for record in &records {
        ways.insert(record.malformed.unwrap());
        assert!(serde_json::from_slice::<Row>(&record.payload).is_err(), "{}", String::from_utf8_lossy(&record.payload));
    }
    assert_eq!(ways.len(), 5);
}

#[test]
fn partitions_have_their_own_users_and_no_event_time_in_common() {
    let settings = Settings { users: 100, ..Settings::default() };
    let mut times = std::collections::BTreeSet::new();
    for partition in 0..4 {
        let mut generator = Generator::of_partition(settings.clone(), partition, 4).unwrap().unwrap();
        let mut record = Record::default();
        for _ in 0..2_000 {
            generator.next(&mut record);
            assert_eq!(crate::partitioner::partition_of(&record.key, 4), partition);
            assert!(times.insert(record.transaction.time));
        }
    }
    assert_eq!(model::users_by_partition(&settings, 4).iter().sum::<u32>(), 100);
}

#[test]
fn labels_are_json_lines_of_what_is_wrong() {
    let settings = Settings { users: 1_000, events_per_second: 20.0, malformed: 0.1, ..Settings::default() };
    let records = records(Settings { fraud: FraudRates::evenly(0.2), ..settings }, 20_000);
    let mut text = Vec::new();
    let mut labels = Labels::new(&mut text);
    records.iter().for_each(|r| labels.write(r).unwrap());
    let written = labels.finish().unwrap();
    let expected = records.iter().filter(|r| r.malformed.is_none() && !r.transaction.kinds.is_none());
    let lines: Vec<serde_json::Value> =
        text.split_inclusive(|b| *b == b'\n').map(|l| serde_json::from_slice(l).unwrap()).collect();
    assert_eq!((written as usize, lines.len()), (expected.clone().count(), expected.clone().count()));
    assert!(written > 1_000);
    for (line, record) in lines.iter().zip(expected) {
        let row = Row::of(record);
        assert_eq!(
            (line["transaction_id"].as_str(), line["user_id"].as_str()),
            (Some(&*row.transaction_id), Some(&*row.user_id))
        );
        let kinds = Kinds::NAMES.iter().filter(|(k, _)| record.transaction.kinds.has(*k)).map(|(_, name)| *name);
        assert_eq!(line["kinds"], serde_json::json!(kinds.collect::<Vec<_>>()));
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = [
        Settings { users: 0, ..Settings::default() },
        Settings { out_of_order: 1.5, ..Settings::default() },
        Settings { malformed: f64::NAN, ..Settings::default() },
        Settings { events_per_second: 2e6, ..Settings::default() },
        Settings { uniform: true, ..Settings::default() },
    ];
    for settings in refused {
        assert!(Generator::new(settings.clone()).is_err(), "{settings:?}");
    }
}

/// A user who is the only one, always in some plan: time passes, the stream goes on.
#[test]
fn one_busy_user_does_not_stop_the_stream() {
    let settings = Settings { users: 1, events_per_second: 100.0, fraud: FraudRates::evenly(1.0), ..Settings::default() };
    assert_labels_are_the_truth(settings, 5_000);
}
