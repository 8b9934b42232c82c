//! Converts an event to its row. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use adtrack_proto::event::{EventType, TrackingEvent};
use adtrack_proto::message_id::other_message_ids;
use adtrack_proto::rank::rank;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

/// A row: attribute names and values.
pub type Item = HashMap<String, AttributeValue>;

/// The attribute with the rank of the copy that a row keeps.
pub const RANK: &str = "rank";
/// The attribute with the rank of the copy whose click id a row took over.
pub const CLICK_RANK: &str = "click_rank";

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// The attributes that rows have in addition to the event's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowSettings {
    /// Days until a row expires; `None` for never.
    pub ttl_days: Option<u32>,
    /// Partitions of a program's hour in the index `by-program`; `None` if rows are not in it.
    pub index_buckets: Option<u32>,
    /// Until when conversions are also looked for under the ids that earlier trackers gave them; `None` for
    /// never.
    pub earlier_ids_until: Option<Timestamp>,
}

/// 2027-03-01T00:00:00Z: until then, a conversion is also looked for under the ids of earlier trackers, so that
/// a postback that is repeated across the roll-out is paid once. A deployment that is upgraded by the end of
/// January has the 30 days within which networks repeat postbacks (docs/adr/0012-first-by-rank.md).
pub const EARLIER_IDS_UNTIL: Timestamp = Timestamp::constant(1_803_859_200, 0);

/// The initial capacity of an item: more attributes than most events have, and as many as a `HashMap`
/// with 32 buckets holds.
const INITIAL_CAPACITY: usize = 28;

/// The length of a UUID as text.
const UUID_TEXT_BYTES: usize = 36;
/// The index of the UUID's version digit.
const UUID_VERSION_INDEX: usize = 14;

/// An event, and everything else that its row is made from.
#[derive(Debug)]
pub struct Row {
    /// The event.
    pub event: TrackingEvent,
    /// When Kinesis received it.
    pub arrived_at: Timestamp,
    /// When it is stored.
    pub stored_at: Timestamp,
    /// Whether it expires, and whether it is in the index `by-program`.
    pub settings: RowSettings,
    /// Orders the copies of the event; empty if the row is not written once.
    pub(crate) rank: String,
    /// The rank of the copy whose click id the event took over.
    pub(crate) click_rank: Option<String>,
}

impl Row {
    /// The row of `event`, which came from the stream as `bytes`.
    pub fn new(
        event: TrackingEvent,
        bytes: &[u8],
        arrived_at: Timestamp,
        stored_at: Timestamp,
        settings: RowSettings,
    ) -> Self {
        let mut row =
            Self { event, arrived_at, stored_at, settings, rank: String::new(), click_rank: None };
        if row.is_written_once() {
            row.rank = rank(row.event.received_at_ms, bytes);
        }
        row
    }

    /// The row's key in the table.
    pub fn id(&self) -> &str {
        &self.event.message_id
    }

    /// Whether the id is a hash of data from the client (a UUID of version 8, RFC 9562). Of events with
    /// the same such id, the first is kept.
    pub fn is_written_once(&self) -> bool {
        let id = self.id().as_bytes();
        id.len() == UUID_TEXT_BYTES && id[UUID_VERSION_INDEX] == b'8'
    }

    /// The other keys under which the table may have the event, a conversion, from before the roll-out of
    /// today's ids.
    pub fn other_ids(&self) -> Vec<String> {
        match self.settings.earlier_ids_until {
            Some(until) if self.stored_at < until => other_message_ids(&self.event),
            _ => Vec::new(),
        }
    }

    /// The row in the SDK's form.
    pub fn item(&self) -> Item {
        self.item_under(self.id())
    }

    /// The same with the key `id`, which another copy of the event has.
    pub(crate) fn item_under(&self, id: &str) -> Item {
        let mut item = Item::with_capacity(INITIAL_CAPACITY);
        write_attributes(self, id, &mut item);
        item
    }

    /// Passes the row's attributes to `out`.
    pub(crate) fn write_to(&self, out: &mut impl Attributes) {
        write_attributes(self, self.id(), out);
    }
}

/// What takes the attributes of a row, in one of DynamoDB's forms: the SDK's, or the JSON of a request.
pub(crate) trait Attributes {
    fn text(&mut self, name: &'static str, value: &str);
    fn number(&mut self, name: &'static str, value: i64);
    fn bool(&mut self, name: &'static str, value: bool);
    /// A set of texts, which is not empty.
    fn texts(&mut self, name: &'static str, values: &BTreeSet<&str>);
    fn map(&mut self, name: &'static str, values: &BTreeMap<String, String>);
}

/// Passes the attributes of a row to `out`, under the key `id`.
fn write_attributes(row: &Row, id: &str, out: &mut impl Attributes) {
    let Row { event, arrived_at, stored_at, settings, .. } = row;
    out.text("id", id);
    write_event_attributes(event, id, *arrived_at, out);
    out.number("stored_at", stored_at.as_millisecond());
    // Counted from when the event was received, so that a replay does not extend the row's life.
    if let Some(days) = settings.ttl_days {
        let received_at = or_arrival(event.received_at_ms, *arrived_at);
        out.number("expires_at", received_at / 1_000 + i64::from(days) * SECONDS_PER_DAY);
    }
    if let Some(buckets) = settings.index_buckets {
        let occurred_at = or_arrival(event.occurred_at_ms, *arrived_at);
        let bucket = program_bucket(&event.program_id, occurred_at, id, buckets);
        out.text("program_bucket", &bucket);
    }
    if row.is_written_once() {
        out.text(RANK, &row.rank);
        if let Some(rank) = &row.click_rank {
            out.text(CLICK_RANK, rank);
        }
    }
}

/// Passes what the table and the archive have of an event to `out`.
pub(crate) fn write_event_attributes(
    event: &TrackingEvent,
    message_id: &str,
    arrived_at: Timestamp,
    out: &mut impl Attributes,
) {
    out.text("message_id", message_id);
    out.text("program_id", &event.program_id);
    out.text("program_name", &event.program_name);
    out.text("checksum", &event.checksum);
    out.number("customer_id", event.customer_id);
    out.text("customer_name", &event.customer_name);
    out.text("user_agent", &event.user_agent);
    out.text("event_type", event.event_type().name());
    out.number("occurred_at", or_arrival(event.occurred_at_ms, arrived_at));
    out.number("received_at", or_arrival(event.received_at_ms, arrived_at));
    // The reference never sets is_valid, so false would mean nothing.
    if event.event_type != i32::from(EventType::Unspecified) {
        out.bool("is_valid", event.is_valid);
    }
    for (name, value) in optional_texts(event) {
        if !value.is_empty() {
            out.text(name, value);
        }
    }
    if !event.traffic_flags.is_empty() {
        // DynamoDB rejects a string set with duplicates.
        out.texts("traffic_flags", &event.traffic_flags.iter().map(String::as_str).collect());
    }
    if !event.parameters.is_empty() {
        out.map("parameters", &event.parameters);
    }
    if event.amount_micros != 0 {
        out.number("amount_micros", event.amount_micros);
    }
    if event.is_test {
        out.bool("is_test", true);
    }
}

/// A time of an event in milliseconds. An event without times, as the AWS reference writes it, gets the time at which
/// Kinesis received it, so that a replay makes the same row.
pub(crate) fn or_arrival(ms: i64, arrived_at: Timestamp) -> i64 {
    if ms == 0 { arrived_at.as_millisecond() } else { ms }
}

impl Attributes for Item {
    fn text(&mut self, name: &'static str, value: &str) {
        self.insert(name.into(), AttributeValue::S(value.into()));
    }

    fn number(&mut self, name: &'static str, value: i64) {
        self.insert(name.into(), AttributeValue::N(value.to_string()));
    }

    fn bool(&mut self, name: &'static str, value: bool) {
        self.insert(name.into(), AttributeValue::Bool(value));
    }

    fn texts(&mut self, name: &'static str, values: &BTreeSet<&str>) {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.insert(name.into(), AttributeValue::Ss(values));
    }

    fn map(&mut self, name: &'static str, values: &BTreeMap<String, String>) {
        let value = |value: &String| AttributeValue::S(value.clone());
        let values = values.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        self.insert(name.into(), AttributeValue::M(values));
    }
}

/// Attributes that a row has only if they are not empty.
fn optional_texts(event: &TrackingEvent) -> [(&'static str, &str); 12] {
    [
        ("visitor_id", &event.visitor_id),
        ("click_id", &event.click_id),
        ("impression_id", &event.impression_id),
        ("referrer", &event.referrer),
        ("client_ip", &event.client_ip),
        ("host", &event.host),
        ("transaction_id", &event.transaction_id),
        ("event_name", &event.event_name),
        ("status", &event.status),
        ("currency", &event.currency),
        ("invalid_reason", &event.invalid_reason),
        ("client_event_id", &event.client_event_id),
    ]
}

/// The partition key of the index `by-program`: `{program}#{UTC hour}#{bucket}`, such as
/// `212313#2026-01-02T03#7`. One partition takes about 1,000 writes per second, and several buckets may
/// share one. So a program's hour is spread over `buckets` keys; readers query all of them. The bucket is the
/// CRC-32 of the message id modulo `buckets`, so that a replay goes to the same bucket.
fn program_bucket(program_id: &str, occurred_at: i64, message_id: &str, buckets: u32) -> String {
    // Only absurd times do not fit in a `Timestamp`.
    let time = Timestamp::from_millisecond(occurred_at).unwrap_or_default().to_string();
    let hour = time.get(..13).unwrap_or_default();
    let bucket = crc32fast::hash(message_id.as_bytes()) % buckets.max(1);
    format!("{program_id}#{hour}#{bucket}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn names(item: &Item) -> Vec<&str> {
        let mut names: Vec<_> = item.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn writes_every_attribute() {
        let event = TrackingEvent {
            program_id: "p".into(),
            checksum: "c".into(),
            customer_id: -5,
            user_agent: "u".into(),
            program_name: "n".into(),
            customer_name: "cn".into(),
            is_valid: false,
            message_id: "m".into(),
            event_type: EventType::Conversion.into(),
            occurred_at_ms: 86_400_000,
            visitor_id: "v".into(),
            click_id: "ci".into(),
            referrer: "r".into(),
            client_ip: "192.0.2.0".into(),
            traffic_flags: vec!["bot".into(), "prefetch".into(), "bot".into()],
            parameters: BTreeMap::from([("a".into(), String::new())]),
            transaction_id: "t".into(),
            amount_micros: -1,
            currency: "EUR".into(),
            invalid_reason: "program_ended".into(),
            received_at_ms: 86_400_999,
            client_event_id: "ce".into(),
            impression_id: "i".into(),
            event_name: "sale".into(),
            status: "refunded".into(),
            is_test: true,
            host: "h".into(),
        };
        let settings =
            RowSettings { ttl_days: Some(2), index_buckets: Some(1), ..RowSettings::default() };
        let item = Row::new(event, b"", at(1), at(99), settings).item();
        let s = |value: &str| AttributeValue::S(value.into());
        let n = |value: &str| AttributeValue::N(value.into());
        let expected = Item::from([
            ("id".into(), s("m")),
            ("message_id".into(), s("m")),
            ("program_id".into(), s("p")),
            ("program_name".into(), s("n")),
            ("checksum".into(), s("c")),
            ("customer_id".into(), n("-5")),
            ("customer_name".into(), s("cn")),
            ("user_agent".into(), s("u")),
            ("is_valid".into(), AttributeValue::Bool(false)),
            ("event_type".into(), s("conversion")),
            ("occurred_at".into(), n("86400000")),
            ("received_at".into(), n("86400999")),
            ("stored_at".into(), n("99")),
            ("expires_at".into(), n("259200")),
            ("program_bucket".into(), s("p#1970-01-02T00#0")),
            ("visitor_id".into(), s("v")),
            ("click_id".into(), s("ci")),
            ("impression_id".into(), s("i")),
            ("referrer".into(), s("r")),
            ("client_ip".into(), s("192.0.2.0")),
            ("host".into(), s("h")),
            ("traffic_flags".into(), AttributeValue::Ss(vec!["bot".into(), "prefetch".into()])),
            ("parameters".into(), AttributeValue::M(Item::from([("a".into(), s(""))]))),
            ("transaction_id".into(), s("t")),
            ("event_name".into(), s("sale")),
            ("status".into(), s("refunded")),
            ("amount_micros".into(), n("-1")),
            ("currency".into(), s("EUR")),
            ("invalid_reason".into(), s("program_ended")),
            ("client_event_id".into(), s("ce")),
            ("is_test".into(), AttributeValue::Bool(true)),
        ]);
        assert_eq!(item, expected);
    }

    #[test]
    fn only_an_id_from_a_client_is_written_once_and_ranked() {
        for (id, is_written_once) in [
            ("6b0c9a2e-1111-8222-9333-444455556666", true),
            ("06bc2944-886c-4e56-907c-fa248c8af023", false),
            ("019b7ca9-8f2e-7707-8707-070707070707", false),
            ("m", false),
        ] {
            let event = TrackingEvent {
                message_id: id.into(),
                received_at_ms: 1_767_323_045_678,
                ..TrackingEvent::default()
            };
            let row = Row::new(event, b"abc", at(1), at(2), RowSettings::default());
            assert_eq!(row.is_written_once(), is_written_once, "{id}");
            let rank =
                is_written_once.then(|| AttributeValue::S("1767323045678-ba7816bf8f01cfea".into()));
            assert_eq!(row.item().get("rank"), rank.as_ref(), "{id}");
        }
    }

    #[test]
    fn looks_for_earlier_ids_until_the_date() {
        let sale = TrackingEvent {
            program_id: "212313".into(),
            message_id: "40532859-15ba-8d09-847a-71593aeda39d".into(),
            event_type: EventType::Conversion.into(),
            event_name: "sale".into(),
            transaction_id: "t-1".into(),
            status: "approved".into(),
            ..TrackingEvent::default()
        };
        for (until, ids) in [(None, 0), (Some(at(2)), 0), (Some(at(3)), 1)] {
            let settings = RowSettings { earlier_ids_until: until, ..RowSettings::default() };
            let row = Row::new(sale.clone(), b"", at(1), at(2), settings);
            assert_eq!(row.other_ids().len(), ids, "{until:?}");
        }
        assert_eq!(EARLIER_IDS_UNTIL.to_string(), "2027-03-01T00:00:00Z");
    }

    #[test]
    fn event_of_the_reference_has_no_validity_and_its_arrival_time() {
        let event = TrackingEvent { message_id: "m".into(), ..TrackingEvent::default() };
        let settings = RowSettings::default();
        let item = Row::new(event, b"", at(1_000), at(2_000), settings).item();
        assert_eq!(
            names(&item),
            [
                "checksum",
                "customer_id",
                "customer_name",
                "event_type",
                "id",
                "message_id",
                "occurred_at",
                "program_id",
                "program_name",
                "received_at",
                "stored_at",
                "user_agent"
            ]
        );
        assert_eq!(item["event_type"], AttributeValue::S("unspecified".into()));
        assert_eq!(item["occurred_at"], AttributeValue::N("1000".into()));
        assert_eq!(item["received_at"], AttributeValue::N("1000".into()));
    }

    #[test]
    fn spreads_a_programs_hour_evenly_over_its_buckets() {
        const EVENTS: usize = 10_000;
        let mut counts = HashMap::<String, usize>::new();
        for number in 0..EVENTS {
            let id = format!("019b7ca9-8f2e-7707-8707-{number:012}");
            let bucket = program_bucket("212313", 1_767_323_045_678, &id, 16);
            assert_eq!(bucket, program_bucket("212313", 1_767_323_045_678, &id, 16));
            assert!(bucket.starts_with("212313#2026-01-02T03#"), "{bucket}");
            *counts.entry(bucket).or_default() += 1;
        }
        assert_eq!(counts.len(), 16);
        let even = EVENTS / 16;
        assert!(counts.values().all(|count| (even * 8 / 10..even * 12 / 10).contains(count)));
        assert_eq!(program_bucket("p", i64::MIN, "m", 0), "p#1970-01-01T00#0", "no panic");
    }
}
