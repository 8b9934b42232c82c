//! kinesis-consumer: events as the tracker sends them, in batches of different shapes.

use std::collections::HashSet;
use std::path::Path;

use adtrack_proto::aggregate::Aggregate;
use adtrack_proto::event::{EventType, TrackingEvent};
use aws_sdk_dynamodb::types::Select;
use local_stack::aws;
use local_stack::lambda::Record;
use local_stack::ports::Port;
use prost::Message;
use uuid::Uuid;

use crate::measure::Bench;
use crate::package::Times;
use crate::{Arguments, Error};

/// AWS's limit for the payload of an invocation.
const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
/// Size of the tracker's aggregates.
const AGGREGATE_BYTES: usize = 50 * 1024;
/// More events than fit into a payload.
const UNLIMITED: usize = 30_000;

struct Shape {
    name: &'static str,
    events: usize,
    aggregated: bool,
    /// How many times every event is in the batch.
    copies: usize,
}

const SHAPES: [Shape; 8] = [
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

/// Measures the cost of a process that handles the same batch repeatedly, for each shape.
pub async fn cost(arguments: &Arguments) -> Result<(), Error> {
    let dynamodb = aws::dynamodb(Port::Any).await?;
    let client = aws_sdk_dynamodb::Client::new(&aws::sdk_config(&dynamodb.url).await);
    let folder = tempfile::tempdir()?;
    let mut benches = Vec::new();
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(&arguments.only)) {
        let table = format!("bench-{}", benches.len());
        aws::create_table(&client, &table).await?;
        let (records, rows, events) = shape.records();
        let environment = environment(&dynamodb.url, &table, folder.path());
        let bench = start(arguments, shape, events, &records, environment, folder.path()).await?;
        bench.invoke().await?;
        let stored = count(&client, &table).await?;
        if stored != rows {
            return Err(format!("{}: {stored} rows of {rows}", shape.name).into());
        }
        benches.push((bench, records.len(), rows));
    }
    for _ in 0..arguments.rounds {
        for (bench, ..) in &mut benches {
            bench.turn().await?;
        }
    }
    println!(
        "{:<33} {:>7} {:>6} {:>6} {:>5} {}",
        "kinesis-consumer: a batch",
        "records",
        "events",
        "rows",
        "MB",
        Bench::HEAD
    );
    for (bench, records, rows) in benches {
        let (events, megabytes) = (bench.entries, bench.payload_bytes() as f64 / 1e6);
        let figures = bench.figures()?;
        println!(
            "{:<33} {records:>7} {events:>6} {rows:>6} {megabytes:>5.2} {figures}",
            bench.name
        );
        bench.stop().await;
    }
    Ok(())
}

/// Measures how fast new processes of the function start, with a batch of each shape.
pub async fn package(arguments: &Arguments) -> Result<(), Error> {
    let dynamodb = aws::dynamodb(Port::Any).await?;
    let client = aws_sdk_dynamodb::Client::new(&aws::sdk_config(&dynamodb.url).await);
    let folder = tempfile::tempdir()?;
    println!("{:<33} {:>7} {:>6} {}", "kinesis-consumer", "records", "events", Times::HEAD);
    let shapes = SHAPES.iter().filter(|shape| shape.name.contains(&arguments.only));
    for (number, shape) in shapes.enumerate() {
        let table = format!("bench-{number}");
        aws::create_table(&client, &table).await?;
        let (records, _, events) = shape.records();
        let mut times = Times::default();
        for _ in 0..arguments.rounds {
            let environment = environment(&dynamodb.url, &table, folder.path());
            times
                .add(start(arguments, shape, events, &records, environment, folder.path()).await?)
                .await?;
        }
        println!("{:<33} {:>7} {events:>6} {}", shape.name, records.len(), times.figures());
    }
    Ok(())
}

async fn start(
    arguments: &Arguments,
    shape: &Shape,
    events: usize,
    records: &[Record],
    environment: Vec<(String, String)>,
    folder: &Path,
) -> Result<Bench, Error> {
    let function = "kinesis-consumer";
    Bench::start(arguments, function, shape.name, events, records, environment, folder).await
}

fn environment(dynamodb: &str, table: &str, folder: &Path) -> Vec<(String, String)> {
    [
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb),
        ("AWS_REGION", aws::REGION),
        ("AWS_ACCESS_KEY_ID", aws::DUMMY_CREDENTIAL),
        ("AWS_SECRET_ACCESS_KEY", aws::DUMMY_CREDENTIAL),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("TABLE_NAME", table),
        ("EVENT_TTL_DAYS", "90"),
        ("INDEX_BUCKETS", "16"),
        ("FAILED_RECORDS_URL", &format!("file://{}", folder.display())),
        ("RUST_LOG", "warn"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

async fn count(client: &aws_sdk_dynamodb::Client, table: &str) -> Result<usize, Error> {
    let (mut rows, mut start) = (0, None);
    loop {
        let scan = client.scan().table_name(table).select(Select::Count);
        let page = scan.set_exclusive_start_key(start).send().await?;
        rows += usize::try_from(page.count)?;
        start = page.last_evaluated_key;
        if start.is_none() {
            return Ok(rows);
        }
    }
}

impl Shape {
    /// The records of a batch, the number of rows they become, and the number of events in them.
    fn records(&self) -> (Vec<Record>, usize, usize) {
        let mut records: Vec<Record> = Vec::new();
        let (mut bytes, mut ids, mut events) = (0, HashSet::new(), 0);
        let distinct: Vec<_> = (0..self.events / self.copies).map(event).collect();
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
                sequence_number: format!("4966{:052}", records.len()),
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

/// An event as the tracker records it.
fn event(number: usize) -> TrackingEvent {
    TrackingEvent {
        program_id: format!("2123{:02}", number % 20),
        program_name: "Autumn campaign".into(),
        checksum: "124".into(),
        customer_id: 9_124,
        customer_name: "Customer2".into(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".into(),
        is_valid: true,
        message_id: Uuid::now_v7().to_string(),
        event_type: EventType::Event.into(),
        occurred_at_ms: 1_767_323_045_678,
        received_at_ms: 1_767_323_045_678,
        host: "track.example".into(),
        ..TrackingEvent::default()
    }
}
