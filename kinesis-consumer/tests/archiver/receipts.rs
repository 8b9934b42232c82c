//! Receipt rows.

use adtrack_proto::aggregate::encode_notice;
use adtrack_proto::journal::JournalNotice;
use adtrack_proto::journal::journal_notice::{Kind, Ring};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::*;

/// Rows as JSON, without the shard.
fn as_json(rows: Vec<Row>) -> Vec<Value> {
    let value = |value: AttributeValue| match value {
        AttributeValue::S(text) => Value::from(text),
        AttributeValue::N(number) => serde_json::from_str(&number).unwrap(),
        other => panic!("receipts have no {other:?}"),
    };
    let row = |mut row: Row| {
        assert_eq!(row.remove("shard"), Some(AttributeValue::S(SHARD.to_owned())));
        row.into_iter().map(|(name, it)| (name, value(it))).collect()
    };
    rows.into_iter().map(row).collect()
}

fn receipts(records: &[StreamRecord]) -> Vec<Value> {
    as_json(rows(&batch(records).receipts))
}

#[test]
fn has_the_columns_of_the_contract() {
    let records = [record(1, "key", event("m", RECEIVED_AT).encode_to_vec())];

    let types = types_of(&batch(&records).receipts[0].bytes);

    let time = "INT64 Timestamp(TimestampType { is_adjusted_to_u_t_c: true, unit: MILLIS })";
    let text = "BYTE_ARRAY String";
    let expected = [
        ("kind", text),
        ("journal", text),
        ("ring", text),
        ("from_position", "INT64 "),
        ("to_position", "INT64 "),
        ("attempt", "INT32 "),
        ("events", "INT32 "),
        ("poison", "INT32 "),
        ("first_received_at", time),
        ("last_received_at", time),
        ("at", time),
        ("reason", text),
        ("clock_from", time),
        ("clock_to", time),
        ("shard", text),
        ("sequence_number", text),
    ];
    let expected = expected.map(|(name, it)| (name.to_owned(), it.to_owned()));
    assert_eq!(types, expected.into());
}

#[test]
fn a_record_has_a_row_for_each_stretch_of_its_key() {
    let events = [9, 3, 7].map(|ms| event("m", RECEIVED_AT + ms).encode_to_vec());
    let records = [record(1, RECEIPT, aggregate(RECEIPT, events))];

    let row = |ring: &str, from: i64, to: i64| {
        json!({
            "kind": "events", "journal": "journal000001", "attempt": 2, "ring": ring,
            "from_position": from, "to_position": to, "events": 3, "poison": 0,
            "first_received_at": RECEIVED_AT + 3, "last_received_at": RECEIVED_AT + 9,
            "sequence_number": "1",
        })
    };
    assert_eq!(receipts(&records), [row("ring000000001", 36, 46), row("ring000000002", 0, 1)]);
}

#[test]
fn a_record_with_another_key_is_unreceipted() {
    let records = [record(1, "key", event("m", RECEIVED_AT).encode_to_vec())];

    let row = json!({
        "kind": "events", "events": 1, "poison": 0, "first_received_at": RECEIVED_AT,
        "last_received_at": RECEIVED_AT, "sequence_number": "1",
    });
    assert_eq!(receipts(&records), [row]);
}

#[test]
fn a_record_of_two_hours_has_its_receipt_in_both() {
    let events = [0, HOUR].map(|ms| event("m", RECEIVED_AT + ms).encode_to_vec());
    let records = [
        record(1, RECEIPT, aggregate(RECEIPT, events)),
        record(2, "key", event("n", RECEIVED_AT).encode_to_vec()),
    ];

    let batch = batch(&records);

    let folders: Vec<_> = paths(&batch.receipts).into_iter().map(|path| &path[..31]).collect();
    assert_eq!(folders, ["receipts/dt=2026-01-02/hour=03/", "receipts/dt=2026-01-02/hour=04/"]);
    let names = |files: &[File<'_>]| -> Vec<String> {
        paths(files).into_iter().map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&batch.raw), names(&batch.receipts));
    let [first, second] = [0, 1].map(|hour| as_json(rows_of(&batch.receipts[hour].bytes)));
    assert_eq!(first[..2], second[..], "the same rows, with the events of both hours");
    assert_eq!(first[0]["events"], 2);
    let numbers = |hour: usize| Vec::from_iter(&batch.receipts[hour].sequence_numbers);
    assert_eq!([numbers(0), numbers(1)], [vec![&"1", &"2"], vec![&"1"]]);
}

#[test]
fn counts_what_can_never_succeed() {
    let good = event("m", RECEIVED_AT).encode_to_vec();
    let mixed = aggregate(RECEIPT, [b"\xff".to_vec(), good, Vec::new()]);
    let records = [record(1, "a", mixed), record(2, "b", b"\xff".to_vec())];

    let mut batch = batch(&records);

    let counts: Vec<_> = as_json(rows(&batch.receipts))
        .into_iter()
        .map(|row| (row["events"].clone(), row["poison"].clone()))
        .collect();
    assert_eq!(counts, [(1.into(), 2.into()), (0.into(), 1.into())]);
    // Nothing of the second record was received: its receipt is where it arrived.
    assert!(batch.receipts[0].path.starts_with("receipts/dt=2026-01-02/hour=03/"));
    assert_eq!((batch.poison.count(), batch.poison.take().len()), (3, 3));
    assert_eq!(batch.events, 1);
}

#[test]
fn an_empty_aggregate_has_a_receipt() {
    let records = [record(1, RECEIPT, aggregate(RECEIPT, []))];

    let rows = receipts(&records);

    assert_eq!((rows.len(), &rows[0]["events"], &rows[0]["poison"]), (2, &json!(0), &json!(0)));
    assert_eq!(rows[0].get("first_received_at"), None);
}

fn notice(sequence_number: u32, notice: &JournalNotice) -> StreamRecord {
    record(sequence_number, "journal000001.h", encode_notice("journal000001.h", notice))
}

#[test]
fn a_notice_has_a_row_for_each_ring_under_its_own_hour() {
    let ring = |ring: &str, from_position, to_position| Ring {
        ring: ring.into(),
        from_position,
        to_position,
    };
    let heartbeat = JournalNotice {
        kind: Kind::Heartbeat.into(),
        journal: "journal000001".into(),
        at_ms: RECEIVED_AT - HOUR,
        rings: vec![ring("ring000000001", 0, 46), ring("ring000000002", 7, 7)],
        ..JournalNotice::default()
    };
    let records = [notice(1, &heartbeat)];

    let batch = batch(&records);

    assert_eq!(paths(&batch.raw), Vec::<&str>::new());
    assert!(batch.receipts[0].path.starts_with("receipts/dt=2026-01-02/hour=02/"));
    let row = |ring: &str, from: i64, to: i64| {
        json!({
            "kind": "heartbeat", "journal": "journal000001", "ring": ring, "from_position": from,
            "to_position": to, "at": RECEIVED_AT - HOUR, "sequence_number": "1",
        })
    };
    let rows = as_json(rows(&batch.receipts));
    assert_eq!(rows, [row("ring000000001", 0, 46), row("ring000000002", 7, 7)]);
}

#[test]
fn a_notice_without_rings_has_a_row() {
    let opened = JournalNotice {
        kind: Kind::Opened.into(),
        journal: "journal000001".into(),
        at_ms: RECEIVED_AT,
        reason: "clock".into(),
        clock_from_ms: 9,
        clock_to_ms: 5,
        ..JournalNotice::default()
    };

    let row = json!({
        "kind": "opened", "journal": "journal000001", "at": RECEIVED_AT, "reason": "clock",
        "clock_from": 9, "clock_to": 5, "sequence_number": "1",
    });
    assert_eq!(receipts(&[notice(1, &opened)]), [row]);
}

/// An aggregate with what both have.
fn joined(one: &[u8], other: &[u8]) -> Vec<u8> {
    use md5::Digest;
    let message = |data: &[u8]| data[4..data.len() - 16].to_vec();
    // Protobuf joins messages by concatenation.
    let message = [message(one), message(other)].concat();
    [&one[..4], &message, &md5::Md5::digest(&message)].concat()
}

#[test]
fn a_record_may_have_a_notice_and_user_records() {
    let heartbeat = JournalNotice {
        kind: Kind::Heartbeat.into(),
        at_ms: RECEIVED_AT,
        ..JournalNotice::default()
    };
    let good = event("m", RECEIVED_AT).encode_to_vec();
    let invalid = b"\xff".to_vec();
    for (user_records, kinds) in [
        (vec![], vec!["heartbeat"]),
        (vec![invalid.clone(), invalid.clone()], vec!["heartbeat", "events"]),
        (vec![good.clone(), invalid], vec!["heartbeat", "events"]),
        (vec![good.clone(), good], vec!["heartbeat", "events"]),
    ] {
        let data = joined(&encode_notice("key", &heartbeat), &aggregate("key", user_records));

        let rows = receipts(&[record(1, "key", data)]);

        let found: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
        assert_eq!(found, kinds);
    }
}

#[test]
fn a_notice_of_a_later_version_is_kept_as_one_that_cannot_succeed() {
    let unknown = JournalNotice { kind: 9, ..JournalNotice::default() };
    let records = [notice(1, &unknown)];

    let mut batch = batch(&records);

    let rows = as_json(rows(&batch.receipts));
    let row = json!({"kind": "events", "events": 0, "poison": 1, "sequence_number": "1"});
    assert_eq!(rows, [row]);
    let kept = batch.poison.take();
    assert_eq!(kept[0].reason, "its JournalNotice has the unknown kind 9");
    assert_eq!(kept[0].data, records[0].data, "the whole record");
}
