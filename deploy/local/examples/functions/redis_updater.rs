//! redis-updater: programs as a data team feeds them, in batches of each size.

use local_stack::RedisServer;
use local_stack::lambda::Record;
use local_stack::ports::Port;
use serde_json::json;

use crate::measure::Bench;
use crate::turns::TurnCounter;
use crate::{Arguments, Error};

/// Programs of a batch. AWS's limit for one is 6 MB, or 10,000 records.
const BATCHES: [usize; 4] = [1, 500, 1_000, 5_000];

pub async fn run(arguments: &Arguments) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await?;
    let counter = TurnCounter::start(redis.address()).await?;
    let failed = format!("file://{}", folder.path().display());
    let mut benches = Vec::new();
    for programs in BATCHES {
        let name = format!("{programs} programs");
        if !name.contains(&arguments.only) {
            continue;
        }
        let start = async |url: String| {
            let environment = [
                ("REDIS_URL", url.as_str()),
                ("FAILED_RECORDS_URL", &failed),
                ("RUST_LOG", "warn"),
            ];
            Bench::start(
                arguments,
                "redis-updater",
                &name,
                programs,
                &(0..programs).map(record).collect::<Vec<_>>(),
                environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
                folder.path(),
            )
            .await
        };
        let counted = start(format!("redis://{}", counter.address)).await?;
        // The first invocation connects.
        counted.invoke().await?;
        let before = counter.turns();
        counted.invoke().await?;
        let turns = counter.turns() - before;
        counted.stop().await;
        benches.push((start(redis.url()).await?, turns));
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
