//! redis-updater: programs as a data team sends them, in batches of different sizes.

use std::path::Path;

use local_stack::RedisServer;
use local_stack::lambda::Record;
use local_stack::ports::Port;
use serde_json::json;

use crate::measure::Bench;
use crate::package::Times;
use crate::turns::TurnCounter;
use crate::{Arguments, Error};

/// Programs per batch. AWS's limit for a batch is 6 MB or 10,000 records.
const BATCHES: [usize; 4] = [1, 500, 1_000, 5_000];

/// Programs per batch for the package report.
const PACKAGE_BATCHES: [usize; 3] = [100, 1_000, 5_000];

/// Measures the cost of a process that handles the same batch repeatedly, for each size.
pub async fn cost(arguments: &Arguments) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await?;
    let counter = TurnCounter::start(redis.address()).await?;
    let mut benches = Vec::new();
    for programs in BATCHES {
        if !name(programs).contains(&arguments.only) {
            continue;
        }
        let counted_url = format!("redis://{}", counter.address);
        let counted = start(arguments, programs, &counted_url, folder.path()).await?;
        // The first invocation connects.
        counted.invoke().await?;
        let before = counter.turns();
        counted.invoke().await?;
        let turns = counter.turns() - before;
        counted.stop().await;
        benches.push((start(arguments, programs, &redis.url(), folder.path()).await?, turns));
    }
    for _ in 0..arguments.rounds {
        for (bench, _) in &mut benches {
            bench.turn().await?;
        }
    }
    println!("{:<34} {}  {:>11}", "redis-updater: a batch", Bench::HEAD, "round trips");
    for (bench, turns) in benches {
        println!("{:<34} {}  {turns:>11}", bench.name, bench.figures()?);
        bench.stop().await;
    }
    Ok(())
}

/// Measures how fast new processes of the function start, with a batch of each size.
pub async fn package(arguments: &Arguments) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await?;
    println!("{:<33} {:>14} {}", "redis-updater", "records", Times::HEAD);
    for programs in PACKAGE_BATCHES {
        let mut times = Times::default();
        for _ in 0..arguments.rounds {
            times.add(start(arguments, programs, &redis.url(), folder.path()).await?).await?;
        }
        println!("{:<33} {programs:>14} {}", name(programs), times.figures());
    }
    Ok(())
}

fn name(programs: usize) -> String {
    format!("{programs} programs")
}

async fn start(
    arguments: &Arguments,
    programs: usize,
    redis: &str,
    folder: &Path,
) -> Result<Bench, Error> {
    let environment = [
        ("REDIS_URL", redis),
        ("FAILED_RECORDS_URL", &format!("file://{}", folder.display())),
        ("RUST_LOG", "warn"),
    ];
    Bench::start(
        arguments,
        "redis-updater",
        &name(programs),
        programs,
        &(0..programs).map(record).collect::<Vec<_>>(),
        environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        folder,
    )
    .await
}

fn record(number: usize) -> Record {
    let program = json!({
        "programId": format!("bench-{number}"), "programName": "Autumn campaign",
        "checksum": "124", "customerId": 9_124, "customerName": "Customer2", "valid": true,
        "validFrom": "2026-01-01T00:00:00Z", "validUntil": "2030-01-01T00:00:00Z",
        "landingUrl": "https://shop.example/p/2?click={click_id}",
        "allowedHosts": ["shop.example"],
    });
    Record {
        sequence_number: format!("4966{number:052}"),
        partition_key: format!("bench-{number}"),
        data: program.to_string().into_bytes(),
        arrived_at: 1_767_323_046.5,
    }
}
