//! The ring with crashes, damage and arbitrary sequences of steps.

use std::collections::VecDeque;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const BOOT: u64 = 1;

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ring");
    (folder, path)
}

fn payload(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|index| (number as usize + index) as u8).collect()
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
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
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
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    let count = fill(&ring, 0, 200);
    assert_eq!(count, MIN_WORDS / record::words_of(200));
    assert_eq!(ring.append(count, &[], false), Ok(()), "a small record still fits");
    assert_eq!(ring.append(count, &payload(count, 200), false), Err(NotAppended::Full));
    let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
    ring.acknowledge(end);
    assert_eq!(ring.append(count, &payload(count, 150), false), Ok(()));
}

#[test]
fn takes_nothing_once_closed() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    ring.close();
    assert_eq!(ring.append(0, &[], false), Err(NotAppended::Closed));
}

#[test]
fn finds_a_record_that_was_not_published() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    ring.append(0, &payload(0, 50), false).unwrap();
    let published = ring.head();
    ring.append(1, &payload(1, 50), false).unwrap();
    // As if the process had died between the record and its publication.
    store_checked(ring.memory.words(), HEAD, published);
    drop(ring);
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, 0), (vec![0, 1], 0));
}

#[test]
fn drops_and_overwrites_a_torn_record() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    ring.append(0, &payload(0, 50), false).unwrap();
    let published = ring.head();
    ring.append(1, &payload(1, 50), false).unwrap();
    store_checked(ring.memory.words(), HEAD, published);
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
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    let count = fill(&ring, 0, 100);
    // The header's page was not written again; the tail says that nothing is acknowledged.
    store_checked(ring.memory.words(), HEAD, 0);
    drop(ring);
    let ring = Ring::open(&path, BOOT + 1).unwrap();
    assert_eq!(read_all(&ring, 0), ((0..count).collect(), 0));
}

#[test]
fn searches_the_whole_ring_if_the_header_is_damaged() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    let count = fill(&ring, 0, 100);
    let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
    ring.acknowledge(end);
    for slot in [HEAD, TAIL[0], TAIL[1]] {
        ring.memory.words()[slot].fetch_xor(1 << 40, Ordering::Relaxed);
    }
    drop(ring);
    let ring = Ring::open(&path, BOOT).unwrap();
    let (numbers, damaged) = read_all(&ring, ring.tail());
    assert_eq!((numbers, damaged), ((0..count).collect(), 0), "the acknowledged one, too");
}

#[test]
fn loses_one_record_to_any_flipped_bit() {
    // Includes lengths at which a flipped bit of the length points at the start of another record.
    for length in [80, 232, 232 + 256] {
        let size = record::words_of(length);
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
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
    let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
    let count = fill(&ring, 0, 100);
    drop(ring);
    for word in [0, 1, 2, HEAD, HEAD + 1, TAIL[0], TAIL[0] + 1, TAIL[1], super::BOOT, IDENTITY[1]] {
        let ring = Ring::open(&path, BOOT).unwrap();
        ring.memory.words()[word].fetch_xor(1 << 33, Ordering::Relaxed);
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(read_all(&ring, ring.tail()), ((0..count).collect(), 0), "word {word}");
    }
}

#[test]
fn refuses_foreign_files_and_newer_versions() {
    let (_folder, path) = file();
    drop(Ring::create(&path, MIN_WORDS, BOOT).unwrap());
    let ring = Ring::open(&path, BOOT).unwrap();
    for copy in IDENTITY {
        ring.memory.words()[copy + 1].store(FORMAT_VERSION + 1, Ordering::Relaxed);
    }
    assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Newer(2))));
    for copy in IDENTITY {
        ring.memory.words()[copy].store(0, Ordering::Relaxed);
    }
    assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Foreign)));
    for bytes in [&b""[..], b"garbage", &[7; 100_000]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Ring::open(&path, BOOT), Err(RingError::Foreign)));
    }
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
        let mut ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
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
        file.write_all(&bytes).unwrap();
        if let Ok(ring) = Ring::from_file(&file, boot) {
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
        let ring = Ring::create(&path, MIN_WORDS, BOOT).unwrap();
        let count = fill(&ring, 0, 300);
        for _ in 0..count / 2 {
            let Read::Record(_, end) = ring.read(ring.tail()) else { panic!("a record") };
            ring.acknowledge(end);
        }
        fill(&ring, count, 200);
        ring.memory.words().iter().map(|word| word.load(Ordering::Relaxed)).collect()
    })
}
