//! The body of a `BatchWriteItem` request, written from events without the SDK's form of an item in between: a map
//! of owned texts per row, which took four fifths of the function's CPU (docs/adr/0014-request-body.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::item::{Attributes, Row};

/// Enough for most rows, in bytes.
const BYTES_PER_ROW: usize = 1_024;

/// The JSON of a `BatchWriteItem` that puts `rows`, whose ids differ, into `table`.
pub fn batch_write_item(table: &str, rows: &[&Row]) -> Vec<u8> {
    let mut json = Json(Vec::with_capacity(rows.len() * BYTES_PER_ROW));
    json.raw(br#"{"RequestItems":{"#);
    json.value(table);
    json.raw(b":[");
    for (index, row) in rows.iter().enumerate() {
        json.raw(if index == 0 {
            br#"{"PutRequest":{"Item":{"#
        } else {
            br#",{"PutRequest":{"Item":{"#
        });
        row.write_to(&mut Members { json: &mut json, is_first: true });
        json.raw(b"}}}");
    }
    json.raw(b"]}}");
    json.0
}

struct Json(Vec<u8>);

impl Json {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A text, several, or a whole number.
    #[expect(clippy::expect_used, reason = "neither these nor a Vec can fail")]
    fn value(&mut self, value: impl Serialize) {
        serde_json::to_writer(&mut self.0, &value).expect("JSON into a Vec");
    }
}

/// The members of an item: `"name":{"type":value}`.
struct Members<'a> {
    json: &'a mut Json,
    is_first: bool,
}

impl Members<'_> {
    /// The beginning of a member, up to its value. Names need no escapes.
    fn begin(&mut self, name: &'static str, of_type: &'static [u8]) {
        if !std::mem::take(&mut self.is_first) {
            self.json.raw(b",");
        }
        self.json.raw(b"\"");
        self.json.raw(name.as_bytes());
        self.json.raw(b"\":{\"");
        self.json.raw(of_type);
        self.json.raw(b"\":");
    }
}

impl Attributes for Members<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.begin(name, b"S");
        self.json.value(value);
        self.json.raw(b"}");
    }

    fn number(&mut self, name: &'static str, value: i64) {
        self.begin(name, b"N");
        self.json.raw(b"\"");
        self.json.value(value);
        self.json.raw(b"\"}");
    }

    fn bool(&mut self, name: &'static str, value: bool) {
        self.begin(name, b"BOOL");
        self.json.raw(if value { b"true}" } else { b"false}" });
    }

    fn texts(&mut self, name: &'static str, values: &BTreeSet<&str>) {
        self.begin(name, b"SS");
        self.json.value(values);
        self.json.raw(b"}");
    }

    fn map(&mut self, name: &'static str, values: &BTreeMap<String, String>) {
        self.begin(name, b"M");
        self.json.raw(b"{");
        for (index, (name, value)) in values.iter().enumerate() {
            self.json.raw(if index == 0 { b"" } else { b"," });
            self.json.value(name);
            self.json.raw(br#":{"S":"#);
            self.json.value(value);
            self.json.raw(b"}");
        }
        self.json.raw(b"}}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use adtrack_proto::event::TrackingEvent;
    use aws_sdk_dynamodb::types::AttributeValue;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::item::RowSettings;

    fn settings() -> impl Strategy<Value = RowSettings> {
        any::<(Option<u8>, Option<u8>)>().prop_map(|(days, buckets)| RowSettings {
            ttl_days: days.map(u32::from),
            index_buckets: buckets.map(u32::from),
            ..RowSettings::default()
        })
    }

    prop_compose! {
        fn row()(
            texts in prop::array::uniform12(any::<String>()),
            id in "[a-z0-9]{1,9}|6b0c9a2e-1111-8222-9333-[0-9a-f]{12}",
            (customer_id, amount_micros, received_at_ms, occurred_at_ms) in
                (any::<i64>(), any::<i64>(), 0..4_000_000_000_000_i64, any::<i64>()),
            (event_type, is_valid, is_test) in (0..6_i32, any::<bool>(), any::<bool>()),
            traffic_flags in prop::collection::vec("[a-z]{1,2}|\\PC*", 0..4),
            parameters in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
            settings in settings(),
            click_rank in prop::option::of(any::<String>()),
        ) -> Row {
            let [program_id, checksum, user_agent, program_name, customer_name, click_id, referrer, client_ip,
                transaction_id, event_name, status, host] = texts;
            let event = TrackingEvent {
                program_id, checksum, customer_id, user_agent, program_name, customer_name, is_valid,
                message_id: id, event_type, occurred_at_ms, click_id, referrer, client_ip, traffic_flags,
                parameters, transaction_id, amount_micros, event_name, status, host, is_test, received_at_ms,
                ..TrackingEvent::default()
            };
            let at = |ms| Timestamp::from_millisecond(ms).unwrap();
            let mut row = Row::new(event, b"", at(1), at(2), settings);
            row.click_rank = click_rank;
            row
        }
    }

    /// The SDK's form of a value as the API reference has it in JSON.
    fn as_json(value: &AttributeValue) -> Value {
        let members = |map: &HashMap<String, AttributeValue>| {
            map.iter().map(|(name, value)| (name.clone(), as_json(value))).collect::<Value>()
        };
        match value {
            AttributeValue::S(text) => json!({ "S": text }),
            AttributeValue::N(number) => json!({ "N": number }),
            AttributeValue::Bool(value) => json!({ "BOOL": value }),
            AttributeValue::Ss(texts) => json!({ "SS": texts }),
            AttributeValue::M(map) => json!({ "M": members(map) }),
            other => panic!("rows have no {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn puts_the_items_of_the_rows(table in any::<String>(), rows in prop::collection::vec(row(), 1..4)) {
            let body = batch_write_item(&table, &rows.iter().collect::<Vec<_>>());
            let puts: Vec<Value> = rows
                .iter()
                .map(|row| json!({ "PutRequest": { "Item": as_json(&AttributeValue::M(row.item()))["M"] } }))
                .collect();
            let expected = json!({ "RequestItems": { table: puts } });
            prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        }
    }
}
