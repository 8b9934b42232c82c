//! `core-data verify`: a file and what Redis holds.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant};

use adtrack_proto::program::{CoreData, Update};
use adtrack_proto::{ProgramId, Version};
use indicatif::HumanCount;

use super::arguments::VerifyArguments;
use super::exit::{Exit, Failure};
use super::get::no_core_data;
use super::output;
use super::redis::{Held, Reader, Redis};
use super::spool::{self, Spool, Spooled};

/// Programs a round trip.
const READS_PER_PIPELINE: usize = 500;
/// Between two looks at what differs.
const WAIT_INTERVAL: Duration = Duration::from_millis(500);

/// A program that is not as the file has it.
struct Difference {
    expected: Spooled,
    what: String,
}

/// Compares, waits for what is on its way, lists what differs.
pub async fn run(arguments: &VerifyArguments) -> Result<Exit, Failure> {
    let spool = Spool::fill(&arguments.input).await?;
    output::line(format_args!("{}: {}", spool::name(&arguments.input.file), spool.counts));
    let redis = Redis::new(&arguments.redis)?;
    let mut reader = redis.connect().await?;
    let give_up = Instant::now() + arguments.wait;
    let (programs, mut differences) = compare_all(&spool, &mut reader).await?;
    while !differences.is_empty() && Instant::now() < give_up {
        tokio::time::sleep(WAIT_INTERVAL).await;
        let expected: Vec<_> =
            differences.into_iter().map(|difference| difference.expected).collect();
        differences = Vec::new();
        for chunk in expected.chunks(READS_PER_PIPELINE) {
            compare(chunk.to_vec(), &mut reader, &mut differences).await?;
        }
    }
    if !differences.is_empty() && !reader.holds_core_data().await? {
        return Err(Failure::new(Exit::Differs, no_core_data()));
    }
    report(programs, &differences)
}

/// Compares the last record of each program; returns how many programs there are.
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
    chunk: Vec<Spooled>,
    reader: &mut Reader<'_>,
    differences: &mut Vec<Difference>,
) -> Result<(), Failure> {
    let program_ids: Vec<ProgramId> =
        chunk.iter().map(|record| record.program_id.clone()).collect();
    let held = reader.read(&program_ids).await?;
    for (expected, held) in chunk.into_iter().zip(held) {
        let core_data = CoreData::from_json(expected.json.as_bytes())
            .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
        if let Some(what) = difference(&core_data, &held) {
            differences.push(Difference { expected, what });
        }
    }
    Ok(())
}

/// What is different, in words; none where nothing is. That a deleted program is not there at all is
/// no difference: its tombstone does not stay for ever.
fn difference(expected: &CoreData, held: &Held) -> Option<String> {
    match (expected, held) {
        (CoreData::Deleted(_), Held::Nothing) => None,
        (CoreData::Program(_), Held::Nothing) => Some("missing".to_owned()),
        (_, Held::Unreadable(problem)) => Some(format!("unreadable: {problem}")),
        (_, Held::Update(held)) => {
            let version = &held.version;
            match (expected, &held.core_data) {
                (CoreData::Deleted(_), CoreData::Deleted(_)) => None,
                (CoreData::Deleted(_), CoreData::Program(_)) => {
                    Some(format!("deleted in the file, held in Redis (version {version})"))
                }
                (CoreData::Program(_), CoreData::Deleted(_)) => {
                    Some(format!("deleted in Redis (version {version})"))
                }
                _ if *expected == held.core_data => None,
                _ => Some(members(expected, held)),
            }
        }
    }
}

/// The members that differ.
fn members(expected: &CoreData, held: &Update) -> String {
    let fields = |core_data: &CoreData| -> BTreeMap<&'static str, String> {
        let update = Update { version: Version::zero(), core_data: core_data.clone() };
        update.to_hash().into_iter().collect()
    };
    let (ours, theirs) = (fields(expected), fields(&held.core_data));
    let mut text = format!("different (version {}):", held.version);
    let show = |value: Option<&String>| value.map_or("nothing".to_owned(), |v| format!("{v:?}"));
    let mut separator = "";
    for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
        let (our, their) = (ours.get(name), theirs.get(name));
        if our != their {
            // Writing into a string cannot fail.
            let _ = write!(text, "{separator} {name}: file {}, Redis {}", show(our), show(their));
            separator = ";";
        }
    }
    text
}

fn report(programs: usize, differences: &[Difference]) -> Result<Exit, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for Difference { expected, what } in differences {
        if writeln!(out, "{}: {what}", expected.program_id).is_err() {
            // Nobody reads on.
            return Ok(Exit::Differs);
        }
    }
    let counted = HumanCount(differences.len() as u64);
    let _ = writeln!(out, "{} programs compared, {counted} differ", HumanCount(programs as u64));
    let _ = out.flush();
    Ok(if differences.is_empty() { Exit::Success } else { Exit::Differs })
}
