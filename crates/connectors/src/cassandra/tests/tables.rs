//! Types, the text of statements, and how a table that is there is told from what is needed.

use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType, UserDefinedType};

use super::super::{ddl, types};
use super::*;

#[test]
fn a_table_is_created_with_frozen_collections_and_types_of_its_own() {
    let definition = definition(&[("compaction", "TimeWindowCompactionStrategy, compaction_window_unit:DAYS")]);
    let created: Vec<_> = definition.user_types().iter().map(|t| ddl::create_type(t)).collect();
    assert_eq!(
        created,
        [
            r#"CREATE TYPE IF NOT EXISTS "ks"."totals_place" ("lat" double, "lon" double)"#,
            r#"CREATE TYPE IF NOT EXISTS "ks"."totals_visits" ("lat" double, "lon" double)"#,
        ]
    );
    let compaction = config(&[("compaction", "TimeWindowCompactionStrategy, compaction_window_unit:DAYS")]).compaction;
    assert_eq!(
        ddl::create_table(&definition, compaction.as_ref()),
        "CREATE TABLE IF NOT EXISTS \"ks\".\"totals\" (\"at\" timestamp, \"user_id\" text, \"category\" text, \"n\" bigint, \
         \"total\" double, \"price\" decimal, \"day\" date, \"flag\" boolean, \"raw\" blob, \"ordinal\" varint, \
         \"merchants\" frozen<list<text>>, \"place\" frozen<\"totals_place\">, \
         \"visits\" frozen<list<frozen<\"totals_visits\">>>, \"counts\" frozen<map<text, int>>, \
         PRIMARY KEY ((\"user_id\"), \"category\", \"at\")) WITH compaction = {'class': 'TimeWindowCompactionStrategy', \
         'compaction_window_unit': 'DAYS'}"
    );
}

#[test]
fn the_partition_key_can_be_chosen_and_times_can_be_whole() {
    let text = ddl::create_table(&definition(&[("partition_key", "category,user_id"), ("timestamps", "bigint")]), None);
    assert!(text.contains("PRIMARY KEY ((\"category\", \"user_id\"), \"at\")") && text.contains("\"at\" bigint"), "{text}");
    let all = ddl::create_table(&definition(&[("partition_key", "user_id,category,at")]), None);
    assert!(all.contains("PRIMARY KEY ((\"user_id\", \"category\", \"at\"))"), "{all}");
}

#[test]
fn statements_name_what_they_write() {
    let names = ["a".to_owned(), "say \"b\"".to_owned()];
    assert_eq!(ddl::insert("t", &names, Some(60)), "INSERT INTO t (\"a\", \"say \"\"b\"\"\") VALUES (?, ?) USING TTL 60");
    assert_eq!(ddl::insert("t", &names[..1], None), "INSERT INTO t (\"a\") VALUES (?)");
    assert_eq!(ddl::delete("t", &names), "DELETE FROM t WHERE \"a\" = ? AND \"say \"\"b\"\"\" = ?");
    assert_eq!(ddl::select_by_key("t", &names[..1], &names[..1]), "SELECT \"a\" FROM t WHERE \"a\" = ?");
    assert_eq!(
        ddl::create_keyspace("ks", &[("dc'1".into(), 3)]),
        "CREATE KEYSPACE IF NOT EXISTS \"ks\" WITH replication = {'class': 'NetworkTopologyStrategy', 'dc''1': '3'}"
    );
}

#[test]
fn a_type_that_cassandra_lacks_is_refused_by_column() {
    let schema =
        Schema::new(vec![Field::new("a", DataType::Utf8, false), Field::new("wait", DataType::Duration(TimeUnit::Second), true)]);
    let error = Definition::of(&config(&[]), &schema, &[0]).err().unwrap();
    assert!(error.kind() == Kind::Invalid && error.to_string().contains("column wait"), "{error}");
}

fn native(native: NativeType) -> ColumnType<'static> {
    ColumnType::Native(native)
}

fn listed(frozen: bool, item: ColumnType<'static>) -> ColumnType<'static> {
    ColumnType::Collection { frozen, typ: CollectionType::List(Box::new(item)) }
}

fn user_type(name: &'static str, fields: &[(&'static str, NativeType)]) -> ColumnType<'static> {
    let field_types = fields.iter().map(|(name, typ)| ((*name).into(), native(typ.clone()))).collect();
    let definition = Arc::new(UserDefinedType { name: name.into(), keyspace: "ks".into(), field_types });
    ColumnType::UserDefinedType { frozen: true, definition }
}

#[test]
fn a_list_that_is_not_frozen_is_refused_since_its_elements_would_come_twice() {
    let wanted = listed(true, native(NativeType::Text));
    assert_eq!(types::unfit(&wanted, &wanted), None);
    let why = types::unfit(&wanted, &listed(false, native(NativeType::Text))).unwrap();
    assert!(why.contains("list<text>") && why.contains("not frozen") && why.contains("frozen<list<text>>"), "{why}");
}

#[test]
fn a_struct_goes_to_any_type_with_its_fields_and_to_a_tuple_of_them() {
    let wanted = user_type("totals_place", &[("lat", NativeType::Double), ("n", NativeType::Int)]);
    let fits = |there: &ColumnType<'static>| types::unfit(&wanted, there).is_none();
    assert!(fits(&user_type("other", &[("n", NativeType::Int), ("lat", NativeType::Double)])), "in any order");
    assert!(fits(&ColumnType::Tuple(vec![native(NativeType::Double), native(NativeType::Int)])));
    assert!(!fits(&ColumnType::Tuple(vec![native(NativeType::Int), native(NativeType::Double)])));
    assert!(!fits(&user_type("other", &[("lat", NativeType::Double)])));
    assert!(!fits(&user_type("other", &[("lat", NativeType::Double), ("n", NativeType::BigInt)])));
    let why = types::unfit(&native(NativeType::BigInt), &native(NativeType::Int)).unwrap();
    assert_eq!(why, "is int in the table, bigint here");
}
