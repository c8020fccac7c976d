use proptest::prelude::*;

use super::*;

/// The raw streams recorded beside the Debezium goldens: one line a message, as PostgreSQL 15 sent it.
fn recorded(case: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/tests/goldens/debezium/{case}/pgoutput.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let hex = line["data"].as_str().unwrap();
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
        })
        .collect()
}

const CASES: [&str; 5] = [
    "01-tutorial-crud",
    "12-replica-identity",
    "15-truncate-and-messages",
    "17-transaction-metadata",
    "18-schema-changes",
];

fn text(bytes: &[u8]) -> Column<'_> {
    Column::Text(bytes)
}

#[test]
fn recorded_streams_parse_whole() {
    for case in CASES {
        for (i, message) in recorded(case).iter().enumerate() {
            let parsed = parse(message, false).unwrap_or_else(|e| panic!("{case} message {i}: {e}"));
            if let Message::Insert { new, .. } = parsed {
                assert_eq!(new.iter().count(), new.len());
            }
        }
    }
}

#[test]
fn the_tutorial_is_read_right() {
    let stream = recorded("01-tutorial-crud");
    let messages: Vec<Message<'_>> = stream.iter().map(|m| parse(m, false).unwrap()).collect();
    let Message::Begin { final_lsn, xid, .. } = messages[0] else { panic!("{:?}", messages[0]) };
    assert_eq!((final_lsn, xid), ("0/192FFC0".parse().unwrap(), 732));
    let Message::Relation(relation) = &messages[1] else { panic!("{:?}", messages[1]) };
    assert_eq!((relation.schema.as_str(), relation.name.as_str()), ("inventory", "customers"));
    assert_eq!(relation.identity, ReplicaIdentity::Default);
    let names: Vec<&str> = relation.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "first_name", "last_name", "email"]);
    assert!(relation.columns[0].in_identity && !relation.columns[1].in_identity);
    let Message::Insert { relation: oid, new } = &messages[2] else { panic!("{:?}", messages[2]) };
    assert_eq!(*oid, relation.oid);
    let row: Vec<Column<'_>> = new.iter().collect();
    assert_eq!(row, [text(b"5"), text(b"Anna"), text(b"New"), text(b"anna@new.org")]);
    let Message::Commit { commit_lsn, end_lsn, .. } = messages[3] else { panic!("{:?}", messages[3]) };
    assert_eq!(commit_lsn, final_lsn);
    assert!(end_lsn > commit_lsn);
    assert!(messages.iter().any(|m| matches!(m, Message::Delete { old: OldTuple::Key(_), .. })));
}

#[test]
fn truncates_messages_and_full_identity_are_read() {
    let stream = recorded("15-truncate-and-messages");
    let messages: Vec<Message<'_>> = stream.iter().map(|m| parse(m, false).unwrap()).collect();
    assert!(
        messages.iter().any(|m| matches!(m, Message::Truncate { relations, .. } if !relations.is_empty()))
    );
    assert!(messages.iter().any(|m| matches!(m, Message::LogicalMessage { transactional: false, .. })));
    let stream = recorded("12-replica-identity");
    let messages: Vec<Message<'_>> = stream.iter().map(|m| parse(m, false).unwrap()).collect();
    assert!(messages.iter().any(|m| matches!(m, Message::Update { old: Some(OldTuple::Full(_)), .. })));
}

#[test]
fn streamed_messages_carry_their_transaction() {
    let plain = &recorded("01-tutorial-crud")[2];
    let mut streamed = vec![plain[0]];
    streamed.extend_from_slice(&77u32.to_be_bytes());
    streamed.extend_from_slice(&plain[1..]);
    let (xid, message) = parse_streamed(&streamed).unwrap();
    assert_eq!(xid, Some(77));
    assert_eq!(message, parse(plain, false).unwrap());
    assert_eq!(parse(&streamed, true).unwrap(), message);
    let start = [b'S', 0, 0, 0, 77, 1];
    assert_eq!(parse(&start, true).unwrap(), Message::StreamStart { xid: 77, first: true });
    assert_eq!(parse(b"E", true).unwrap(), Message::StreamStop);
    let abort = [b'A', 0, 0, 0, 77, 0, 0, 0, 78];
    assert_eq!(parse_streamed(&abort).unwrap(), (None, Message::StreamAbort { xid: 77, subxid: 78 }));
}

#[test]
fn nulls_unchanged_and_binary_columns() {
    let mut bytes = vec![b'I', 0, 0, 0, 9, b'N', 0, 4, b'n', b'u', b'b', 0, 0, 0, 2, 1, 2, b't', 0, 0, 0, 0];
    let Message::Insert { relation, new } = parse(&bytes, false).unwrap() else { panic!() };
    assert_eq!(relation, 9);
    let row: Vec<Column<'_>> = new.iter().collect();
    assert_eq!(row, [Column::Null, Column::Unchanged, Column::Binary(&[1, 2]), text(b"")]);
    bytes.push(0);
    assert_eq!(parse(&bytes, false), Err(DecodeError::TrailingBytes('I', 1)));
}

#[test]
fn every_cut_of_a_message_is_an_error() {
    for case in CASES {
        for message in recorded(case) {
            for len in 0..message.len() {
                assert!(parse(&message[..len], false).is_err(), "{case}: {len} bytes of {message:02x?}");
            }
        }
    }
}

#[test]
fn unknown_types_and_values_are_named() {
    assert_eq!(parse(&[], false), Err(DecodeError::Empty));
    assert_eq!(parse(b"Z", false), Err(DecodeError::UnknownMessage(b'Z')));
    let error = parse(&[b'I', 0, 0, 0, 1, b'X'], false).unwrap_err();
    assert_eq!(error, DecodeError::UnknownValue { message: 'I', field: "tuple kind", value: b'X' });
}

fn walk(message: &Message<'_>) -> usize {
    match message {
        Message::Insert { new, .. } => new.iter().count(),
        Message::Update { old, new, .. } => {
            new.iter().count() + old.as_ref().map_or(0, |o| o.tuple().iter().count())
        }
        Message::Delete { old, .. } => old.tuple().iter().count(),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), streamed: bool) {
        if let Ok(message) = parse(&bytes, streamed) {
            walk(&message);
        }
    }

    #[test]
    fn damaged_messages_never_panic(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let stream = recorded("12-replica-identity");
        let mut message = pick.get(&stream).clone();
        let position = at.index(message.len());
        message[position] = byte;
        for streamed in [false, true] {
            if let Ok(message) = parse(&message, streamed) {
                walk(&message);
            }
        }
    }
}
