//! archiver: events as the tracker sends them, in batches of different shapes.

use std::path::Path;

use local_stack::aws;

use crate::batches::{SHAPES, Shape};
use crate::measure::Bench;
use crate::package::Times;
use crate::{Arguments, Error};

/// Measures the cost of a process that handles the same batch repeatedly, for each shape, and the size of its files.
pub async fn cost(arguments: &Arguments) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let mut benches = Vec::new();
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(&arguments.only)) {
        let archive = folder.path().join(benches.len().to_string());
        let (bench, records) = start(arguments, shape, &archive).await?;
        bench.invoke().await?;
        let bytes = size(&archive.join("raw"))? + size(&archive.join("receipts"))?;
        benches.push((bench, records, bytes));
    }
    for _ in 0..arguments.rounds {
        for (bench, ..) in &mut benches {
            bench.turn().await?;
        }
    }
    println!(
        "{:<33} {:>7} {:>6} {:>12} {:>5} {}",
        "archiver: a batch",
        "records",
        "events",
        "bytes/event",
        "MB",
        Bench::HEAD
    );
    for (bench, records, bytes) in benches {
        let (events, megabytes) = (bench.entries, bench.payload_bytes() as f64 / 1e6);
        let bytes = bytes as f64 / events as f64;
        let figures = bench.figures()?;
        println!(
            "{:<33} {records:>7} {events:>6} {bytes:>12.1} {megabytes:>5.2} {figures}",
            bench.name
        );
        bench.stop().await;
    }
    Ok(())
}

/// Measures how fast new processes of the function start, with a batch of each shape.
pub async fn package(arguments: &Arguments) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    println!("{:<33} {:>7} {:>6} {}", "archiver", "records", "events", Times::HEAD);
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(&arguments.only)) {
        let mut times = Times::default();
        let (mut records, mut events) = (0, 0);
        for _ in 0..arguments.rounds {
            let (bench, count) = start(arguments, shape, folder.path()).await?;
            (records, events) = (count, bench.entries);
            times.add(bench).await?;
        }
        println!("{:<33} {records:>7} {events:>6} {}", shape.name, times.figures());
    }
    Ok(())
}

/// Measures the size of an archive of as many batches as there are rounds, all of them different and full.
pub async fn size_of_archive(arguments: &Arguments) -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let shape = &SHAPES[SHAPES.len() - 1];
    let (mut bench, _) = start(arguments, shape, folder.path()).await?;
    let mut events = 0;
    for number in 0..arguments.rounds as usize {
        let (records, _, count) = shape.records(number);
        bench.replace_batch(&records, count);
        bench.invoke().await?;
        events += count;
    }
    println!(
        "{:<33} {:>8} {:>10} {:>9} {:>12}",
        "archiver: an archive", "batches", "events", "MB", "bytes/event"
    );
    for kind in ["raw", "receipts"] {
        let bytes = size(&folder.path().join(kind))? as f64;
        println!(
            "{kind:<33} {:>8} {events:>10} {:>9.1} {:>12.2}",
            arguments.rounds,
            bytes / 1e6,
            bytes / events as f64
        );
    }
    bench.stop().await;
    Ok(())
}

/// A process for the batch, and the number of records in it.
async fn start(
    arguments: &Arguments,
    shape: &Shape,
    archive: &Path,
) -> Result<(Bench, usize), Error> {
    let (records, _, events) = shape.records(0);
    let environment = [
        ("AWS_REGION", aws::REGION),
        ("ARCHIVE_URL", &format!("file://{}", archive.display())),
        ("FAILED_RECORDS_URL", &format!("file://{}", archive.join("failed").display())),
        ("RUST_LOG", "warn"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let bench =
        Bench::start(arguments, "archiver", shape.name, events, &records, environment, archive)
            .await?;
    Ok((bench, records.len()))
}

/// Bytes of all files below `folder`.
fn size(folder: &Path) -> Result<u64, Error> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        bytes += if is_folder { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
