//! `core-data verify`: compares a file with what Redis holds.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use adtrack_proto::program::{CoreData, Update};
use adtrack_proto::{ProgramId, Version};
use adtrack_runtime::output;
use indicatif::HumanCount;

use super::arguments::VerifyArguments;
use super::exit::{Exit, Failure};
use super::get::no_core_data;
use super::redis::{Reader, Redis, StoredValue};
use super::spool::{self, Spool, SpooledRecord};

/// Programs per round trip.
const READS_PER_PIPELINE: usize = 500;
/// The time between two comparisons of the programs that differ.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// The description of a program that Redis does not hold.
const MISSING: &str = "missing";

/// A program that differs from the file's record.
struct Difference {
    expected: SpooledRecord,
    description: String,
}

/// Compares, waits for updates in transit and lists the differences.
pub async fn run(arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let spool = Spool::fill(&arguments.input).await?;
    output::line(format_args!("{}: {}", spool::name(&arguments.input.file), spool.counts));
    let redis = Redis::new(&arguments.redis)?;
    let mut reader = redis.connect().await?;
    let give_up_at = Instant::now() + arguments.wait;
    let (programs, mut differences) = compare_all(&spool, &mut reader).await?;
    while !differences.is_empty() && Instant::now() < give_up_at {
        tokio::time::sleep(WAIT_INTERVAL).await;
        let expected: Vec<_> =
            differences.into_iter().map(|difference| difference.expected).collect();
        differences = Vec::new();
        for chunk in expected.chunks(READS_PER_PIPELINE) {
            compare(chunk.to_vec(), &mut reader, &mut differences).await?;
        }
    }
    let is_all_missing = programs > 0
        && differences.len() == programs
        && differences.iter().all(|difference| difference.description == MISSING);
    if is_all_missing && !reader.holds_core_data().await? {
        return Err(Failure::new(Exit::Differs, no_core_data()));
    }
    report(programs, &differences)
}

/// Compares the last record of each program. Returns the number of programs and the differences.
async fn compare_all(
    spool: &Spool,
    reader: &mut Reader<'_>,
) -> Result<(usize, Vec<Difference>), Failure> {
    let mut last = HashMap::new();
    for (number, record) in spool.records().enumerate() {
        last.insert(record?.program_id, number);
    }
    let mut differences = Vec::new();
    let mut chunk = Vec::with_capacity(READS_PER_PIPELINE);
    for (number, record) in spool.records().enumerate() {
        let record = record?;
        if last.get(&record.program_id) == Some(&number) {
            chunk.push(record);
        }
        if chunk.len() == READS_PER_PIPELINE {
            compare(std::mem::take(&mut chunk), reader, &mut differences).await?;
        }
    }
    compare(chunk, reader, &mut differences).await?;
    Ok((last.len(), differences))
}

async fn compare(
    chunk: Vec<SpooledRecord>,
    reader: &mut Reader<'_>,
    differences: &mut Vec<Difference>,
) -> Result<(), Failure> {
    let program_ids: Vec<ProgramId> =
        chunk.iter().map(|record| record.program_id.clone()).collect();
    let stored = reader.read(&program_ids).await?;
    for (expected, stored) in chunk.into_iter().zip(stored) {
        let core_data = CoreData::from_json(expected.json.as_bytes())
            .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        if let Some(description) = describe_difference(&core_data, &stored) {
            differences.push(Difference { expected, description });
        }
    }
    Ok(())
}

/// Describes the difference; `None` if there is none. A deleted program that Redis does not hold is
/// equal, because tombstones expire.
fn describe_difference(expected: &CoreData, stored: &StoredValue) -> Option<String> {
    match (expected, stored) {
        (CoreData::Deleted(_), StoredValue::Nothing) => None,
        (CoreData::Program(_), StoredValue::Nothing) => Some(MISSING.to_owned()),
        (_, StoredValue::Unreadable(problem)) => Some(format!("unreadable: {problem}")),
        (_, StoredValue::Update(stored)) => {
            let version = &stored.version;
            match (expected, &stored.core_data) {
                (CoreData::Deleted(_), CoreData::Deleted(_)) => None,
                (CoreData::Deleted(_), CoreData::Program(_)) => {
                    Some(format!("deleted in the file, held in Redis (version {version})"))
                }
                (CoreData::Program(_), CoreData::Deleted(_)) => {
                    Some(format!("deleted in Redis (version {version})"))
                }
                _ if *expected == stored.core_data => None,
                _ => Some(describe_members(expected, stored)),
            }
        }
    }
}

/// Lists the members that differ.
fn describe_members(expected: &CoreData, stored: &Update) -> String {
    let fields = |core_data: &CoreData| -> BTreeMap<&'static str, String> {
        let update = Update { version: Version::zero(), core_data: core_data.clone() };
        update.to_hash().into_iter().collect()
    };
    let (in_file, in_redis) = (fields(expected), fields(&stored.core_data));
    let mut text = format!("different (version {}):", stored.version);
    let show = |value: Option<&String>| value.map_or("nothing".to_owned(), |v| format!("{v:?}"));
    let mut separator = "";
    for name in in_file.keys().chain(in_redis.keys().filter(|name| !in_file.contains_key(*name))) {
        let (file, redis) = (in_file.get(name), in_redis.get(name));
        if file != redis {
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator} {name}: file {}, Redis {}", show(file), show(redis));
            separator = ";";
        }
    }
    text
}

fn report(programs: usize, differences: &[Difference]) -> Result<Exit, Failure> {
    output::write(|out| {
        let mut out = std::io::BufWriter::new(out);
        for Difference { expected, description } in differences {
            writeln!(out, "{}: {description}", expected.program_id)?;
        }
        let counted = HumanCount(differences.len() as u64);
        writeln!(out, "{} programs compared, {counted} differ", HumanCount(programs as u64))?;
        out.flush()
    });
    Ok(if differences.is_empty() { Exit::Success } else { Exit::Differs })
}
