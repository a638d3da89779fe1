use super::super::*;
use crate::batch::{Batch, Port};
use crate::operator::*;
use crate::time::Stopwatch;
use arrow::array::*;
use arrow::datatypes::*;
use datafusion::functions_aggregate as f;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{col, lit};
use std::sync::Arc;

#[test]
fn bench() {
    let fields = super::rows::window_fields();
    let schema = Arc::new(Schema::new(vec![
        Field::new("w", DataType::Struct(fields.clone()), true),
        Field::new("u", DataType::Utf8, false),
        Field::new("v", DataType::Float64, false),
        Field::new("m", DataType::Utf8, true),
    ]));
    let c = |n: &str| col(n, &schema).unwrap();
    let a = |name: &str, u: Arc<datafusion::logical_expr::AggregateUDF>, e: Arc<dyn PhysicalExpr>| Aggregate {
        function: Arc::new(AggregateExprBuilder::new(u, vec![e]).schema(schema.clone()).alias(name).build().unwrap()),
        filter: None,
    };
    let five = vec![
        a("c", f::count::count_udaf(), lit(1i64)),
        a("s", f::sum::sum_udaf(), c("v")),
        a("a", f::average::avg_udaf(), c("v")),
        a("mi", f::min_max::min_udaf(), c("v")),
        a("ma", f::min_max::max_udaf(), c("v")),
    ];
    let mut six = five.clone();
    six.push(a("l", f::array_agg::array_agg_udaf(), c("m")));
    let chunk = 16384usize;
    let mut x = 12345u64;
    let mut rnd = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let batches: Vec<RecordBatch> = (0..128)
        .map(|i| {
            let hop = |r: u64| (i as i64) * 1_000_000 / 16 + (r % 3) as i64;
            let starts: Vec<i64> = (0..chunk)
                .map(|_| {
                    let r = rnd();
                    let t = hop(r);
                    t.div_euclid(5_000_000) * 5_000_000
                })
                .collect();
            let st = TimestampMicrosecondArray::from_iter_values(starts.iter().copied()).with_timezone("UTC");
            let en = TimestampMicrosecondArray::from_iter_values(starts.iter().map(|s| s + 5_000_000)).with_timezone("UTC");
            RecordBatch::try_new(
                schema.clone(),
                vec![
                    Arc::new(StructArray::new(fields.clone(), vec![Arc::new(st), Arc::new(en)], None)),
                    Arc::new(StringArray::from_iter_values((0..chunk).map(|_| format!("user_{}", rnd() % 100_000)))),
                    Arc::new(Float64Array::from_iter_values((0..chunk).map(|_| (rnd() % 1000) as f64))),
                    Arc::new(StringArray::from_iter_values(
                        (0..chunk).map(|_| ["Amazon", "Walmart", "Target", "Costco"][(rnd() % 4) as usize]),
                    )),
                ],
            )
            .unwrap()
        })
        .collect();
    let keys = vec![(c("w"), Arc::new(schema.field(0).clone())), (c("u"), Arc::new(schema.field(1).clone()))];
    for (name, aggs) in [("five", &five), ("with array_agg", &six)] {
        for (ports, every) in
            [(&[Port::Rows][..], 1), (&[Port::Update][..], 1), (&[Port::Update][..], 4), (&[Port::Update][..], 16)]
        {
            let plan = WindowAggregate::new(schema.clone(), keys.clone(), Window::Struct { key: 0 }, aggs.clone(), None).unwrap();
            let mut op = plan.create(ports).unwrap();
            let mut out = Output::default();
            let watch = Stopwatch::start();
            let mut rows = 0;
            for (i, b) in batches.iter().enumerate() {
                op.on_batch(0, Batch::insert(b.clone()), &mut out).unwrap();
                op.on_watermark((i as i64) * 1_000_000 / 16 - 1_000_000, &mut out).unwrap();
                if (i + 1) % every == 0 {
                    op.on_epoch_end(&mut out).unwrap();
                }
                rows += out.take().0.iter().map(|b| b.1.rows.num_rows()).sum::<usize>();
            }
            let total = (batches.len() * chunk) as f64;
            println!(
                "{name} {ports:?} epoch of {every} chunks: {:.2} M rows/s, {rows} out, state {:?}",
                total * 1e3 / watch.nanos() as f64,
                op.state_size()
            );
        }
    }
}
