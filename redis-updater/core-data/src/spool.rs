//! Checks a file as a whole before anything is done with it.
//!
//! Valid records wait in a temporary file, in the form in which they are sent. So standard input works
//! as a file does, memory use does not depend on the file's size, and a change to the file meanwhile
//! has no effect.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, BufWriter, Lines, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use adtrack_proto::ProgramId;
use adtrack_proto::program::CoreData;
use adtrack_runtime::{errln, storage};
use indicatif::HumanCount;

use super::arguments::InputArguments;
use super::exit::{Exit, Failure};
use super::input::{Problem, ReadError, Records};

/// Maximum number of errors that are printed; the rest are counted. With `--skip-invalid`, all are printed.
const MAX_PRINTED: u64 = 100;
/// Maximum number of unknown members that warnings name.
const MAX_UNKNOWN_MEMBERS: usize = 20;

/// A checked record, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledRecord {
    /// Its program.
    pub program_id: ProgramId,
    /// The record's data on the stream.
    pub json: String,
}

/// The valid records of a file.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    /// How many records the file has.
    pub counts: Counts,
    /// How many programs there are once the file's last record of each is stored.
    pub programs_left: usize,
}

/// How many records a file has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Records that are programs.
    pub programs: u64,
    /// Records that delete a program.
    pub deletions: u64,
    /// Invalid records, which were left out.
    pub skipped: u64,
}

impl Counts {
    /// Valid records.
    pub fn records(&self) -> u64 {
        self.programs + self.deletions
    }
}

/// `3 records: 2 programs, 1 deletions, 0 skipped`
impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { programs, deletions, skipped } = *self;
        let [records, programs, deletions, skipped] =
            [self.records(), programs, deletions, skipped].map(HumanCount);
        write!(
            f,
            "{records} records: {programs} programs, {deletions} deletions, {skipped} skipped"
        )
    }
}

impl Spool {
    /// Checks a whole file. Prints errors on standard error, and fails if there are any unless they are
    /// to be skipped.
    pub async fn fill(arguments: &InputArguments) -> Result<Self, Failure> {
        let (path, format) = (arguments.file.clone(), arguments.format);
        let skip_invalid = arguments.skip_invalid;
        let fill = move || {
            let name = name(&path);
            let reader = open(&path, &name)?;
            let records = Records::open(reader, format);
            Check::new(name, skip_invalid)?.run(records)
        };
        tokio::task::spawn_blocking(fill).await.unwrap_or_else(|error| {
            Err(Failure::new(Exit::Io, format!("the file could not be checked: {error}")))
        })
    }

    /// Reads the records in their order. Every reader has its own position.
    pub fn records(&self) -> SpoolReader {
        let at_start = Reader { file: Arc::clone(&self.file), offset: 0 };
        SpoolReader { lines: BufReader::new(at_start).lines() }
    }
}

/// A file's name in messages.
pub fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

/// Opens standard input, a file, or an object in S3, which becomes a temporary file first.
fn open(path: &Path, name: &str) -> Result<Box<dyn BufRead>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = if name.starts_with("s3://") {
        download(name)?
    } else {
        File::open(path).map_err(|error| unreadable(name, &error))?
    };
    Ok(Box::new(BufReader::with_capacity(64 * 1024, file)))
}

/// Called on a thread that may block.
fn download(url: &str) -> Result<File, Failure> {
    let mut file = tempfile::tempfile().map_err(|error| temporary(&error))?;
    tokio::runtime::Handle::current()
        .block_on(storage::copy_to(url, &mut file))
        .map_err(|error| unreadable(url, &error))?;
    file.rewind().map_err(|error| temporary(&error))?;
    Ok(file)
}

fn unreadable(name: &str, error: &impl Display) -> Failure {
    Failure::new(Exit::NoInput, format!("{name} cannot be read: {error}"))
}

fn temporary(error: &io::Error) -> Failure {
    let message = format!(
        "the temporary file in {} cannot be used: {error}; TMPDIR may name another folder",
        std::env::temp_dir().display()
    );
    Failure::new(Exit::Io, message)
}

/// A check in progress.
struct Check {
    name: String,
    skip_invalid: bool,
    writer: BufWriter<File>,
    counts: Counts,
    unknown_members: BTreeMap<String, u64>,
    /// The hashes of the programs that are not deleted so far: an eighth of their ids' memory.
    programs: HashSet<u64>,
}

impl Check {
    fn new(name: String, skip_invalid: bool) -> Result<Self, Failure> {
        let file = tempfile::tempfile().map_err(|error| temporary(&error))?;
        let writer = BufWriter::with_capacity(64 * 1024, file);
        let (counts, unknown_members, programs) = Default::default();
        Ok(Self { name, skip_invalid, writer, counts, unknown_members, programs })
    }

    fn run(
        mut self,
        records: Result<Records<Box<dyn BufRead>>, ReadError>,
    ) -> Result<Spool, Failure> {
        let mut broken = false;
        let (records, unopened) = match records {
            Ok(records) => (Some(records), None),
            Err(error) => (None, Some(Err(error))),
        };
        for record in unopened.into_iter().chain(records.into_iter().flatten()) {
            match record {
                Ok(record) => {
                    self.keep(&record.core_data).map_err(|error| temporary(&error))?;
                    self.note_unknown(record.unknown_members);
                }
                Err(ReadError::Invalid(problem)) => self.print(&problem),
                Err(ReadError::Broken(problem)) => {
                    self.print(&problem);
                    broken = true;
                }
                Err(ReadError::Io(error)) => return Err(unreadable(&self.name, &error)),
            }
        }
        self.finish(broken)?;
        let file = self.writer.into_inner().map_err(|error| temporary(error.error()))?;
        let programs_left = self.programs.len();
        Ok(Spool { file: Arc::new(file), counts: self.counts, programs_left })
    }

    fn keep(&mut self, core_data: &CoreData) -> io::Result<()> {
        let mut hasher = DefaultHasher::new();
        core_data.program_id().hash(&mut hasher);
        match core_data {
            CoreData::Program(_) => {
                self.counts.programs += 1;
                self.programs.insert(hasher.finish());
            }
            CoreData::Deleted(_) => {
                self.counts.deletions += 1;
                self.programs.remove(&hasher.finish());
            }
        }
        // Neither an id nor compact JSON has a line end, and an id has no space.
        writeln!(self.writer, "{} {}", core_data.program_id(), core_data.to_json())
    }

    fn note_unknown(&mut self, names: Vec<String>) {
        for name in names {
            if self.unknown_members.len() < MAX_UNKNOWN_MEMBERS
                || self.unknown_members.contains_key(&name)
            {
                *self.unknown_members.entry(name).or_default() += 1;
            }
        }
    }

    fn print(&mut self, problem: &Problem) {
        self.counts.skipped += 1;
        if self.skip_invalid || self.counts.skipped <= MAX_PRINTED {
            errln!("{}:{problem}", self.name);
        }
    }

    /// Prints warnings, and fails if the file must not be used.
    fn finish(&self, broken: bool) -> Result<(), Failure> {
        let Counts { skipped, .. } = self.counts;
        if !self.skip_invalid && skipped > MAX_PRINTED {
            errln!("and {} more", HumanCount(skipped - MAX_PRINTED));
        }
        for (name, count) in &self.unknown_members {
            errln!(
                "{}: warning: {name:?} is not a member of a program and is left out ({} records)",
                self.name,
                HumanCount(*count)
            );
        }
        let remedy = if broken {
            "nothing is done, because it is impossible to tell where the next record begins"
        } else if skipped > 0 && !self.skip_invalid {
            "nothing is done; correct them, or skip them with --skip-invalid"
        } else if skipped > 0 && self.counts.records() == 0 {
            "no record is valid"
        } else {
            return Ok(());
        };
        let (name, errors) = (&self.name, HumanCount(skipped));
        Err(Failure::new(Exit::Data, format!("{name} has {errors} errors: {remedy}")))
    }
}

/// Reads the records of a spool.
pub struct SpoolReader {
    lines: Lines<BufReader<Reader>>,
}

impl Iterator for SpoolReader {
    type Item = Result<SpooledRecord, Failure>;

    /// Reads the temporary file without yielding to other tasks, because it is in the page cache.
    fn next(&mut self) -> Option<Self::Item> {
        let line = match self.lines.next()? {
            Ok(line) => line,
            Err(error) => return Some(Err(temporary(&error))),
        };
        let record = line.split_once(' ').and_then(|(program_id, json)| {
            let program_id = ProgramId::parse(program_id).ok()?;
            Some(SpooledRecord { program_id, json: json.to_owned() })
        });
        let modified = || temporary(&io::Error::other("another process changed it"));
        Some(record.ok_or_else(modified))
    }
}

/// Reads a shared file at an offset of its own.
struct Reader {
    file: Arc<File>,
    offset: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
