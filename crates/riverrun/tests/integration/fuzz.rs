//! Queries that were made to do harm: whatever is asked, the program answers in time, reads no file, tells no secret, writes
//! nothing.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use riverrun::engine::Result;
use riverrun::{Program, Tables, Variables};
use riverrun_serve::protocol::RowsWanted;
use riverrun_serve::server::QUERY_STACK;

/// What must never be told: it stands in a file beside the input, and as a secret in the script.
const CANARY: &str = "canary-7f3a91c2d5";

/// Whole queries to begin with; `{DIR}` is where the files lie.
const SEEDS: [&str; 24] = [
    "SELECT * FROM events",
    "SELECT user, count(*) AS n, sum(amount) FROM events GROUP BY user ORDER BY n DESC LIMIT 3",
    "SELECT tumble(t, INTERVAL '1 minute')['start'] AS w, avg(amount) FROM events GROUP BY 1",
    "SELECT a.user, b.amount FROM events a JOIN events b ON a.user = b.user WHERE a.amount > 1",
    "SELECT *, LAG(amount) OVER (PARTITION BY user ORDER BY t) FROM events",
    "WITH x AS (SELECT user FROM events UNION ALL SELECT user FROM events) SELECT count(DISTINCT user) FROM x",
    "SHOW TABLES",
    "SHOW ALL",
    "DESCRIBE events",
    "EXPLAIN ANALYZE VERBOSE SELECT * FROM events",
    "EXPLAIN FORMAT TREE SELECT * FROM events",
    "SELECT * FROM information_schema.df_settings",
    "SELECT * FROM information_schema.columns",
    "SELECT * FROM '{DIR}/secret.csv'",
    "SELECT * FROM '{DIR}/events.jsonl'",
    "CREATE EXTERNAL TABLE x (a VARCHAR) STORED AS CSV LOCATION '{DIR}/secret.csv'",
    "COPY (SELECT * FROM events) TO '{DIR}/out.csv'",
    "INSERT INTO events VALUES ('u', 1.0, now())",
    "CREATE TABLE x AS SELECT * FROM events",
    "SET datafusion.execution.target_partitions = 64",
    "SELECT * FROM generate_series(1, 1000000000000)",
    "SELECT repeat('x', 2000000000), array_repeat(1, 2000000000), range(0, 9000000000)",
    "SELECT arrow_cast(1, 'Decimal256(76, 0)'), 1 / 0, power(10, 400), CAST('x' AS BIGINT)",
    "SELECT count(*) FROM events a, events b, events c, events d, events e, events f, events g, events h",
];

/// What is put into them.
const WORDS: [&str; 56] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "OFFSET",
    "HAVING",
    "UNION ALL",
    "EXCEPT",
    "JOIN events ON true",
    "CROSS JOIN events",
    "LATERAL",
    "UNNEST",
    "VALUES (1)",
    "(",
    ")",
    "((",
    "))",
    ",",
    ";",
    "'",
    "\"",
    "`",
    "--",
    "/*",
    "*/",
    "$1",
    "?",
    "@x",
    "::",
    "[",
    "]",
    "{",
    "}",
    "NULL",
    "-1",
    "1e400",
    "9223372036854775807",
    "0x",
    "''",
    "\u{0}",
    "é",
    "\u{1f600}",
    "*",
    "+1",
    "||'x'",
    "COPY",
    "CREATE",
    "DROP TABLE events",
    "LOCATION '{DIR}/secret.csv'",
    "'{DIR}/secret.csv'",
    "file://{DIR}/secret.csv",
    "read_csv('{DIR}/secret.csv')",
    "pg_read_file('{DIR}/secret.csv')",
    "information_schema.df_settings",
];

struct World {
    _dir: tempfile::TempDir,
    path: String,
    files: Vec<String>,
    tables: Tables,
    runtime: tokio::runtime::Runtime,
}

fn files(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(name).collect();
    files.sort();
    files
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    std::fs::write(dir.path().join("secret.csv"), format!("a\n{CANARY}\n")).unwrap();
    let line = |n: i64| format!("{{\"user\": \"u{}\", \"amount\": {n}, \"t\": \"2026-01-01T00:0{}:00Z\"}}\n", n % 3, n % 10);
    std::fs::write(dir.path().join("events.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    let script = format!(
        "SET serve.token = '{CANARY}';
         SET checkpoint.location = 's3://bucket/place'; SET checkpoint.s3.secret_access_key = '{CANARY}';
         CREATE TABLE events (user VARCHAR, amount DOUBLE, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t - INTERVAL '1 minute')
             WITH (connector = 'filesystem', path = '{path}/events.jsonl');
         CREATE TABLE nowhere WITH (connector = 'blackhole');
         INSERT INTO nowhere SELECT * FROM events;"
    );
    let variables = Variables::parse(&[format!("DATA_DIR={path}/data")]).unwrap();
    let program = Program::parse("fuzz.sql", &script, &variables).unwrap();
    let tables = Tables::open_bounded(&program, 32 << 20).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(QUERY_STACK)
        .enable_all()
        .build()
        .unwrap();
    World { files: files(dir.path()), _dir: dir, path, tables, runtime }
});

/// Asks, as the endpoint does: on a thread of queries, within a time.
fn ask(question: impl Future<Output = Result<riverrun_serve::protocol::Answer>> + Send + 'static) -> String {
    let world = &*WORLD;
    let asked = async move {
        let task = tokio::spawn(async move {
            let answer = question.await?;
            Ok::<_, riverrun::engine::Error>(String::from_utf8_lossy(&answer.json(0.0)?).into_owned())
        });
        let stop = task.abort_handle();
        match tokio::time::timeout(Duration::from_secs(2), task).await {
            Ok(Ok(answer)) => answer.unwrap_or_else(|e| e.to_string()),
            // A panic costs its query alone, and is told as such.
            Ok(Err(panicked)) => format!("{panicked}"),
            Err(_) => {
                stop.abort();
                "it took too long".to_owned()
            }
        }
    };
    world.runtime.block_on(async move { tokio::spawn(asked).await.unwrap() })
}

fn sql(query: &str) -> String {
    let query = query.replace("{DIR}", &WORLD.path);
    ask(async move { WORLD.tables.ask(&query, 1000).await })
}

fn unharmed(said: &str) {
    assert!(!said.contains(CANARY), "it told a secret: {said}");
    assert_eq!(files(Path::new(&WORLD.path)), WORLD.files, "it wrote something");
}

#[test]
fn what_reaches_beyond_the_tables_is_refused() {
    for query in &SEEDS[13..20] {
        let said = sql(query);
        unharmed(&said);
        assert!(!said.starts_with('{'), "{query} was answered: {said}");
    }
    for query in &SEEDS[..13] {
        let said = sql(query);
        unharmed(&said);
        assert!(said.starts_with('{'), "{query} was refused: {said}");
    }
    for query in &SEEDS[20..] {
        unharmed(&sql(query));
    }
}

#[test]
fn deep_and_long_queries_are_answered_or_refused() {
    for depth in [40, 400, 2_000, 100_000] {
        for query in [
            format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)),
            format!("SELECT 1{}", "+1".repeat(depth)),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(depth / 4)),
            format!("SELECT {}true", "NOT ".repeat(depth)),
            format!("SELECT 1 WHERE {}true", "true AND ".repeat(depth)),
            format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(depth / 4), " END".repeat(depth / 4)),
            format!("SELECT x FROM {}(SELECT 1 AS x){}", "(SELECT x FROM ".repeat(depth / 8), ")".repeat(depth / 8)),
            format!("SELECT 'a'{}", "||'a'".repeat(depth)),
            format!("SELECT {}", vec!["1"; depth].join(",")),
        ] {
            unharmed(&sql(&query));
        }
    }
}

fn query() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), prop::sample::select(&WORDS[..]), 0u8..3);
    (prop::sample::select(&SEEDS[..]), prop::collection::vec(edit, 0..8)).prop_map(|(seed, edits)| {
        let mut words: Vec<&str> = seed.split(' ').collect();
        for (at, word, what) in edits {
            let at = at.index(words.len() + 1);
            match what {
                0 => words.insert(at, word),
                1 if at < words.len() && words.len() > 1 => drop(words.remove(at)),
                _ if at < words.len() => words[at] = word,
                _ => words.push(word),
            }
        }
        words.join(" ")
    })
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("u1".to_owned()),
        Just("t".to_owned()),
        Just("amount".to_owned()),
        Just("2026-01-01T00:01:00Z".to_owned()),
        any::<String>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_queries_do_no_harm(query in query()) {
        unharmed(&sql(&query));
    }

    #[test]
    fn any_text_does_no_harm(query in any::<String>()) {
        unharmed(&sql(&query));
    }

    #[test]
    fn any_wish_for_rows_is_met_or_refused(
        key in prop::collection::vec(value(), 0..3),
        by in prop::option::of(value()),
        from in prop::option::of(value()),
        to in prop::option::of(value()),
        latest in prop::option::of(any::<bool>()),
        limit in 0usize..10_000,
        columns in prop::collection::vec(value(), 0..3),
    ) {
        let wanted = RowsWanted { key, by, from, to, latest, limit, columns };
        unharmed(&ask(async move { WORLD.tables.rows("events", &wanted).await }));
    }
}
