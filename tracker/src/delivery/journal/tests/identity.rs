//! A position in a ring never names two events, and what is said of a journal covers all of it.

use std::collections::{BTreeMap, HashMap};

use adtrack_proto::journal::JournalNotice;
use proptest::prelude::*;

use super::*;
use crate::delivery::batch::StreamRecord;

/// Where the header has the boot in which the ring was made.
const MADE_IN: usize = 210;
/// Where the header has the tail of this version, and the two of every version.
const TAILS: [usize; 3] = [144, 128, 136];

fn edit(folder: &Path, change: impl Fn(&mut [u64])) {
    for path in folder::ring_files(folder).unwrap() {
        let bytes = std::fs::read(&path).unwrap();
        let mut words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        change(&mut words);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
    }
}

/// As if the files were from before the host's last start.
fn boot(folder: &Path) {
    edit(folder, |words| {
        words[MADE_IN] ^= 1;
        words[MADE_IN + 1] = !words[MADE_IN];
    });
}

#[test]
fn goes_on_with_a_journal_after_a_crash_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    let id = journal.id();
    journal.accept(&event(1, 100)).unwrap();
    drop(journal);

    let journal = open(folder.path(), MIB, 2);

    assert_eq!((journal.id(), journal.others().len()), (id, 0));
}

#[test]
fn opens_another_journal_after_a_crash_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    let id = journal.id();
    journal.accept(&event(1, 100)).unwrap();
    drop(journal);
    boot(folder.path());

    let journal = open(folder.path(), MIB, 2);
    let mut reader = journal.reader();
    assert_ne!(journal.id(), id);
    let other = &journal.others()[0];
    assert_eq!(journal.close_other(other, "drained"), []);
    let (numbers, claims) = read_all(&mut reader);
    reader.acknowledge(&claims);

    assert_eq!(numbers, [1]);
    let [lost, closed] = journal.close_other(other, "drained").try_into().unwrap();
    assert_eq!((lost.kind(), lost.reason.as_str()), (Kind::Damaged, "host_crashed"));
    assert_eq!(closed.journal, id_text(id));
    let ends: i64 = closed.rings.iter().map(|ring| ring.to_position).sum();
    assert_eq!(ends, lost.rings.iter().map(|ring| ring.to_position).sum::<i64>());
}

#[test]
fn never_goes_on_with_a_ring_that_was_searched() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    let id = journal.id();
    journal.accept(&event(1, 100)).unwrap();
    drop(journal);
    edit(folder.path(), |words| words[64] ^= 1);

    for _ in 0..2 {
        let journal = open(folder.path(), MIB, 1);

        assert_ne!(journal.id(), id);
        let lacking = journal.others().iter().flat_map(|other| &other.lacking);
        assert_eq!(lacking.count(), 1);
    }
}

#[test]
fn opens_another_journal_once_one_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    let id = journal.id();
    journal.mark_closed();
    drop(journal);

    let journal = open(folder.path(), MIB, 2);

    assert_ne!(journal.id(), id);
    let notices = journal.close_other(&journal.others()[0], "drained");
    assert_eq!(notices.len(), 1, "nothing is lost");
    assert_eq!(notices[0].rings.len(), 2);
}

#[test]
fn reports_what_an_earlier_version_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    (0..2).for_each(|n| journal.accept(&event(n, 100)).unwrap());
    drop(journal);
    // The earlier version moves the tail that it knows: three words and 13 for the first event.
    edit(folder.path(), |words| {
        for at in &TAILS[1..] {
            (words[*at], words[*at + 1]) = (16, !16);
        }
    });

    let journal = open(folder.path(), MIB, 1);
    let mut reader = journal.reader();

    let [(notice, _)] = reader.take_damages().try_into().unwrap();
    assert_eq!(notice.reason, "delivered_by_an_earlier_version");
    assert_eq!((notice.rings[0].from_position, notice.rings[0].to_position), (0, 128));
    assert_eq!(read_all(&mut reader).0, [1]);
    assert_eq!(journal.active()[0].used_bytes(), 0, "nothing is appended to the old ring");
}

#[test]
fn opens_another_journal_if_the_clock_is_far_back() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    let id = journal.id();
    let announced = journal.notice(Kind::Heartbeat, "").at_ms.unsigned_abs();
    let ahead = announced + 3_600_000;
    journal.active()[0].write_time(ahead);
    drop(journal);

    let journal = open(folder.path(), MIB, 1);

    let opened = journal.notice(Kind::Opened, "");
    assert_ne!(journal.id(), id);
    assert_eq!(opened.clock_from_ms.unsigned_abs(), ahead);
    assert!(opened.clock_to_ms < opened.clock_from_ms && opened.clock_to_ms > 0);
}

#[test]
fn goes_on_from_the_time_that_was_announced() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    let ahead = journal.notice(Kind::Heartbeat, "").at_ms.unsigned_abs() + 300_000;
    journal.active()[0].write_time(ahead);
    drop(journal);

    let journal = open(folder.path(), MIB, 1);

    assert_eq!(journal.earliest_ms(1_000), ahead - clock::LATE_MS);
    assert!(journal.clock_standstill_ms() > 100_000);
    assert!(journal.notice(Kind::Heartbeat, "").at_ms.unsigned_abs() >= ahead);
}

/// What waits after 100 ms, spread over all rings, goes into as few records as if it were in one ring.
#[test]
fn fills_aggregates_from_many_rings() {
    for workers in [2, 8] {
        let folder = tempfile::tempdir().unwrap();
        let journal = open(folder.path(), 16 * MIB, workers);
        let mut reader = journal.reader();
        for (per_second, records) in [(100, 1), (1_000, 1), (20_000, 13)] {
            for number in 0..per_second / 10 {
                let ring = &journal.active()[usize::try_from(number).unwrap() % workers];
                ring.append(1, &[7; 300], false).unwrap();
            }

            let packed: Vec<_> =
                std::iter::from_fn(|| StreamRecord::next(&mut reader, |_| true)).collect();

            assert_eq!(packed.len(), records, "{per_second} events/s, {workers} workers");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// Of the events that wait, how many percent are acknowledged.
    Deliver(usize),
    Crash,
    /// The host crashes; records may be lost.
    Boot {
        zeroed: bool,
    },
    Reshape(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (8_usize..4_000).prop_map(Step::Append),
        3 => (0_usize..=100).prop_map(Step::Deliver),
        2 => Just(Step::Crash),
        1 => any::<bool>().prop_map(|zeroed| Step::Boot { zeroed }),
        1 => (1_usize..4).prop_map(Step::Reshape),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a reader of the stream knows.
#[derive(Debug, Default)]
struct Stream {
    /// The event at each position.
    events: HashMap<(u64, u64), u64>,
    /// The stretches of each ring that are delivered or damaged.
    covered: HashMap<String, Vec<(i64, i64)>>,
    /// By which what this process has read is acknowledged.
    claims: Vec<Claim>,
}

impl Stream {
    fn deliver(&mut self, reader: &mut JournalReader, percent: usize) {
        for _ in 0..3 * reader.rings() {
            while let Some((event, claim, stretch)) = reader.next_in_ring() {
                let stretch = stretch.unwrap();
                let number = number(&event);
                let first = self.events.insert((stretch.ring, stretch.from), number);
                assert!(first.is_none_or(|first| first == number), "a position names two events");
                let (from, to) = (stretch.from.cast_signed(), stretch.to.cast_signed());
                self.covered.entry(id_text(stretch.ring)).or_default().push((from, to));
                self.claims.push(claim);
            }
            reader.turn();
        }
        for (notice, claim) in reader.take_damages() {
            self.cover(&notice);
            self.claims.push(claim);
        }
        let count = self.claims.len() * percent / 100;
        let acknowledged: Vec<_> = self.claims.drain(..count).collect();
        reader.acknowledge(&acknowledged);
    }

    fn cover(&mut self, notice: &JournalNotice) {
        for ring in &notice.rings {
            let covered = self.covered.entry(ring.ring.clone()).or_default();
            covered.push((ring.from_position, ring.to_position));
        }
    }

    /// Asserts that nothing is missing of the rings of a journal up to their ends.
    fn assert_complete(&self, notice: &JournalNotice) {
        for ring in &notice.rings {
            let mut covered = self.covered.get(&ring.ring).cloned().unwrap_or_default();
            covered.sort_unstable();
            let end = covered.iter().fold(ring.from_position, |end, (from, to)| {
                if *from <= end { end.max(*to) } else { end }
            });
            assert!(end >= ring.to_position, "{end} of {ring:?}: {covered:?}");
        }
    }
}

proptest! {
    #[test]
    fn names_every_event_once_and_misses_none(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = Stream::default();
        let (mut workers, mut next) = (2, 0);
        let mut journal = open(folder.path(), MIB, workers);
        let mut reader = journal.reader();
        for step in steps.into_iter().chain([Step::Deliver(100)]) {
            match step {
                Step::Append(length) => {
                    if journal.accept(&event(next, length)).is_ok() {
                        next += 1;
                    }
                    continue;
                }
                Step::Deliver(percent) => {
                    stream.deliver(&mut reader, percent);
                    continue;
                }
                _ => {}
            }
            // What this process says of journals that are drained, before it ends.
            for notice in journal.others().iter().flat_map(|other| journal.close_other(other, "")) {
                match notice.kind() {
                    Kind::Closed => stream.assert_complete(&notice),
                    _ => stream.cover(&notice),
                }
            }
            drop((reader, journal));
            stream.claims.clear();
            match step {
                Step::Boot { zeroed } => {
                    boot(folder.path());
                    if zeroed {
                        edit(folder.path(), |words| {
                            let end = words.len() - 512;
                            words[600..end.min(4_000)].fill(0);
                        });
                    }
                }
                Step::Reshape(count) => workers = count,
                _ => {}
            }
            journal = open(folder.path(), MIB, workers);
            reader = journal.reader();
        }
        stream.deliver(&mut reader, 100);
        stream.deliver(&mut reader, 100);
        stream.assert_complete(&journal.notice(Kind::Heartbeat, ""));
        let mut closed = BTreeMap::new();
        for notice in journal.others().iter().flat_map(|other| journal.close_other(other, "")) {
            stream.cover(&notice);
            closed.insert(notice.journal.clone(), notice.kind());
        }
        prop_assert!(closed.values().all(|kind| *kind == Kind::Closed));
        prop_assert_eq!(closed.len(), journal.others().len());
    }
}
