//! The PostgreSQL sink against a real server: every type, the fence, and what is said when a table does not fit.

use millstream::config::AddressMap;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::engine::plan::{TableColumn, TableRef};
use millstream::engine::row::{Change, Instant, RowKind, Value};
use millstream::engine::types::{DataType, Field, TypeKind};
use millstream::error::{Error, Kind};
use millstream::sink::postgres::PostgresSink;
use millstream::sink::{Fence, Output, Reduction, Sink, SinkId};

fn table(server: &TemporaryPostgres, target: &str, columns: &[(&str, TypeKind)], key: &[usize]) -> TableRef {
    let url = format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=postgres", server.port());
    TableRef {
        name: format!("sink_{target}"),
        options: [("connector", "jdbc"), ("url", &url), ("table-name", target)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        columns: columns
            .iter()
            .enumerate()
            .map(|(i, (name, kind))| TableColumn {
                field: Field {
                    name: (*name).to_owned(),
                    data_type: DataType::new(kind.clone()).with_nullable(!key.contains(&i)),
                },
                metadata: None,
            })
            .collect(),
        primary_key: key.to_vec(),
    }
}

fn sink(table: &TableRef) -> PostgresSink {
    let id = SinkId { pipeline: "p".to_owned(), sink: table.name.clone() };
    PostgresSink::new(table, id, AddressMap::default()).unwrap()
}

fn token(epoch: u64, writer: &str) -> Fence {
    Fence { epoch, writer: writer.to_owned() }
}

fn upsert(values: Vec<Value>) -> Change {
    Change::new(RowKind::UpdateAfter, values)
}

fn delete(values: Vec<Value>) -> Change {
    Change::new(RowKind::Delete, values)
}

fn output(changes: Vec<Change>) -> Output {
    Output { changes }
}

async fn ready(table: &TableRef, writer: &str) -> PostgresSink {
    let mut sink = sink(table);
    let fence = sink.fence().await.unwrap();
    let epoch = fence.as_ref().map_or(0, |f| f.epoch);
    assert!(sink.claim(fence.as_ref(), &token(epoch, writer)).await.unwrap());
    sink
}

#[tokio::test]
async fn every_type_arrives_and_a_missing_table_is_made() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let string = TypeKind::Varchar(i32::MAX as u32);
    let columns = [
        ("id", TypeKind::BigInt),
        ("b", TypeKind::Boolean),
        ("t", TypeKind::TinyInt),
        ("i", TypeKind::Int),
        ("f", TypeKind::Float),
        ("d", TypeKind::Double),
        ("n", TypeKind::Decimal(12, 3)),
        ("s", string.clone()),
        ("v", TypeKind::Varchar(5)),
        ("x", TypeKind::Varbinary(i32::MAX as u32)),
        ("day", TypeKind::Date),
        ("clock", TypeKind::Time(3)),
        ("ts", TypeKind::Timestamp(6)),
        ("tz", TypeKind::TimestampLtz(3)),
        ("a", TypeKind::Array(Box::new(DataType::new(TypeKind::Int)))),
    ];
    let made = table(&server, "made", &columns, &[0]);
    let mut writer = ready(&made, "w").await;
    assert_eq!(writer.reduction(), Reduction::ByKey(vec![0]));
    let at = Instant { millis: 1_709_164_800_123, nanos: 456_000 };
    let full = vec![
        Value::Int(1),
        Value::Bool(true),
        Value::Int(-7),
        Value::Int(42),
        Value::Float(1.5),
        Value::Double(-0.25),
        Value::decimal(-12_345_678, 3),
        Value::str("it's \\ \t \"quoted\" ü"),
        Value::str("abc"),
        Value::Bytes(vec![0u8, 255].into()),
        Value::Date(19_782),
        Value::Time(3_723_004),
        Value::Timestamp(at),
        Value::TimestampLtz(at),
        Value::Array(vec![Value::Int(1), Value::Null].into()),
    ];
    let nulls: Vec<Value> =
        std::iter::once(Value::Int(2)).chain(std::iter::repeat_n(Value::Null, columns.len() - 1)).collect();
    writer.write(1, &output(vec![upsert(full), upsert(nulls)])).await.unwrap();
    let rows = server.psql("postgres", "set timezone='UTC'; select * from made order by id").unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    assert_eq!(
        lines,
        [
            "1|t|-7|42|1.5|-0.25|-12345.678|it's \\ \t \"quoted\" ü|abc|\\x00ff|2024-02-29|01:02:03.004|\
             2024-02-29 00:00:00.123456|2024-02-29 00:00:00.123+00|{1,NULL}",
            "2||||||||||||||"
        ]
    );
    let key = server
        .psql(
            "postgres",
            "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'made'::regclass and contype = 'p'",
        )
        .unwrap();
    assert_eq!(key.trim(), "PRIMARY KEY (id)");

    // Text goes into what Flink has no type for; upper case in the SQL finds what PostgreSQL has folded.
    server
        .psql("postgres", "create type mood as enum ('ok'); create table odd(id uuid primary key, j jsonb, m mood, extra text)")
        .unwrap();
    let odd = table(
        &server,
        "public.odd",
        &[("ID", string.clone()), ("j", string.clone()), ("m", string.clone())],
        &[0],
    );
    let mut writer = ready(&odd, "w").await;
    let id = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
    writer
        .write(1, &output(vec![upsert(vec![Value::str(id), Value::str("{\"a\":1}"), Value::str("ok")])]))
        .await
        .unwrap();
    assert_eq!(server.psql("postgres", "select j->>'a', m from odd").unwrap().trim(), "1|ok");
    let wrong = output(vec![upsert(vec![Value::str("top secret"), Value::Null, Value::Null])]);
    let error = writer.write(2, &wrong).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data, "{error}");
    assert!(error.to_string().contains("uuid") && !error.to_string().contains("top secret"), "{error}");
    writer.write(2, &output(vec![delete(vec![Value::str(id), Value::Null, Value::Null])])).await.unwrap();
    assert_eq!(server.psql("postgres", "select count(*) from odd").unwrap().trim(), "0");
}

#[tokio::test]
async fn epochs_are_written_once_and_only_by_the_writer_that_claimed() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    server
        .psql("postgres", "create schema s; create table s.t(a int, b text, v int, primary key (b, a))")
        .unwrap();
    let kinds = [("a", TypeKind::Int), ("b", TypeKind::Varchar(9)), ("v", TypeKind::Int)];
    let t = table(&server, "s.t", &kinds, &[0, 1]);
    let row = |a: i64, v: i64| vec![Value::Int(a), Value::str("k"), Value::Int(v)];
    let content = || server.psql("postgres", "select a, v from s.t order by a").unwrap().replace('\n', " ");
    let epoch =
        || server.psql("postgres", "select epoch, writer from s.millstream_epoch").unwrap().trim().to_owned();

    let mut first = ready(&t, "one").await;
    first.write(1, &output((1..=25_000).map(|a| upsert(row(a, 1))).collect())).await.unwrap();
    assert_eq!(server.psql("postgres", "select count(*), sum(v) from s.t").unwrap().trim(), "25000|25000");
    let all: Vec<Change> = (4..=25_000).map(|a| delete(row(a, 1))).chain([upsert(row(2, 5))]).collect();
    first.write(2, &output(all)).await.unwrap();
    assert_eq!(content().trim(), "1|1 2|5 3|1");

    // The same epoch again, and one too far, change nothing. The first is there: its own answer may have been lost.
    first.write(2, &output(vec![upsert(row(9, 9))])).await.unwrap();
    let error = first.write(4, &output(vec![upsert(row(9, 9))])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    assert_eq!((content().trim(), epoch().as_str()), ("1|1 2|5 3|1", "2|one"));

    // A second writer claims; the first is fenced from then on, whatever the size of its epoch.
    let mut second = ready(&t, "two").await;
    let many = output((100..40_000).map(|a| upsert(row(a, 1))).collect());
    for late in [output(vec![upsert(row(9, 9))]), output(vec![upsert(row(9, 9)), delete(row(1, 0))]), many] {
        assert_eq!(first.write(3, &late).await.unwrap_err().kind(), Kind::Fenced);
    }
    assert!(!first.claim(Some(&token(2, "one")), &token(2, "three")).await.unwrap());
    assert!(!first.claim(None, &token(0, "three")).await.unwrap());
    second.write(3, &output(vec![delete(row(1, 0)), upsert(row(4, 4))])).await.unwrap();
    second.write(4, &output(vec![])).await.unwrap();
    assert_eq!((content().trim(), epoch().as_str()), ("2|5 3|1 4|4", "4|two"));
}

/// The fence must never move without the rows that belong to it.
#[tokio::test]
async fn an_epoch_with_a_value_that_has_no_room_changes_nothing() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    server.psql("postgres", "create table t(a int primary key, born date)").unwrap();
    let t = table(&server, "t", &[("a", TypeKind::Int), ("born", TypeKind::Date)], &[0]);
    let row = |a: i64, born: i32| upsert(vec![Value::Int(a), Value::Date(born)]);
    let content = || {
        let sql = "select (select string_agg(a || ' ' || born, ',' order by a) from t), epoch from millstream_epoch";
        server.psql("postgres", sql).unwrap().trim().to_owned()
    };
    let mut writer = ready(&t, "one").await;
    writer.write(1, &output(vec![row(1, 0), row(2, 1)])).await.unwrap();
    let gone = delete(vec![Value::Int(1), Value::Null]);
    // A bad row alone, behind a delete, and in an epoch of many statements.
    let many = (10..40_010).map(|a| row(a, if a == 40_009 { i32::MIN } else { 0 })).collect();
    for bad in [vec![row(3, i32::MIN), row(4, 0)], vec![gone.clone(), row(3, i32::MIN)], many] {
        let error = writer.write(2, &output(bad)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data, "{error}");
        assert!(
            error.screen().contains("column born holds a value that PostgreSQL's date has no room"),
            "{error}"
        );
        assert_eq!(content(), "1 1970-01-01,2 1970-01-02|1");
    }
    writer.write(2, &output(vec![gone, row(3, 2)])).await.unwrap();
    assert_eq!(content(), "2 1970-01-02,3 1970-01-03|2");
}

#[tokio::test]
async fn a_value_that_the_server_refuses_is_told_by_its_column() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let sql = "create table t(a int primary key, name varchar(5) check (name <> 'none'), price numeric(4,2))";
    server.psql("postgres", sql).unwrap();
    let string = TypeKind::Varchar(i32::MAX as u32);
    let columns = [("a", TypeKind::Int), ("name", string), ("price", TypeKind::Decimal(10, 2))];
    let t = table(&server, "t", &columns, &[0]);
    let mut writer = ready(&t, "one").await;
    for (name, price, says) in [
        ("secret", 0, "22001); columns of that type: name character varying(5)"),
        ("x", 12_345, "columns of that type: price numeric(4,2)"),
        ("none", 0, "t_name_check"),
    ] {
        let row = |n, name, price| upsert(vec![Value::Int(n), Value::str(name), Value::decimal(price, 2)]);
        let rows = vec![row(1, "fine", 100), row(2, name, price)];
        let error = writer.write(1, &output(rows)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        let said = error.screen();
        assert!(said.contains(says) && said.contains("leave such rows out"), "{said}");
        assert!(!said.contains("secret") && !said.contains("123.45"), "{said}");
        assert_eq!(server.psql("postgres", "select count(*) from t").unwrap().trim(), "0");
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let mut server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let t = table(&server, "t", &[("a", TypeKind::Int)], &[]);
    let mut writer = ready(&t, "one").await;
    let row = || output(vec![Change::new(RowKind::Insert, vec![Value::Int(1)])]);
    writer.write(1, &row()).await.unwrap();
    server.stop(true).unwrap();
    let error = writer.write(2, &row()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(writer.fence().await.unwrap_err().is_transient());
    server.boot().unwrap();
    assert_eq!(writer.fence().await.unwrap(), Some(token(1, "one")));
    writer.write(2, &row()).await.unwrap();
    // Append-only: no key, so equal rows stay two; a delete cannot be written.
    assert_eq!(server.psql("postgres", "select count(*) from t").unwrap().trim(), "2");
    let error = writer.write(3, &output(vec![delete(vec![Value::Int(1)])])).await.unwrap_err();
    assert!(error.screen().contains("PRIMARY KEY"), "{error}");
}

async fn refusal(table: &TableRef) -> Error {
    sink(table).fence().await.unwrap_err()
}

#[tokio::test]
async fn what_does_not_fit_is_said_with_table_column_and_both_types() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    server
        .psql(
            "postgres",
            "create schema star;
             create table star.customers(customer_key integer primary key, customer_name varchar(50), born date);
             create table star.needy(a int primary key, must text not null);
             create role limited login; grant usage on schema star to limited;
             grant all on star.customers to limited;",
        )
        .unwrap();
    let string = TypeKind::Varchar(i32::MAX as u32);
    let target = "star.customers";
    let error =
        refusal(&table(&server, target, &[("customer_key", string.clone()), ("born", TypeKind::Int)], &[0]))
            .await;
    assert_eq!(error.kind(), Kind::Config);
    for part in [
        "star.customers",
        "customer_key is integer there, and STRING in the SQL",
        "born is date there, and INT",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let error = refusal(&table(
        &server,
        target,
        &[("customer_key", TypeKind::Int), ("customer_nam", string.clone())],
        &[0],
    ))
    .await;
    assert!(
        error.to_string().contains("no column customer_nam (of type STRING); the nearest is customer_name"),
        "{error}"
    );
    let error = refusal(&table(
        &server,
        target,
        &[("customer_key", TypeKind::Int), ("customer_name", string.clone())],
        &[1],
    ))
    .await;
    assert!(error.to_string().contains("no primary key or unique index on (customer_name)"), "{error}");
    let error = refusal(&table(&server, "star.needy", &[("a", TypeKind::Int)], &[0])).await;
    assert!(error.to_string().contains("must (text) is NOT NULL without a default"), "{error}");
    let error = refusal(&table(&server, "nowhere.t", &[("a", TypeKind::Int)], &[0])).await;
    assert!(error.to_string().contains("nowhere"), "{error}");
    let mut closed = table(&server, "t", &[("a", TypeKind::Int)], &[0]);
    closed.options.insert("millstream.create-table".to_owned(), "false".to_owned());
    assert!(refusal(&closed).await.to_string().contains("table t does not exist"));
    // Least privilege: without CREATE on the schema the remedy is spelled out, and works.
    let mut limited = table(&server, target, &[("customer_key", TypeKind::Int)], &[0]);
    limited.options.insert("username".to_owned(), "limited".to_owned());
    let error = refusal(&limited).await;
    let next = error.next_step().unwrap();
    let sql = next.strip_prefix("have an administrator run: ").unwrap().replace("the role", "limited");
    server.psql("postgres", &sql).unwrap();
    let mut writer = ready(&limited, "w").await;
    writer.write(1, &output(vec![upsert(vec![Value::Int(1)])])).await.unwrap();
}
