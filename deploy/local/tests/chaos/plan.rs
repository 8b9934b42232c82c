//! What goes wrong in an epoch: which faults, on what, from when to when. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use local_stack::faults::{Fault as CallFault, Lie};

use crate::feed::PROGRAMS;

/// Number of trackers.
pub const TRACKERS: usize = 2;
/// The time of an epoch in which faults occur.
pub const LENGTH: Duration = Duration::from_secs(12);

const FAULTS: std::ops::RangeInclusive<usize> = 6..=14;
/// Responses of 200 to `PutRecords` that acknowledge nothing, or too little.
const LIES: [Lie; 4] =
    [Lie::Body("{}"), Lie::Body("<html>"), Lie::Entry("{}"), Lie::OneEntryTooFew];
/// Empty user records of one record: more than are kept on their own, and as many as fit.
const BULK: std::ops::Range<usize> = 17..120_000;
const SHORTEST_SECONDS: f64 = 0.2;
const LONGEST_SECONDS: f64 = 5.0;

/// A service with a proxy that can inject faults into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Kinesis,
    DynamoDb,
}

/// A fault. A number is that of a tracker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Calls of the service fail with this probability.
    Calls(Service, CallFault, f64),
    /// All connections to Redis are cut.
    RedisCut,
    /// No byte reaches Redis or comes from it.
    RedisSilent,
    /// Redis closes its clients' connections.
    RedisClientsKilled,
    /// Redis is killed, starts again empty, and is fed.
    RedisKilled,
    /// Redis loses all keys, and is fed later.
    RedisEmptied,
    /// Redis is full (`noeviction`): it refuses all writes.
    RedisFull,
    /// `kill -9`, and a start.
    TrackerKilled(usize),
    /// SIGTERM, and a start after the process has ended.
    TrackerTerminated(usize),
    /// SIGHUP, and a start after the process has ended.
    TrackerHungUp(usize),
    /// SIGSTOP, then SIGCONT.
    TrackerStopped(usize),
    /// Nobody reads the log, which is a full pipe.
    LogUnread(usize),
    /// A program's hash gets a version that no record can have.
    HashForged(u64, ForgedVersion),
    /// A message says that a program is another one, or deleted, with a version that no record can have.
    MessageForged(u64, ForgedVersion),
    /// The file of a ring is cut off behind its records while the tracker runs. Once the tracker has restored it:
    /// `kill -9`, and a start.
    RingShortened(usize),
    /// The file `lock` of the journal is removed.
    JournalUnlocked(usize),
    /// The journal's folder is removed while the tracker runs. Once the tracker has restored it: `kill -9`, and a
    /// start.
    JournalRemoved(usize),
    /// All sandboxes of the function are killed.
    FunctionKilled(&'static str),
    /// All connections of clients are cut.
    ClientsCut(usize),
    /// Clients get no response; their requests arrive.
    ClientsSilent(usize),
    /// More clients than the tracker has room for connect and send nothing.
    ConnectionsIdle(usize),
    /// A shard of the event stream is split, or two are merged.
    Resharded,
    /// A record that can never be processed is put on both streams.
    Poisoned,
    /// A record with this many user records that can never be processed is put on both streams.
    PoisonedInBulk(usize),
}

/// A version of core data that no record of the stream can have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ForgedVersion {
    /// Of a shard that is created far in the future.
    Sequence,
    /// Of a stream that does not exist yet.
    Epoch,
}

impl ForgedVersion {
    /// In Redis. Trackers do not know the epoch, and go by what Redis has.
    pub fn in_hash(self) -> String {
        self.text("8.1")
    }

    /// On the channel.
    pub fn in_message(self) -> String {
        self.text("9.1")
    }

    fn text(self, of_epoch: &str) -> String {
        match self {
            Self::Sequence => format!("0.{}", "9".repeat(56)),
            Self::Epoch => of_epoch.to_owned(),
        }
    }
}

/// What only one fault can affect at a time.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    RedisServer,
    RedisNetwork,
    Tracker(usize),
    Log(usize),
    Clients(usize),
}

impl Fault {
    /// The name of the kind.
    pub fn name(&self) -> String {
        format!("{self:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
    }

    fn part(&self) -> Option<Part> {
        match *self {
            Self::RedisKilled | Self::RedisEmptied | Self::RedisFull => Some(Part::RedisServer),
            Self::RedisSilent => Some(Part::RedisNetwork),
            Self::TrackerKilled(tracker)
            | Self::TrackerTerminated(tracker)
            | Self::TrackerHungUp(tracker)
            | Self::TrackerStopped(tracker)
            | Self::JournalRemoved(tracker)
            | Self::RingShortened(tracker) => Some(Part::Tracker(tracker)),
            Self::LogUnread(tracker) => Some(Part::Log(tracker)),
            Self::ClientsSilent(tracker) => Some(Part::Clients(tracker)),
            Self::Calls(..)
            | Self::RedisCut
            | Self::RedisClientsKilled
            | Self::JournalUnlocked(_)
            | Self::FunctionKilled(_)
            | Self::ClientsCut(_)
            | Self::ConnectionsIdle(_)
            | Self::HashForged(..)
            | Self::MessageForged(..)
            | Self::Resharded
            | Self::Poisoned
            | Self::PoisonedInBulk(_) => None,
        }
    }
}

/// A fault and its time, from the epoch's start. A fault that is over at once has an end, too, after which
/// what it broke is started again.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFault {
    pub from: Duration,
    pub to: Duration,
    pub fault: Fault,
}

impl PlannedFault {
    fn excludes(&self, other: &Self) -> bool {
        self.fault.part().is_some()
            && self.fault.part() == other.fault.part()
            && self.from <= other.to
            && other.from <= self.to
    }
}

impl std::fmt::Display for PlannedFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from.as_secs_f64(), self.to.as_secs_f64());
        write!(formatter, "{from:6.2} to {to:5.2} s: {:?}", self.fault)
    }
}

/// The random numbers of an epoch. Each `purpose` has its own, so that what one draws does not depend on how many
/// numbers another took.
pub fn rng(seed: u64, epoch: u64, purpose: &str) -> fastrand::Rng {
    let purpose = purpose.bytes().fold(0_u64, |hash, byte| hash * 31 + u64::from(byte));
    let mut rng = fastrand::Rng::with_seed(seed);
    for number in [epoch, purpose] {
        rng = fastrand::Rng::with_seed(rng.u64(..).wrapping_add(number));
    }
    rng
}

/// The faults of an epoch, in the order of their start.
pub fn plan(seed: u64, epoch: u64) -> Vec<PlannedFault> {
    let mut rng = rng(seed, epoch, "faults");
    let mut plan = Vec::<PlannedFault>::new();
    for _ in 0..rng.usize(FAULTS) {
        let fault = draw(&mut rng);
        let length = LENGTH.as_secs_f64();
        let from = rng.f64() * (length - SHORTEST_SECONDS);
        let lasts = SHORTEST_SECONDS + rng.f64() * (LONGEST_SECONDS - SHORTEST_SECONDS);
        let to = length.min(from + lasts);
        let [from, to] = [from, to].map(Duration::from_secs_f64);
        let planned = PlannedFault { from, to, fault };
        if !plan.iter().any(|other| other.excludes(&planned)) {
            plan.push(planned);
        }
    }
    plan.sort_by_key(|planned| planned.from);
    plan
}

/// The names of all kinds of faults.
pub fn kinds() -> BTreeSet<String> {
    let mut rng = fastrand::Rng::with_seed(0);
    (0..1_000).map(|_| draw(&mut rng).name()).collect()
}

fn draw(rng: &mut fastrand::Rng) -> Fault {
    let tracker = rng.usize(0..TRACKERS);
    // Faults that have many forms, or many moments at which they may hit, are drawn more often.
    match rng.usize(0..40) {
        0..6 => calls(Service::Kinesis, rng),
        6..10 => calls(Service::DynamoDb, rng),
        10 => Fault::RedisCut,
        11 => Fault::RedisSilent,
        12 => Fault::RedisClientsKilled,
        13 => Fault::RedisKilled,
        14 => Fault::RedisEmptied,
        15 => Fault::RedisFull,
        16..19 => Fault::TrackerKilled(tracker),
        19..21 => Fault::TrackerTerminated(tracker),
        21 => Fault::TrackerHungUp(tracker),
        22 => Fault::TrackerStopped(tracker),
        23 => Fault::LogUnread(tracker),
        24 => Fault::JournalUnlocked(tracker),
        25..27 => Fault::JournalRemoved(tracker),
        27 => Fault::FunctionKilled("kinesis-consumer"),
        28 => Fault::FunctionKilled("redis-updater"),
        39 => Fault::FunctionKilled("archiver"),
        29 => Fault::ClientsCut(tracker),
        30 => Fault::ClientsSilent(tracker),
        31 => Fault::ConnectionsIdle(tracker),
        32 => Fault::Resharded,
        33 => Fault::HashForged(rng.u64(0..PROGRAMS), forged_version(rng)),
        34..36 => Fault::MessageForged(rng.u64(0..PROGRAMS), forged_version(rng)),
        36 => Fault::RingShortened(tracker),
        37 => Fault::PoisonedInBulk(rng.usize(BULK)),
        _ => Fault::Poisoned,
    }
}

fn forged_version(rng: &mut fastrand::Rng) -> ForgedVersion {
    if rng.bool() { ForgedVersion::Sequence } else { ForgedVersion::Epoch }
}

fn calls(service: Service, rng: &mut fastrand::Rng) -> Fault {
    let fault = match rng.usize(0..8) {
        0 => CallFault::Latency(Duration::from_millis(rng.u64(50..1_500))),
        1 => CallFault::ServerError,
        2 => CallFault::Throttled,
        3 => CallFault::SilentSuccess,
        4 => CallFault::Reset,
        5 => CallFault::BlackHole,
        // Of `PutRecords`.
        6 if service == Service::Kinesis => CallFault::Partial(rng.f64()),
        _ if service == Service::Kinesis => CallFault::Lie(LIES[rng.usize(0..LIES.len())]),
        // A program has about 5 rows per second.
        _ => CallFault::HotIndex(1.0 + 4.0 * rng.f64()),
    };
    // Often all calls fail.
    Fault::Calls(service, fault, (rng.f64() * 1.5).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_makes_the_same_plan() {
        assert_eq!(plan(7, 3), plan(7, 3));
        assert_ne!(plan(7, 3), plan(7, 4));
        assert_ne!(plan(7, 3), plan(8, 3));
    }

    #[test]
    fn purposes_have_random_numbers_of_their_own() {
        assert_ne!(rng(7, 3, "faults").u64(..), rng(7, 3, "load").u64(..));
    }

    #[test]
    fn every_fault_is_lifted_within_the_epoch() {
        for epoch in 0..500 {
            let plan = plan(1, epoch);
            assert!(!plan.is_empty() && plan.len() <= *FAULTS.end());
            for planned in &plan {
                assert!(planned.from < planned.to && planned.to <= LENGTH, "{planned}");
            }
            assert!(plan.is_sorted_by_key(|planned| planned.from));
        }
    }

    #[test]
    fn a_part_has_one_fault_at_a_time() {
        for epoch in 0..500 {
            let plan = plan(2, epoch);
            for (number, one) in plan.iter().enumerate() {
                let other = plan[number + 1..].iter().find(|other| one.excludes(other));
                assert!(other.is_none(), "{one}; {other:?}");
            }
        }
    }

    #[test]
    fn every_kind_occurs() {
        assert_eq!(kinds().len(), 24, "{:?}", kinds());
        let planned = (0..200).flat_map(|epoch| plan(3, epoch));
        let planned: BTreeSet<_> = planned.map(|planned| planned.fault.name()).collect();
        assert_eq!(planned, kinds());
    }
}
