//! Texts of values as a server may send them, for a column of every type and in several modes: an event or an
//! error, never a panic.
//!
//! The first byte picks the modes, the second the column; the rest is the value's text.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use millstream::config::AddressMap;
use millstream::event::{Encoder, EventOptions, SourceInfo, TablePlan};
use millstream::log::Batch;
use millstream::pg::Lsn;
use millstream::pg::catalog::{ColumnInfo, PgType, TableInfo, TypeKind, TypeRegistry};
use millstream::pg::pgoutput::{Column, ReplicaIdentity};

/// Built-in types: OID and name, and the OID of its array.
const TYPES: [(u32, &str, u32); 30] = [
    (16, "bool", 1000),
    (17, "bytea", 1001),
    (18, "char", 1002),
    (19, "name", 1003),
    (20, "int8", 1016),
    (21, "int2", 1005),
    (23, "int4", 1007),
    (25, "text", 1009),
    (26, "oid", 1028),
    (114, "json", 199),
    (142, "xml", 143),
    (600, "point", 1017),
    (650, "cidr", 651),
    (700, "float4", 1021),
    (701, "float8", 1022),
    (790, "money", 791),
    (829, "macaddr", 1040),
    (869, "inet", 1041),
    (1042, "bpchar", 1014),
    (1043, "varchar", 1015),
    (1082, "date", 1182),
    (1083, "time", 1183),
    (1114, "timestamp", 1115),
    (1184, "timestamptz", 1185),
    (1186, "interval", 1187),
    (1266, "timetz", 1270),
    (1560, "bit", 1561),
    (1562, "varbit", 1563),
    (1700, "numeric", 1231),
    (3904, "int4range", 3905),
];

const MODES: [&[(&str, &str)]; 6] = [
    &[],
    &[("decimal.handling.mode", "string"), ("time.precision.mode", "connect")],
    &[("decimal.handling.mode", "double"), ("interval.handling.mode", "string")],
    &[("time.precision.mode", "isostring"), ("binary.handling.mode", "hex")],
    &[("time.precision.mode", "nanoseconds"), ("binary.handling.mode", "base64")],
    &[("millstream.strict.values", "true"), ("include.unknown.datatypes", "true")],
];

fn encoder(mode: &[(&str, &str)]) -> (Encoder, Vec<TablePlan>) {
    let mut properties = vec![("topic.prefix", "fuzz"), ("database.dbname", "fuzz")];
    properties.extend_from_slice(mode);
    let options = EventOptions::from_properties(properties.iter().copied()).expect("the options are right");
    let encoder = millstream::transform::encoder(options, properties.iter().copied(), &AddressMap::default()).expect("no transforms");
    let mut types = TypeRegistry::default();
    for (oid, name, array) in TYPES {
        let ty = |oid, name: &str, kind| PgType { oid, schema: "pg_catalog".into(), name: name.into(), kind, delimiter: b',' };
        types.insert(ty(oid, name, TypeKind::Base));
        types.insert(ty(array, &format!("_{name}"), TypeKind::Array(oid)));
    }
    let plans = TYPES
        .iter()
        .flat_map(|(oid, _, array)| [*oid, *array])
        .map(|type_oid| {
            let table = TableInfo {
                oid: 1,
                schema: "public".into(),
                name: "t".into(),
                columns: vec![ColumnInfo {
                    name: "c".into(),
                    attnum: 1,
                    type_oid,
                    typmod: -1,
                    optional: true,
                    default_expr: None,
                    generated: false,
                    identity: false,
                    comment: None,
                }],
                key: Vec::new(),
                key_is_primary: false,
                identity: ReplicaIdentity::Full,
            };
            encoder.snapshot_plan(&table, &types).expect("a plan for every type")
        })
        .collect();
    (encoder, plans)
}

thread_local! {
    static ENCODERS: RefCell<Vec<(Encoder, Vec<TablePlan>)>> =
        RefCell::new(MODES.iter().map(|mode| encoder(mode)).collect());
}

fuzz_target!(|bytes: &[u8]| {
    let [mode, column, text @ ..] = bytes else { return };
    ENCODERS.with_borrow_mut(|encoders| {
        let mode = usize::from(*mode) % encoders.len();
        let (encoder, plans) = &mut encoders[mode];
        let plan = &plans[usize::from(*column) % plans.len()];
        let source = SourceInfo { lsn: Some(Lsn(1)), ts_ns: 1, now_ns: 1, ..SourceInfo::default() };
        let mut batch = Batch::new();
        let _ = encoder.insert(plan, &[Column::Text(text)], &source, &mut batch);
        let _ = encoder.read(plan, &[Column::Text(text)], &source, &mut batch);
    });
});
