//! Types of extensions, which no server need have.

use super::*;
use crate::pg::catalog::PgType;

/// The mapping of an extension's type and of its array.
fn mapped(options: &EventOptions, name: &str) -> (Mapped, Mapped) {
    let mut types = TypeRegistry::default();
    let (schema, delimiter) = ("extensions".to_owned(), b',');
    let kinds = [(1, name.to_owned(), TypeKind::Base), (2, format!("_{name}"), TypeKind::Array(1))];
    for (oid, name, kind) in kinds {
        types.insert(PgType { oid, schema: schema.clone(), name, kind, delimiter });
    }
    let map = |oid| map(options, &types, oid, -1, Origin::Stream).unwrap();
    (map(1), map(2))
}

#[test]
fn a_geometry_is_optional_always_and_a_geography_is_not() {
    let options = EventOptions::default();
    assert!(mapped(&options, "geometry").0.schema.optional);
    assert!(!mapped(&options, "geography").0.schema.optional);
}

#[test]
fn arrays_of_vectors_hold_no_null() {
    let mut options = EventOptions::default();
    for (name, text) in [("vector", &b"{\"[1,2]\"}"[..]), ("halfvec", b"{[1]}"), ("sparsevec", b"{}")] {
        let array = mapped(&options, name).1;
        assert!(matches!(&array.schema.kind, Kind::Array(element) if !element.optional), "{name}");
        assert!(array.conv.convert(text).is_ok(), "{name}");
        assert!(array.conv.convert(b"{NULL}").is_err(), "{name}");
    }
    let sparse = b"{\"{1:1}/2\"}";
    assert!(mapped(&options, "sparsevec").1.conv.convert(sparse).is_err());
    options.strict_values = true;
    assert!(mapped(&options, "sparsevec").1.conv.convert(sparse).is_ok());
}
