//! The ring's file: its lock, and what somebody may do to it while the ring is open.

use std::sync::atomic::AtomicBool;

use super::super::home::Trouble;
use super::*;

fn shorten(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn is_locked_while_it_is_open() {
    let (folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    assert!(matches!(Ring::open(&path, BOOT), Err(RingError::InUse)));
    assert!(matches!(set_aside(&path), Err(RingError::InUse)));
    assert!(matches!(remove_unused(&path), Err(RingError::InUse)));
    drop(ring);
    let ring = Ring::open(&path, BOOT).unwrap();
    assert!(matches!(Ring::open(&path, BOOT), Err(RingError::InUse)));
    drop(ring);
    // One that another tracker is creating.
    let unfinished = File::create(folder.path().join("ring.new")).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        Ring::create(&path.with_extension("ring"), MIN_WORDS, BOOT, JOURNAL),
        Err(RingError::InUse)
    ));
    drop(unfinished);
}

#[test]
fn never_creates_a_ring_over_another() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    ring.append(7, &payload(7, 9), false).unwrap();
    assert!(Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).is_err());
    drop(ring);
    assert_eq!(read_all(&Ring::open(&path, BOOT).unwrap(), 0), (vec![7], 0));
}

#[test]
fn loses_only_what_is_cut_off() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    // Into the second lap, where a record's place depends on the capacity.
    fill(&ring, 0, 200);
    while ring.tail() < MIN_WORDS / 2 {
        let Read::Record(_, end) = ring.read(ring.tail()) else { panic!("a record") };
        ring.acknowledge(end);
    }
    fill(&ring, 1_000, 200);
    let (all, _) = read_all(&ring, ring.tail());
    drop(ring);
    let whole = length(&path);
    for cut_off in [8, 1, 4_095, 4_096, 4_200, 8_192, whole / 2, whole - 4_096 - 8, whole - 4_096] {
        shorten(&path, whole - cut_off);
        let ring = match Ring::open(&path, BOOT) {
            Ok(ring) => ring,
            Err(error) => {
                assert!(matches!(error, RingError::Foreign) && cut_off == whole - 4_096, "{error}");
                continue;
            }
        };
        let (numbers, damaged) = read_all(&ring, ring.tail());
        // The last page holds no records.
        if cut_off <= 4_096 {
            assert_eq!((numbers.len(), damaged), (all.len(), 0), "{cut_off} bytes");
        } else {
            assert!(damaged > 0 && numbers.iter().all(|number| all.contains(number)));
        }
        assert!(!ring.is_whole(), "it takes no more records");
    }
}

#[test]
fn is_read_only_if_it_is_longer_than_it_should_be() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    let count = fill(&ring, 0, 200);
    drop(ring);
    shorten(&path, length(&path) + 4_096);
    edit(&path, |words| words[..512].fill(0));
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, 0), ((0..count).collect(), 0));
    assert!(!ring.is_whole());
}

#[test]
fn is_restored_after_its_file_was_shortened() {
    for left in [0, 4_096, 20_000, 69_624] {
        let (_folder, path) = file();
        let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
        let whole = length(&path);
        let count = fill(&ring, 0, 200);
        assert_eq!(ring.trouble(), None);
        shorten(&path, left);
        // Nobody has noticed. What is cut off reads as zeros, and can be written to.
        let (numbers, damaged) = read_all(&ring, 0);
        assert!(numbers.len() as u64 <= count && damaged <= 1, "{left}");
        ring.acknowledge(ring.head());
        ring.append(count, &payload(count, 200), false).unwrap();
        assert_eq!(read_all(&ring, ring.tail()), (vec![count], 0), "{left}");

        assert_eq!(ring.trouble(), Some(Trouble::Shortened));
        ring.restore(BOOT).unwrap();
        assert_eq!((ring.trouble(), length(&path)), (None, whole));
        ring.append(count + 1, &payload(count + 1, 200), false).unwrap();
        assert_eq!(read_all(&ring, ring.tail()), (vec![count, count + 1], 0));
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(
            read_all(&ring, ring.tail()),
            (vec![count, count + 1], 0),
            "{left}: it is on disk"
        );
    }
}

#[test]
fn is_restored_after_its_file_was_removed_or_renamed() {
    for rename in [false, true] {
        let (folder, _) = file();
        let folder = folder.path().join("journal");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("0000.ring");
        let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
        let count = fill(&ring, 0, 200);
        if rename {
            std::fs::rename(&folder, folder.with_extension("moved")).unwrap();
        } else {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        assert_eq!(ring.trouble(), Some(Trouble::Removed));
        assert_eq!(read_all(&ring, 0), ((0..count).collect(), 0), "the mapping keeps it");
        ring.restore(BOOT).unwrap();
        assert_eq!(ring.trouble(), None);
        assert!(matches!(Ring::open(&path, BOOT), Err(RingError::InUse)));
        let Read::Record(_, end) = ring.read(0) else { panic!("a record") };
        ring.acknowledge(end);
        ring.append(count, &payload(count, 150), false).unwrap();
        drop(ring);
        let ring = Ring::open(&path, BOOT).unwrap();
        assert_eq!(read_all(&ring, ring.tail()), ((1..=count).collect(), 0));
    }
}

#[test]
fn takes_nothing_while_its_file_cannot_be_restored() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, MIN_WORDS, BOOT, JOURNAL).unwrap();
    ring.append(0, &payload(0, 200), false).unwrap();
    // The ring of another tracker, which has it open.
    std::fs::remove_file(&path).unwrap();
    let other = File::create(&path).unwrap();
    other.lock().unwrap();
    assert!(matches!(ring.restore(BOOT), Err(RingError::InUse)));
    assert_eq!(ring.append(1, &[], false), Err(NotAppended::Full));
    assert_eq!(read_all(&ring, 0), (vec![0], 0), "what it has can be delivered");
    drop(other);
    ring.restore(BOOT).unwrap();
    // Its folder is a file.
    let folder = path.parent().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::write(folder, []).unwrap();
    assert!(matches!(ring.restore(BOOT), Err(RingError::Io(_))));
    std::fs::remove_file(folder).unwrap();
    ring.restore(BOOT).unwrap();
    ring.append(1, &payload(1, 200), false).unwrap();
    ring.close();
    std::fs::remove_file(&path).unwrap();
    ring.restore(BOOT).unwrap();
    assert_eq!(ring.append(2, &[], false), Err(NotAppended::Closed), "closed for good");
    drop(ring);
    assert_eq!(read_all(&Ring::open(&path, BOOT).unwrap(), 0), (vec![0, 1], 0));
}

#[test]
fn survives_files_that_come_and_go_under_load() {
    let (_folder, path) = file();
    let ring = Ring::create(&path, 8 * MIN_WORDS, BOOT, JOURNAL).unwrap();
    let done = AtomicBool::new(false);
    let is_over = AtomicBool::new(false);
    let (appended, read, damaged) = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                match ring.append(number, &payload(number, 200), false) {
                    Ok(()) => number += 1,
                    Err(_) => std::thread::yield_now(),
                }
            }
            is_over.store(true, Ordering::Release);
            number
        });
        let consumer = scope.spawn(|| {
            let (mut position, mut read, mut damaged) = (0, 0, 0_u64);
            loop {
                let is_last_look = is_over.load(Ordering::Acquire);
                match ring.read(position) {
                    Read::Record(_, end) => {
                        (position, read) = (end, read + 1);
                        ring.acknowledge(end);
                    }
                    Read::Damaged(begin, end) => {
                        (position, damaged) = (end, damaged + end - begin);
                        ring.acknowledge(end);
                    }
                    Read::Empty if is_last_look => return (read, damaged),
                    Read::Empty => std::thread::yield_now(),
                }
            }
        });
        for round in 0..200_u64 {
            match round % 3 {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => shorten(&path, 0),
                _ => shorten(&path, 4_096 * (round % 100)),
            }
            std::thread::sleep(std::time::Duration::from_millis(round % 4));
            ring.restore(BOOT).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let appended = producer.join().unwrap();
        let (read, damaged) = consumer.join().unwrap();
        (appended, read, damaged)
    });
    assert_eq!(ring.trouble(), None);
    assert!(appended > 0 && read <= appended);
    // Whatever is not read was cut off, and is known to be.
    assert!(damaged >= (appended - read) * record::words_of(200), "{appended} {read} {damaged}");
}
