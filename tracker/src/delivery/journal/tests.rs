//! The journal as its users see it.

mod identity;

use bytes::Bytes;

use super::*;

const MIB: u64 = 1024 * 1024;

fn open(folder: &Path, bytes: u64, workers: usize) -> Journal {
    Journal::open(folder, bytes, workers, SyncMode::Never).unwrap()
}

fn event(number: u64, length: usize) -> AcceptedEvent {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length.max(8), 0);
    AcceptedEvent { accepted_at: number, bytes }
}

fn number(bytes: &Bytes) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn read_all(reader: &mut JournalReader) -> (Vec<u64>, Vec<Claim>) {
    let (mut numbers, claims): (Vec<_>, _) =
        reader.map(|(bytes, claim)| (number(&bytes), claim)).unzip();
    numbers.sort_unstable();
    (numbers, claims)
}

#[test]
fn keeps_events_until_they_are_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    (0..10).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    let mut reader = journal.reader();
    let (numbers, claims) = read_all(&mut reader);
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!((journal.oldest_accepted_at(), reader.outstanding()), (Some(0), 10));
    assert!(journal.oldest_age() > Duration::from_secs(1), "{:?}", journal.oldest_age());
    reader.acknowledge(&claims);
    assert_eq!(journal.oldest_age(), Duration::ZERO);
    assert_eq!(
        (journal.used_bytes(), journal.oldest_accepted_at(), reader.outstanding()),
        (0, None, 0)
    );
}

#[test]
fn replays_everything_after_the_first_unacknowledged_event() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    (0..4).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    let mut reader = journal.reader();
    let (_, claims) = read_all(&mut reader);
    reader.acknowledge(&claims[2..]);
    let used = journal.used_bytes();
    drop((reader, journal));
    let journal = open(folder.path(), MIB, 1);
    assert_eq!((journal.replayed_events(), journal.used_bytes()), (4, used), "all are replayed");
    let mut reader = journal.reader();
    let (_, claims) = read_all(&mut reader);
    reader.acknowledge(&claims[1..]);
    reader.acknowledge(&claims[..1]);
    assert_eq!(journal.used_bytes(), 0);
}

#[test]
fn fills_all_rings_from_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 4);
    let accepted = (0..).take_while(|n| journal.accept(&event(*n, 1_000)).is_ok()).count() as u64;
    assert!(accepted * 1_000 > MIB * 9 / 10, "{accepted}");
    assert!(journal.is_nearly_full());
    assert_eq!(journal.accept(&event(0, 1_000)), Err(NotAccepted::Full));
    let mut reader = journal.reader();
    let (numbers, claims) = read_all(&mut reader);
    assert_eq!(numbers, (0..accepted).collect::<Vec<_>>());
    reader.acknowledge(&claims);
    assert_eq!(journal.accept(&event(0, 1_000)), Ok(()));
}

#[test]
fn replays_journals_of_other_shapes_and_then_removes_them() {
    let folder = tempfile::tempdir().unwrap();
    let shapes = [(MIB, 4), (2 * MIB, 4), (2 * MIB, 1), (MIB, 8), (MIB, 2)];
    for (round, (bytes, workers)) in (0..).zip(shapes) {
        let journal = open(folder.path(), bytes, workers);
        assert_eq!(journal.replayed_events(), round);
        assert!(journal.capacity_bytes() <= bytes);
        journal.accept(&event(round, 100)).unwrap();
    }
    let journal = open(folder.path(), 4 * MIB, 1);
    let mut reader = journal.reader();
    let (numbers, claims) = read_all(&mut reader);
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    reader.acknowledge(&claims);
    drop((reader, journal));
    drop(open(folder.path(), 4 * MIB, 1));
    assert_eq!(folder::ring_files(folder.path()).unwrap().len(), 1);
}

#[test]
fn refuses_a_second_tracker() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    let refuses = || {
        for workers in [1, 2] {
            let error = Journal::open(folder.path(), MIB, workers, SyncMode::Never).unwrap_err();
            assert!(error.to_string().contains("another tracker uses it"), "{error}");
        }
        let error = Journal::open_to_drain(folder.path()).unwrap_err();
        assert!(error.to_string().contains("another tracker uses it"), "{error}");
    };
    refuses();
    journal.accept(&event(1, 100)).unwrap();
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    refuses();
    journal.accept(&event(2, 100)).unwrap();
    drop(journal);
    assert_eq!(open(folder.path(), MIB, 1).replayed_events(), 2);
}

#[test]
fn refuses_the_folder_of_an_earlier_version_and_is_refused_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    // All that an earlier version locks.
    let earlier = std::fs::File::create(&path).unwrap();
    earlier.lock().unwrap();
    let error = Journal::open(folder.path(), MIB, 1, SyncMode::Never).unwrap_err();
    assert!(error.to_string().contains("another tracker uses it"), "{error}");
    drop(earlier);
    let journal = open(folder.path(), MIB, 1);
    let mut watch = watch(&journal);
    for removed in [false, true] {
        if removed {
            std::fs::remove_file(&path).unwrap();
            watch.check();
        }
        let earlier = std::fs::File::open(&path).unwrap();
        assert!(earlier.try_lock().is_err(), "removed: {removed}");
    }
}

#[test]
fn starts_with_the_intact_rings_and_sets_a_damaged_one_aside() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 3);
    let events = (0..).take_while(|n| journal.accept(&event(*n, 1_000)).is_ok()).count() as u64;
    drop(journal);
    // Moved by a word, no record is at its place.
    let path = folder.path().join("0001.ring");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.splice(..4_096, [0; 4_088]);
    std::fs::write(&path, bytes).unwrap();

    let journal = open(folder.path(), MIB, 3);
    let aside = folder.path().join("0001.ring.damaged");
    assert_eq!(Salvage::files(folder.path()).unwrap(), [aside]);
    assert_eq!(journal.damaged_files(), 1);
    assert!(journal.replayed_events() > events / 2 && journal.replayed_events() < events);
    // In the next damage, nothing is written over the first.
    drop(journal);
    std::fs::write(&path, "garbage").unwrap();
    let journal = open(folder.path(), MIB, 3);
    assert_eq!(journal.damaged_files(), 2);
    let mut watch = watch(&journal);
    for path in Salvage::files(folder.path()).unwrap() {
        std::fs::remove_file(path).unwrap();
    }
    watch.check();
    assert_eq!(journal.damaged_files(), 0);
}

#[test]
fn salvages_the_events_of_a_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 1);
    let events = (0..).take_while(|n| journal.accept(&event(*n, 1_000)).is_ok()).count() as u64;
    drop(journal);
    let path = folder.path().join("0000.ring");
    // Neither copy of the header is left, and the file is shortened.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4_096].fill(0);
    bytes[100_000..100_100].fill(1);
    bytes.truncate(bytes.len() - 5_000);
    std::fs::write(&path, bytes).unwrap();
    let mut salvage = Salvage::open(&path).unwrap().unwrap();
    assert!(Salvage::open(&path).is_err(), "it is locked");
    let numbers: Vec<u64> = salvage.by_ref().map(|bytes| number(&bytes)).collect();
    assert!(numbers.len() as u64 >= events - 4 && numbers.is_sorted(), "{numbers:?}");
    salvage.remove().unwrap();
    assert!(!path.exists());
    for bytes in [&b""[..], b"garbage", &[0; 20_000]] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Salvage::open(&path).unwrap().into_iter().flatten().count(), 0);
    }
}

#[test]
fn can_be_drained_without_a_tracker() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    (0..10).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    drop(journal);
    let mut reader = Journal::open_to_drain(folder.path()).unwrap();
    let (numbers, claims) = read_all(&mut reader);
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    reader.acknowledge(&claims[..4]);
    drop(reader);
    assert_eq!(open(folder.path(), MIB, 2).replayed_events(), 6);
}

fn watch(journal: &Journal) -> JournalWatch {
    JournalWatch::new(journal.clone(), Arc::new(crate::metrics::Metrics::new().unwrap()))
}

#[test]
fn restores_lost_files_and_counts_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = open(&path, MIB, 2);
    let mut watch = watch(&journal);
    let mut reader = journal.reader();
    (0..10).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    watch.check();
    assert_eq!(journal.lost_files(), 0);
    std::fs::remove_dir_all(&path).unwrap();
    (10..20).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    watch.check();
    assert_eq!(journal.lost_files(), 2);
    (20..30).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    let (numbers, claims) = read_all(&mut reader);
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    reader.acknowledge(&claims[..1]);

    // A folder that cannot be made again: only what waits is delivered.
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    watch.check();
    watch.check();
    assert_eq!(journal.lost_files(), 4, "each loss is counted once");
    assert_eq!(journal.accept(&event(30, 200)), Err(NotAccepted::Full));
    std::fs::remove_file(&path).unwrap();
    watch.check();
    journal.accept(&event(30, 200)).unwrap();
    drop((watch, reader, journal));
    let journal = open(&path, MIB, 2);
    assert_eq!(read_all(&mut journal.reader()).0, (1..=30).collect::<Vec<_>>());
}

#[test]
fn knows_when_the_oldest_event_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    assert_eq!(journal.oldest_accepted_at(), None);
    (5..9).for_each(|n| journal.accept(&event(n, 200)).unwrap());
    let mut reader = journal.reader();
    let (_, claims) = read_all(&mut reader);
    reader.acknowledge(&claims[1..]);
    assert_eq!(journal.oldest_accepted_at(), Some(5));
    reader.acknowledge(&claims);
    assert_eq!(journal.oldest_accepted_at(), None);
}

#[test]
fn refuses_a_newer_format() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), MIB, 1));
    let path = &folder::ring_files(folder.path()).unwrap()[0];
    let mut bytes = std::fs::read(path).unwrap();
    for copy in [0, 256 * 8] {
        bytes[copy + 8] = 9;
    }
    std::fs::write(path, bytes).unwrap();
    let error = Journal::open(folder.path(), MIB, 1, SyncMode::Never).unwrap_err();
    assert!(error.to_string().contains("has the journal format 9"), "{error}");
}

/// Runs the next test on its own disk of 2 MiB.
#[test]
fn reports_a_full_disk_at_the_start_and_not_in_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$DISK\" && exec \"$0\" --ignored --exact \
                  delivery::journal::tests::on_a_small_disk";
    let output = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("DISK", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "needs a disk of 2 MiB: the test above gives it one"]
fn on_a_small_disk() {
    let disk = PathBuf::from(std::env::var_os("DISK").unwrap());
    let folder = disk.join("journal");
    let error = Journal::open(&folder, 4 * MIB, 1, SyncMode::Never).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(error.to_string().contains("JOURNAL_MAX_BYTES free"), "{error}");
    // The incomplete journal does not prevent a smaller one.
    let journal = open(&folder, MIB, 2);
    assert!(std::fs::write(disk.join("something else"), vec![1; 2 << 20]).is_err(), "full now");
    let mut reader = journal.reader();
    for lap in 0..3 {
        let events = (0..).take_while(|n| journal.accept(&event(*n, 1_000)).is_ok()).count();
        assert!(events as u64 * 1_000 > MIB * 9 / 10, "lap {lap}: {events}");
        journal.sync_to_disk().unwrap();
        let (numbers, claims) = read_all(&mut reader);
        assert_eq!(numbers, (0..events as u64).collect::<Vec<_>>());
        reader.acknowledge(&claims);
    }
}

#[test]
fn can_be_read_but_takes_nothing_once_closed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 2);
    journal.accept(&event(7, 10)).unwrap();
    journal.close();
    assert_eq!(journal.accept(&event(8, 10)), Err(NotAccepted::Closed));
    assert_eq!(read_all(&mut journal.reader()).0, [7]);
}

#[test]
fn takes_events_in_every_sync_mode() {
    for sync in [SyncMode::Always, SyncMode::Interval(Duration::from_millis(5))] {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), MIB, 1, sync).unwrap();
        // Some laps, so that records wrap around.
        let mut reader = journal.reader();
        for n in 0..2_000 {
            journal.accept(&event(n, 1_000)).unwrap();
            let (numbers, claims) = read_all(&mut reader);
            assert_eq!(numbers, [n]);
            if n % 50 == 0 {
                journal.sync_to_disk().unwrap();
            }
            reader.acknowledge(&claims);
        }
    }
}

#[test]
fn loses_nothing_with_many_threads_and_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), MIB, 3);
    const THREADS: u64 = 5;
    const EACH: u64 = 20_000;
    let read = std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = journal.clone();
            scope.spawn(move || {
                for n in 0..EACH {
                    let event = event(thread * EACH + n, 100 + usize::try_from(n % 300).unwrap());
                    while journal.accept(&event) != Ok(()) {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut reader = journal.reader();
        let mut read = Vec::new();
        while (read.len() as u64) < THREADS * EACH {
            let (numbers, claims) = read_all(&mut reader);
            reader.acknowledge(&claims);
            read.extend(numbers);
        }
        read
    });
    let mut sorted = read;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..THREADS * EACH).collect::<Vec<_>>());
    assert_eq!(journal.used_bytes(), 0);
}
