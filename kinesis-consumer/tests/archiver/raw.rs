//! Raw rows.

use adtrack_proto::rank::rank;
use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::item::{Row as TableRow, RowSettings};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// What the table has and the archive does not.
const ONLY_IN_TABLE: [&str; 2] = ["id", "stored_at"];

prop_compose! {
    fn any_event()(
        texts in prop::array::uniform17("|\\PC{1,9}|.{1,9}"),
        message_id in "[a-z0-9-]{1,36}",
        (customer_id, amount_micros) in (any::<i64>(), any::<i64>()),
        (occurred_at_ms, received_at_ms) in (0..4 * HOUR, 0..4 * HOUR),
        (event_type, is_valid, is_test) in (0..6_i32, any::<bool>(), any::<bool>()),
        traffic_flags in vec("[a-c]{1,2}", 0..4),
        parameters in btree_map("\\PC{0,5}", "\\PC{0,5}", 0..4),
    ) -> TrackingEvent {
        let [program_id, checksum, user_agent, program_name, customer_name, visitor_id, click_id, referrer,
            client_ip, transaction_id, currency, invalid_reason, client_event_id, impression_id, event_name,
            status, host] = texts;
        // Some events have no times, as those of the AWS reference.
        let time = |ms: i64| if ms < HOUR { 0 } else { RECEIVED_AT + ms };
        TrackingEvent {
            program_id, checksum, customer_id, user_agent, program_name, customer_name, is_valid, message_id,
            event_type, occurred_at_ms: time(occurred_at_ms), visitor_id, click_id, referrer, client_ip,
            traffic_flags, parameters, transaction_id, amount_micros, currency, invalid_reason,
            received_at_ms: time(received_at_ms), client_event_id, impression_id, event_name, status, is_test, host,
        }
    }
}

/// Batches: Kinesis records with one or more events each.
fn any_batch() -> impl Strategy<Value = Vec<Vec<TrackingEvent>>> {
    vec(vec(any_event(), 1..6), 1..6)
}

fn records(batch: &[Vec<TrackingEvent>]) -> Vec<StreamRecord> {
    let record = |(number, events): (u32, &Vec<TrackingEvent>)| {
        record(number, "key", aggregate("key", events.iter().map(Message::encode_to_vec)))
    };
    (100..).zip(batch).map(record).collect()
}

/// The row of `event`: what the table has, without what is empty, and the event's place.
fn expected(event: &TrackingEvent, record: &StreamRecord, number: usize) -> Row {
    let data = event.encode_to_vec();
    let settings = RowSettings::default();
    let row = TableRow::new(event.clone(), &data, record.arrived_at, Timestamp::MAX, settings);
    let mut row = row.item();
    row.retain(|name, value| {
        !ONLY_IN_TABLE.contains(&name.as_str()) && *value != AttributeValue::S(String::new())
    });
    for (name, value) in [
        ("rank", rank(event.received_at_ms, &data)),
        ("shard", SHARD.to_owned()),
        ("sequence_number", record.sequence_number.clone()),
    ] {
        row.insert(name.to_owned(), AttributeValue::S(value));
    }
    row.insert("sub_sequence_number".to_owned(), AttributeValue::N(number.to_string()));
    row
}

/// Rows by their place in the stream.
fn by_place(rows: Vec<Row>) -> BTreeMap<(String, String), Row> {
    let count = rows.len();
    let place = |row: &Row| {
        let sequence_number = row["sequence_number"].as_s().unwrap().clone();
        (sequence_number, row["sub_sequence_number"].as_n().unwrap().clone())
    };
    let by_place: BTreeMap<_, _> = rows.into_iter().map(|row| (place(&row), row)).collect();
    assert_eq!(by_place.len(), count, "each place once");
    by_place
}

/// The files of a batch that Lambda halves where `halve` says so.
fn bisected(
    records: &[StreamRecord],
    halve: &mut impl FnMut() -> bool,
) -> BTreeMap<String, Vec<Row>> {
    if records.len() > 1 && halve() {
        let (one, other) = records.split_at(records.len() / 2);
        let mut files = bisected(one, halve);
        files.extend(bisected(other, halve));
        return files;
    }
    let raw = batch(records).raw;
    raw.iter().map(|file| (file.path.clone(), rows_of(&file.bytes))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn rows_are_the_events(events in any_batch()) {
        let records = records(&events);

        let batch = batch(&records);

        let mut all = Vec::new();
        for (events, record) in events.iter().zip(&records) {
            all.extend(events.iter().enumerate().map(|(number, event)| expected(event, record, number)));
        }
        prop_assert_eq!(batch.events, all.len());
        prop_assert_eq!(by_place(rows(&batch.raw)), by_place(all));
        for file in &batch.raw {
            for row in rows_of(&file.bytes) {
                let received_at = row["received_at"].as_n().unwrap().parse().unwrap();
                let time = Timestamp::from_millisecond(received_at).unwrap().to_string();
                let folder = format!("raw/dt={}/hour={}/", &time[..10], &time[11..13]);
                prop_assert!(file.path.starts_with(&folder), "{} {}", file.path, time);
            }
        }
    }

    #[test]
    fn the_same_batch_makes_the_same_files(events in any_batch()) {
        let (one, other) = (records(&events), records(&events));

        let (one, other) = (batch(&one), batch(&other));

        prop_assert_eq!(contents(&one.raw), contents(&other.raw));
        prop_assert_eq!(contents(&one.receipts), contents(&other.receipts));
    }

    #[test]
    fn a_bisected_batch_makes_the_same_rows(events in any_batch(), mut halves in vec(any::<bool>(), 8)) {
        let records = records(&events);

        let whole = bisected(&records, &mut || false);
        let parts = bisected(&records, &mut || halves.pop().unwrap_or(true));

        let all = |files: BTreeMap<String, Vec<Row>>| by_place(files.into_values().flatten().collect());
        // Together with the whole batch, as after a moved checkpoint, no file replaces another one.
        if parts.len() > whole.len() {
            prop_assert!(parts.keys().all(|path| !whole.contains_key(path)));
        }
        prop_assert_eq!(all(parts), all(whole));
    }

    #[test]
    fn never_panics(data in vec(vec(any::<u8>(), 0..80), 1..5), arrived_at in any::<i32>()) {
        let record = |(number, data)| StreamRecord {
            arrived_at: Timestamp::from_second(arrived_at.into()).unwrap(),
            ..record(number, "key", data)
        };
        let records: Vec<_> = (0..).zip(data).map(record).collect();
        let _ = Batch::of(&records);
    }
}

#[test]
fn has_the_columns_of_the_contract() {
    let records = [record(1, "key", event("m", RECEIVED_AT).encode_to_vec())];

    let types = types_of(&batch(&records).raw[0].bytes);

    let time = "INT64 Timestamp(TimestampType { is_adjusted_to_u_t_c: true, unit: MILLIS })";
    let texts = [
        "message_id",
        "event_type",
        "program_id",
        "program_name",
        "checksum",
        "customer_name",
        "invalid_reason",
        "visitor_id",
        "click_id",
        "impression_id",
        "client_event_id",
        "transaction_id",
        "event_name",
        "status",
        "currency",
        "host",
        "referrer",
        "user_agent",
        "client_ip",
        "rank",
        "shard",
        "sequence_number",
    ];
    let others = [
        ("received_at", time),
        ("occurred_at", time),
        ("customer_id", "INT64 "),
        ("amount_micros", "INT64 "),
        ("is_valid", "BOOLEAN "),
        ("is_test", "BOOLEAN "),
        ("traffic_flags", "List"),
        ("parameters", "Map"),
        ("sub_sequence_number", "INT32 "),
    ];
    let texts = texts.map(|name| (name, "BYTE_ARRAY String"));
    let expected = texts.into_iter().chain(others);
    let expected = expected.map(|(name, it)| (name.to_owned(), it.to_owned())).collect();
    assert_eq!(types, expected);
}

#[test]
fn an_event_of_the_reference_is_filed_by_its_arrival() {
    let event = TrackingEvent { message_id: "m".into(), ..TrackingEvent::default() };
    let record = StreamRecord {
        arrived_at: Timestamp::from_millisecond(RECEIVED_AT + HOUR).unwrap(),
        ..record(1, "key", event.encode_to_vec())
    };
    let records = [record];

    let batch = batch(&records);

    assert!(batch.raw[0].path.starts_with("raw/dt=2026-01-02/hour=04/"), "{}", batch.raw[0].path);
    let row = &rows(&batch.raw)[0];
    let arrived_at = AttributeValue::N((RECEIVED_AT + HOUR).to_string());
    assert_eq!((&row["received_at"], &row["occurred_at"]), (&arrived_at, &arrived_at));
    assert!(row["rank"].as_s().unwrap().starts_with("0000000000000-"), "as in the table");
    assert_eq!(row.get("is_valid"), None);
}

#[test]
fn absurd_times_are_bounded() {
    for (ms, folder, time) in [
        (i64::MIN, "raw/dt=1970-01-01/hour=00/", 0),
        (i64::MAX, "raw/dt=2286-11-20/hour=17/", 9_999_999_999_999),
    ] {
        let records = [record(1, "key", event("m", ms).encode_to_vec())];

        let batch = batch(&records);

        assert!(batch.raw[0].path.starts_with(folder), "{}", batch.raw[0].path);
        let row = &rows(&batch.raw)[0];
        let time = AttributeValue::N(i64::to_string(&time));
        assert_eq!((&row["received_at"], &row["occurred_at"]), (&time, &time));
    }
}

#[test]
fn the_name_holds_all_sequence_numbers() {
    let record = |number| record(number, "key", event("m", RECEIVED_AT).encode_to_vec());
    let name = |numbers: &[u32]| {
        let records: Vec<_> = numbers.iter().copied().map(record).collect();
        paths(&batch(&records).raw)[0].to_owned()
    };

    let (all, without_2, alone) = (name(&[1, 2, 3]), name(&[1, 3]), name(&[1]));

    // The first 16 digits of `printf '1\n2\n3\n' | sha256sum`.
    assert_eq!(all, format!("raw/dt=2026-01-02/hour=03/{SHARD}-1-3-14c5e74c4b96ccef.parquet"));
    assert!(without_2.contains("-1-3-") && without_2 != all, "{without_2}");
    assert!(alone.contains(&format!("{SHARD}-1-1-")), "{alone}");
    assert_eq!(paths(&batch(&[]).raw), Vec::<&str>::new());
}

#[test]
fn events_that_are_repeated_have_a_row_each() {
    let data = event("m", RECEIVED_AT).encode_to_vec();
    let records =
        [record(1, "key", aggregate("key", [data.clone(), data.clone()])), record(2, "key", data)];

    let rows = rows(&batch(&records).raw);

    let ids: Vec<_> = rows.iter().map(|row| row["message_id"].as_s().unwrap()).collect();
    assert_eq!(ids, ["m", "m", "m"]);
    assert!(rows.iter().all(|row| row["rank"] == rows[0]["rank"]));
}
