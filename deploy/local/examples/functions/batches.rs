//! Batches of events in different shapes, as the tracker sends them.

use std::collections::HashSet;

use adtrack_proto::aggregate::Aggregate;
use adtrack_proto::event::{EventType, TrackingEvent};
use local_stack::lambda::Record;
use prost::Message;
use uuid::Uuid;

/// AWS's limit for the payload of an invocation.
const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// Size of the tracker's aggregates.
const AGGREGATE_BYTES: usize = 50 * 1024;
/// More events than fit into a payload.
const UNLIMITED: usize = 30_000;
/// Programs of the events.
const PROGRAMS: f64 = 10_000.0;

/// A shape of a batch.
pub struct Shape {
    pub name: &'static str,
    events: usize,
    aggregated: bool,
    /// How many times every event is in the batch.
    copies: usize,
}

pub const SHAPES: [Shape; 8] = [
    Shape { name: "plain, 100", events: 100, aggregated: false, copies: 1 },
    Shape { name: "plain, 1,000", events: 1_000, aggregated: false, copies: 1 },
    Shape { name: "plain, as many as 6 MB hold", events: 10_000, aggregated: false, copies: 1 },
    Shape { name: "aggregated, 100", events: 100, aggregated: true, copies: 1 },
    Shape { name: "aggregated, 1,000", events: 1_000, aggregated: true, copies: 1 },
    Shape { name: "aggregated, 10,000, once", events: 10_000, aggregated: true, copies: 1 },
    Shape { name: "aggregated, 10,000, each twice", events: 10_000, aggregated: true, copies: 2 },
    Shape {
        name: "aggregated, as many as 6 MB hold",
        events: UNLIMITED,
        aggregated: true,
        copies: 1,
    },
];

impl Shape {
    /// The records of batch `number`, the number of rows they become, and the number of events in them.
    pub fn records(&self, number: usize) -> (Vec<Record>, usize, usize) {
        let mut records: Vec<Record> = Vec::new();
        let (mut bytes, mut ids, mut events) = (0, HashSet::new(), 0);
        let distinct: Vec<_> =
            (0..self.events / self.copies).map(|index| event(number * UNLIMITED + index)).collect();
        let mut distinct = distinct.iter().cycle();
        let per_record = if self.aggregated { AGGREGATE_BYTES } else { 1 };
        while events < self.events {
            let mut aggregate = Aggregate::default();
            let mut in_record = Vec::new();
            while aggregate.bytes() < per_record && events + in_record.len() < self.events {
                let Some(event) = distinct.next() else { break };
                aggregate.push(event.encode_to_vec().into());
                in_record.push(event.message_id.clone());
            }
            let partition_key = Uuid::now_v7().to_string();
            let record = Record {
                sequence_number: format!("4966{number:012}{:040}", records.len()),
                data: aggregate.encode(&partition_key),
                partition_key,
                arrived_at: 1_767_323_046.5,
            };
            bytes += record.payload_bytes();
            if bytes > MAX_PAYLOAD_BYTES {
                break;
            }
            records.push(record);
            events += in_record.len();
            ids.extend(in_record);
        }
        (records, ids.len(), events)
    }
}

/// An event as the tracker records it in a load test: 10,000 programs by Zipf's law, a few user agents, about 4,000
/// events per second in a shard.
fn event(number: usize) -> TrackingEvent {
    let program = PROGRAMS.powf(fastrand::f64()) as usize;
    let version = fastrand::u8(138..141);
    let received_at_ms = 1_767_323_045_678 + number as i64 / 4;
    TrackingEvent {
        program_id: format!("{:06}", 200_000 + program),
        program_name: format!("Campaign {program:06}"),
        checksum: format!("{:03}", program % 1_000),
        customer_id: 9_000 + program as i64 % 7_000,
        customer_name: format!("Cust{:05}", program % 7_000),
        user_agent: format!(
            "Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
        ),
        is_valid: true,
        message_id: uuid_v7(received_at_ms),
        event_type: EventType::Event.into(),
        occurred_at_ms: received_at_ms,
        received_at_ms,
        host: "track.example".into(),
        ..TrackingEvent::default()
    }
}

/// A UUID of version 7 whose other bits are random.
fn uuid_v7(ms: i64) -> String {
    let time = (ms as u128) << 80;
    let random = fastrand::u128(..) & !(u128::MAX << 80);
    uuid::Builder::from_u128(time | random)
        .with_variant(uuid::Variant::RFC4122)
        .with_version(uuid::Version::SortRand)
        .into_uuid()
        .to_string()
}
