//! What is repartitioned, by what, and what is not.

use riverrun_engine::graph::{Graph, NodeKind, Parallelism};

use super::try_plan;

const EVENTS: &str = "CREATE TABLE events (
    k VARCHAR NOT NULL, c VARCHAR, d VARCHAR, n BIGINT NOT NULL, t TIMESTAMP NOT NULL, WATERMARK FOR t AS t
) PARTITIONED BY (k) WITH (connector = 'bus', repartitions = 'true');
CREATE TABLE out WITH (connector = 'bus');
CREATE TABLE newest (PRIMARY KEY (c)) WITH (connector = 'store');
";

fn unset(script: &str) -> Graph {
    try_plan(&format!("{EVENTS}{script}")).unwrap_or_else(|error| panic!("{error}")).graph
}

fn planned(script: &str) -> Graph {
    match try_plan(&format!("SET repartition.partitions = 8; {EVENTS}{script}")) {
        Ok(planned) => planned.graph,
        Err(error) => panic!("{error}"),
    }
}

/// By exchange: the stage that it gives to, and the keys and columns that go over it.
fn exchanges(graph: &Graph) -> Vec<(usize, String)> {
    let stages = graph.stages();
    let scatter = |node: usize| match &graph.nodes[node].kind {
        NodeKind::Operator(operator) => operator.describe().join("; "),
        _ => panic!("no operator"),
    };
    graph.exchanges().iter().map(|exchange| (stages[exchange.gather], scatter(exchange.scatter))).collect()
}

fn of(script: &str) -> Vec<(usize, String)> {
    exchanges(&planned(script))
}

fn one(stage: usize, text: &str) -> Vec<(usize, String)> {
    vec![(stage, text.to_owned())]
}

#[test]
fn rows_go_by_the_key_without_its_window_and_only_the_columns_that_are_read() {
    let by_category = "INSERT INTO out SELECT c, sum(n) FROM events WHERE n > 0 GROUP BY tumble(t, INTERVAL '1 minute'), c;";
    assert_eq!(of(by_category), one(1, "by c; columns c, n, t"));
    let lower = "INSERT INTO out SELECT lower(c), count(*) FROM events GROUP BY lower(c), date_trunc('hour', t), d;";
    assert_eq!(of(lower), one(1, "by lower(c), d; columns c, d, t"));
    let over = "INSERT INTO out SELECT n, lag(n) OVER (PARTITION BY c ORDER BY t) FROM events;";
    assert_eq!(of(over), one(1, "by c; columns c, n, t"));
    let session = "INSERT INTO out SELECT c, count(*) FROM events GROUP BY c, session(t, INTERVAL '1 minute');";
    assert_eq!(of(session), one(1, "by c; columns c, t"));
    let all = "INSERT INTO out SELECT count(*) FROM events GROUP BY tumble(t, INTERVAL '1 minute');";
    assert_eq!(of(all), one(1, "all rows to one partition; columns t"));
    assert_eq!(of("INSERT INTO newest SELECT c, count(*) FROM events GROUP BY c;"), one(1, "by c; columns c"));
}

#[test]
fn what_has_the_sources_key_stays_where_it_is() {
    let both = planned(
        "INSERT INTO out SELECT k, sum(n) FROM events GROUP BY tumble(t, INTERVAL '1 minute'), k;
         INSERT INTO out SELECT c, sum(n) FROM events GROUP BY tumble(t, INTERVAL '1 minute'), c;
         INSERT INTO out SELECT k, n FROM events;",
    );
    let stages = both.stages();
    let aggregates: Vec<_> = (0..both.nodes.len()).filter(|id| both.nodes[*id].name.contains("aggregate")).collect();
    assert_eq!(aggregates.iter().map(|id| stages[*id]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(exchanges(&both).len(), 1);
    let (scatter, gather) = (both.exchanges()[0].scatter, both.exchanges()[0].gather);
    assert!(
        both.nodes[scatter].identity.starts_with("repartition-") && both.nodes[gather].identity == both.nodes[scatter].identity
    );
}

#[test]
fn a_repartition_serves_all_that_its_key_is_in_and_is_shared() {
    let script = "CREATE VIEW minutes AS SELECT tumble(t, INTERVAL '1 minute')['start'] AS w, c, sum(n) AS n FROM events
            GROUP BY tumble(t, INTERVAL '1 minute'), c;
        INSERT INTO out SELECT c, n FROM minutes;
        INSERT INTO out SELECT c, max(n) OVER (PARTITION BY c ORDER BY w ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM minutes;
        INSERT INTO out SELECT d, max(n) FROM events GROUP BY tumble(t, INTERVAL '1 hour'), c, d;";
    assert_eq!(of(script), [(1, "by c; columns c, n, t".to_owned()), (1, "by c, d; columns c, d, n, t".to_owned())]);
    let further = "CREATE VIEW minutes AS SELECT tumble(t, INTERVAL '1 minute')['start'] AS w, c, sum(n) AS n FROM events
            GROUP BY tumble(t, INTERVAL '1 minute'), c;
        INSERT INTO out SELECT w, max(n) FROM minutes GROUP BY w;";
    assert_eq!(of(further), [(1, "by c; columns c, n, t".to_owned()), (2, "all rows to one partition; columns w, n".to_owned())]);
    // All rows are in one task: whatever the key, it has them.
    let global = "CREATE VIEW all_rows AS SELECT t, c, row_number() OVER (ORDER BY t) AS place FROM events;
        INSERT INTO out SELECT c, count(*) FROM all_rows GROUP BY c, tumble(t, INTERVAL '1 minute');";
    assert_eq!(of(global).len(), 1);
}

#[test]
fn a_union_must_not_mix_stages() {
    let script = "CREATE VIEW sums AS SELECT c, sum(n) AS n FROM events GROUP BY tumble(t, INTERVAL '1 minute'), c;
        INSERT INTO out SELECT c, n FROM sums UNION ALL SELECT c, n FROM events;";
    let graph = planned(script);
    assert!(matches!(&graph.parallelism, Parallelism::Single(why) if why.starts_with("UNION ALL of rows before and behind")));
    let of_two = "CREATE VIEW a AS SELECT c, tumble(t, INTERVAL '1 minute')['end'] AS w, sum(n) AS n FROM events GROUP BY tumble(t, INTERVAL '1 minute'), c;
        CREATE VIEW b AS SELECT tumble(t, INTERVAL '1 minute')['end'] AS w, sum(n) AS n FROM events GROUP BY tumble(t, INTERVAL '1 minute');
        CREATE VIEW both AS SELECT c, w, n FROM a UNION ALL SELECT 'all' AS c, w, n FROM b;
        INSERT INTO out SELECT c, max(n) FROM both GROUP BY tumble(w, INTERVAL '1 hour'), c;";
    assert_eq!(
        of(of_two).iter().map(|(stage, _)| *stage).collect::<Vec<_>>(),
        [1, 1, 2],
        "sides that lie differently are repartitioned"
    );
}

#[test]
fn a_setting_says_how_many_partitions_or_none() {
    let query = "INSERT INTO out SELECT c, sum(n) FROM events GROUP BY tumble(t, INTERVAL '1 minute'), c;";
    let explained = planned(query).explain();
    assert!(explained.contains("since GROUP BY tumble(events.t,60s), c does not contain k"), "{explained}");
    assert!(explained.contains("partitions: 8"), "{explained}");
    assert_eq!(unset(query).exchanges(), [], "none by default");
    let none = unset(&format!("SET repartition.partitions = 0; {query}"));
    assert!(matches!(&none.parallelism, Parallelism::Single(why) if why.starts_with("GROUP BY")), "{}", none.explain());
    for wrong in ["-1", "many", "10001"] {
        let Err(error) = try_plan(&format!("{EVENTS}SET repartition.partitions = '{wrong}'; {query}")) else { panic!("{wrong}") };
        assert!(error.message.contains("is not a number from 0 to 10000"), "{error}");
    }
}

#[test]
fn joined_it_is_the_plan_of_one_task() {
    let query = "INSERT INTO out SELECT c, sum(n) FROM events GROUP BY tumble(t, INTERVAL '1 minute'), c;
        INSERT INTO out SELECT k, n FROM events;";
    let staged = planned(query);
    let single = unset(query);
    let joined = staged.joined();
    assert_eq!(joined.parallelism, single.parallelism);
    let identities = |graph: &Graph| {
        let mut all: Vec<_> = graph.nodes.iter().map(|node| node.identity.clone()).filter(|i| !i.is_empty()).collect();
        all.sort();
        all
    };
    assert_eq!(identities(&joined), identities(&single), "operators are known by what they compute");
    assert_eq!(joined.sinks().count(), 1);
    assert!(joined.nodes.iter().enumerate().all(|(id, node)| node.inputs.iter().all(|edge| edge.from < id)));
    assert_eq!(staged.explain(), planned(query).explain());
}
