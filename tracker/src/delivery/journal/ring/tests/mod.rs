//! The ring with crashes, damage and arbitrary sequences of steps.

mod earlier;
mod file;
mod versions;

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const BOOT: u64 = 1;
const JOURNAL: u64 = 2;
/// The layout again, so that a change of it does not go unnoticed.
const IDENTITY: [usize; 2] = [0, 256];
const HEAD: usize = 64;
const TAIL: [usize; 2] = [128, 136];
const BOOT_SLOT: usize = 192;
/// The copy in the last page of a ring of `MIN_WORDS`.
const COPY: usize = 512 + 8_192 - 512 + 8;

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    (folder, path)
}

fn payload(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|index| (number as usize + index) as u8).collect()
}

fn read_words(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect()
}

/// Writes into the file, as a process that maps it would.
fn write_words(path: &Path, words: &[u64]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

/// Changes the words of a file.
fn edit(path: &Path, change: impl FnOnce(&mut [u64])) {
    let mut words = read_words(path);
    change(&mut words);
    write_words(path, &words);
}

/// Everything from `position` on: the records' numbers, and how many stretches are damaged.
fn read_all(ring: &Ring, mut position: u64) -> (Vec<u64>, usize) {
    let (mut numbers, mut damaged) = (Vec::new(), 0);
    loop {
        match ring.read(position) {
            Read::Record(record, end) => {
                assert_eq!(record.payload, payload(record.accepted_at, record.payload.len()));
                numbers.push(record.accepted_at);
                position = end;
            }
            Read::Damaged(_, end) => {
                damaged += 1;
                position = end;
            }
            Read::Empty => return (numbers, damaged),
        }
    }
}

fn fill(ring: &Ring, from: u64, length: usize) -> u64 {
    let mut number = from;
    while ring.append(number, &payload(number, length), false).is_ok() {
        number += 1;
    }
    number
}

#[test]
fn keeps_unacknowledged_records_across_restarts() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    for number in 0..10 {
        ring.append(number, &payload(number, 200), false).unwrap();
    }
    let Read::Record(_, end) = ring.read(ring.tail()) else { panic!("a record") };
    ring.acknowledge(end);
    drop(ring);
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, ring.tail()), ((1..10).collect(), 0));
    ring.acknowledge(ring.head());
    drop(ring);
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!((ring.used_bytes(), ring.read(ring.tail())), (0, Read::Empty));
}

#[test]
fn is_full_until_something_is_acknowledged() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    let count = fill(&ring, 0, 200);
    assert_eq!(count, (MIN_WORDS - PAGE_WORDS) / record::words_of(200));
    assert_eq!(ring.append(count, &[], false), Ok(()), "a small record still fits");
    assert_eq!(ring.append(count, &payload(count, 200), false), Err(NotAppended::Full));
    let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
    ring.acknowledge(end);
    assert_eq!(ring.append(count, &payload(count, 150), false), Ok(()));
}

#[test]
fn takes_nothing_once_closed() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    ring.close();
    assert_eq!(ring.append(0, &[], false), Err(NotAppended::Closed));
}

/// A ring of two records, as if the process had died between the second and its publication. Returns the ring
/// and the end of the first.
fn with_an_unpublished_record(path: &Path) -> (Ring, u64) {
    let ring = Ring::create(path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    ring.append(0, &payload(0, 50), false).unwrap();
    let published = ring.head();
    ring.append(1, &payload(1, 50), false).unwrap();
    header::write_head(ring.memory.words(), published);
    (ring, published)
}

#[test]
fn finds_a_record_that_was_not_published() {
    let (_folder, path) = file();
    drop(with_an_unpublished_record(&path));
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, 0), (vec![0, 1], 0));
}

#[test]
fn drops_and_overwrites_a_torn_record() {
    let (_folder, path) = file();
    let (ring, published) = with_an_unpublished_record(&path);
    ring.data()[ring.offset(published) + 4].fetch_xor(1, Ordering::Relaxed);
    drop(ring);
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(ring.head(), published);
    ring.append(2, &payload(2, 50), false).unwrap();
    assert_eq!(read_all(&ring, 0), (vec![0, 2], 0));
}

#[test]
fn searches_the_whole_ring_after_a_crash_of_the_host() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    let count = fill(&ring, 0, 100);
    // The header's page was not written again; the tail says that nothing is acknowledged.
    header::write_head(ring.memory.words(), 0);
    drop(ring);
    let ring = Ring::open(&path, BOOT + 1).unwrap();
    assert_eq!(read_all(&ring, 0), ((0..count).collect(), 0));
}

#[test]
fn keeps_records_that_are_newer_than_the_header_says() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    let header = read_words(&path)[..512].to_vec();
    // Several laps, in which the host did not write the header's page to the disk.
    let mut number = 0;
    for _ in 0..5 {
        ring.acknowledge(ring.head());
        number = fill(&ring, number, 300);
    }
    let expected = read_all(&ring, ring.tail()).0;
    drop(ring);
    edit(&path, |words| {
        words[..512].copy_from_slice(&header);
        words[COPY..COPY + 6].fill(0);
    });
    let ring = Ring::open(&path, BOOT + 1).unwrap();
    let (numbers, damaged) = read_all(&ring, ring.tail());
    assert!(numbers.ends_with(&expected), "{numbers:?} {expected:?}");
    assert_eq!(damaged, 0);
}

#[test]
fn takes_the_tail_from_the_copy_if_the_first_page_is_damaged() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    let count = fill(&ring, 0, 100);
    let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
    ring.acknowledge(end);
    drop(ring);
    edit(&path, |words| [HEAD, TAIL[0], TAIL[1]].into_iter().for_each(|at| words[at] ^= 1 << 40));
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, ring.tail()), ((1..count).collect(), 0));
}

#[test]
fn loses_nothing_if_any_pages_of_the_header_are_zeroed() {
    for (first, last) in [(true, false), (false, true), (true, true)] {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
        let count = fill(&ring, 0, 200);
        let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
        ring.acknowledge(end);
        drop(ring);
        edit(&path, |words| {
            let length = words.len();
            if first {
                words[..512].fill(0);
            }
            if last {
                words[length - 512..].fill(0);
            }
        });
        let ring = Ring::open(&path, BOOT).unwrap();
        // Without any tail the acknowledged one is delivered again.
        let oldest = u64::from(!(first && last));
        assert_eq!(
            read_all(&ring, ring.tail()),
            ((oldest..count).collect(), 0),
            "first {first}, last {last}"
        );
        assert!(ring.is_whole());
    }
}

#[test]
fn loses_one_record_to_any_flipped_bit() {
    // Includes lengths at which a flipped bit of the length points at the start of another record.
    for length in [80, 232, 232 + 256] {
        let size = record::words_of(length);
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
        for number in 0..5 {
            ring.append(number, &payload(number, length), false).unwrap();
        }
        for bit in 0..size * 64 {
            let word = &ring.data()[words(2 * size + bit / 64)];
            word.fetch_xor(1 << (bit % 64), Ordering::Relaxed);
            assert_eq!(read_all(&ring, 0), (vec![0, 1, 3, 4], 1), "{length} bytes, bit {bit}");
            word.fetch_xor(1 << (bit % 64), Ordering::Relaxed);
        }
        assert_eq!(read_all(&ring, 0), ((0..5).collect(), 0));
    }
}

#[test]
fn loses_nothing_to_a_flipped_bit_of_the_header() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    let count = fill(&ring, 0, 100);
    drop(ring);
    let capacities = [2, 3, 258, 259];
    let others = [0, 1, HEAD, HEAD + 1, TAIL[0], TAIL[0] + 1, TAIL[1], BOOT_SLOT, IDENTITY[1]];
    for word in capacities.into_iter().chain(others).chain(COPY..COPY + 6) {
        edit(&path, |words| words[word] ^= 1 << 33);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(read_all(&ring, ring.tail()), ((0..count).collect(), 0), "word {word}");
        assert!(ring.is_whole(), "word {word}");
    }
}

#[test]
fn refuses_foreign_files_and_newer_versions() {
    let (_folder, path) = file();
    drop(Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap());
    // The last page is from this version, before the newer one was started.
    edit(&path, |words| IDENTITY.into_iter().for_each(|at| words[at + 1] = 2));
    assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Newer(2))));
    edit(&path, |words| IDENTITY.into_iter().chain([COPY]).for_each(|at| words[at] = 0));
    assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Foreign)));
    for bytes in [&b""[..], b"garbage", &[0; 4_096], &[0; 4_100], &[0; 100_000], &[7; 100_000]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Foreign)));
    }
}

#[test]
fn knows_when_its_oldest_record_was_accepted() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    assert_eq!(ring.oldest_accepted_at(), None);
    for number in 10..13 {
        ring.append(number, &payload(number, 50), false).unwrap();
    }
    assert_eq!(ring.oldest_accepted_at(), Some(10));
    let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
    // The damaged one is the oldest.
    ring.data()[words(end) + 3].fetch_xor(1, Ordering::Relaxed);
    ring.acknowledge(end);
    assert_eq!(ring.oldest_accepted_at(), Some(12));
    ring.acknowledge(ring.head());
    assert_eq!(ring.oldest_accepted_at(), None);
}

#[test]
fn knows_its_oldest_record_while_others_append_and_acknowledge() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    const RECORDS: u64 = 50_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=RECORDS {
                while ring.append(number, &payload(number, 300), false).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let asking = scope.spawn(|| {
            let mut newest = 0;
            while newest < RECORDS {
                // What was the oldest at any moment since the last question is not older than that one.
                if let Some(oldest) = ring.oldest_accepted_at() {
                    assert!((newest..=RECORDS).contains(&oldest), "{oldest} after {newest}");
                    newest = oldest;
                }
            }
        });
        let mut position = 0;
        loop {
            match ring.read(position) {
                Read::Record(record, end) => {
                    // The last one stays until it has been seen.
                    if record.accepted_at == RECORDS {
                        break;
                    }
                    position = end;
                    ring.acknowledge(end);
                }
                Read::Empty => std::thread::yield_now(),
                Read::Damaged(..) => panic!("nothing is damaged"),
            }
        }
        asking.join().unwrap();
    });
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Read,
    Acknowledge,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_000_usize).prop_map(Step::Append),
        4 => Just(Step::Read),
        2 => Just(Step::Acknowledge),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    /// The ring against a queue: after any steps, records that were appended and not acknowledged are read
    /// in order, also after a restart.
    #[test]
    fn is_a_queue_that_survives_restarts(steps in proptest::collection::vec(step(), 1..200)) {
        let (_folder, path) = file();
        let mut ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
        let (mut number, mut position) = (0, 0);
        let (mut unread, mut unacknowledged) = (VecDeque::new(), VecDeque::new());
        for step in steps {
            match step {
                Step::Append(length) => {
                    if ring.append(number, &payload(number, length), false).is_ok() {
                        unread.push_back((number, length));
                        number += 1;
                    }
                }
                Step::Read => match ring.read(position) {
                    Read::Record(record, end) => {
                        prop_assert_eq!(record.payload, payload(record.accepted_at, unread[0].1));
                        prop_assert_eq!(Some(record.accepted_at), unread.front().map(|u| u.0));
                        unacknowledged.extend(unread.pop_front());
                        position = end;
                    }
                    other => {
                        prop_assert_eq!(other, Read::Empty);
                        prop_assert!(unread.is_empty());
                    }
                },
                Step::Acknowledge => {
                    ring.acknowledge(position);
                    unacknowledged.clear();
                }
                Step::Reopen => {
                    drop(ring);
                    ring = Ring::open(&path, BOOT).unwrap();
                    position = ring.tail();
                    unacknowledged.append(&mut unread);
                    unread = std::mem::take(&mut unacknowledged);
                }
            }
        }
    }

    #[test]
    fn never_panics_or_hangs_on_a_damaged_file(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), damage()), 0..40),
        boot in BOOT..BOOT + 2,
        cut_off in prop_oneof![Just(0_usize), 0..80_000_usize],
    ) {
        let mut words = a_full_ring().to_vec();
        for (index, damage) in damage {
            let index = index.index(words.len());
            words[index] = match damage {
                Damage::Set(value) => value,
                Damage::Flip(bit) => words[index] ^ (1 << bit),
                Damage::CopyOf(other) => words[other.index(words.len())],
            };
        }
        // In memory: millions of files on a disk would take a day.
        let file = rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::empty()).unwrap();
        let mut file = File::from(file);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        file.write_all(&bytes[..bytes.len().saturating_sub(cut_off)]).unwrap();
        if let Ok(ring) = Ring::recover(file, PathBuf::new(), boot) {
            let mut position = ring.tail();
            while let Read::Record(_, end) | Read::Damaged(_, end) = ring.read(position) {
                prop_assert!(end > position);
                position = end;
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Set(u64),
    Flip(u32),
    CopyOf(prop::sample::Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<u64>().prop_map(Damage::Set),
        (0..64_u32).prop_map(Damage::Flip),
        any::<prop::sample::Index>().prop_map(Damage::CopyOf),
    ]
}

/// The words of a ring in its second lap, some of it acknowledged.
fn a_full_ring() -> &'static [u64] {
    static WORDS: OnceLock<Vec<u64>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
        let count = fill(&ring, 0, 300);
        for _ in 0..count / 2 {
            let Read::Record(_, end) = ring.read(ring.tail()) else { panic!("a record") };
            ring.acknowledge(end);
        }
        fill(&ring, count, 200);
        ring.memory.words().iter().map(|word| word.load(Ordering::Relaxed)).collect()
    })
}
