//! kinesis-consumer: events as the tracker sends them, in batches of different shapes.

use std::path::Path;

use aws_sdk_dynamodb::types::Select;
use local_stack::aws;
use local_stack::lambda::Record;
use local_stack::ports::Port;

use crate::batches::{SHAPES, Shape};
use crate::measure::Bench;
use crate::package::Times;
use crate::{Arguments, Error};

/// Measures the cost of a process that handles the same batch repeatedly, for each shape.
pub async fn cost(arguments: &Arguments) -> Result<(), Error> {
    let dynamodb = aws::dynamodb(Port::Any).await?;
    let client = aws_sdk_dynamodb::Client::new(&aws::sdk_config(&dynamodb.url).await);
    let folder = tempfile::tempdir()?;
    let mut benches = Vec::new();
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(&arguments.only)) {
        let table = format!("bench-{}", benches.len());
        aws::create_table(&client, &table).await?;
        let (records, rows, events) = shape.records(0);
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
        let (records, _, events) = shape.records(0);
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
