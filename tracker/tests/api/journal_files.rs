//! The journal's files under a running tracker, a real process: removed, shortened, locked, damaged, replaced.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::helpers::until;
use crate::tracker_process::{Process, Surroundings};

#[tokio::test(flavor = "multi_thread")]
async fn survives_the_removal_of_its_folder_under_load() {
    let surroundings = Surroundings::start().await;
    let mut tracker = Process::start(&surroundings).await;
    let mut accepted = tracker.send_many(200).await;
    std::fs::remove_dir_all(surroundings.journal()).unwrap();
    let mut restored = false;
    while !restored {
        accepted.extend(tracker.send_many(50).await);
        assert!(tracker.is_alive());
        restored = surroundings.rings().iter().all(|ring| ring.exists());
    }
    tracker.until_lost_files(2.0).await;
    assert!(tracker.problems().await.contains(&json!("journal_files_lost")));
    assert!(tracker.logs("a file of the journal is lost"));
    accepted.extend(tracker.send_many(50).await);
    assert!(accepted.len() >= 300, "it goes on taking events: {}", accepted.len());

    // Nothing is delivered yet, and the process is gone: all is in the files that it has restored.
    tracker.kill();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(
        tracker.metric("adtrack_journal_replayed_events_total").await,
        accepted.len() as f64
    );
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
    assert!(!tracker.problems().await.contains(&json!("journal_files_lost")));
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_shortened_files_under_load() {
    let surroundings = Surroundings::start().await;
    surroundings.create_stream().await;
    let mut tracker = Process::start(&surroundings).await;
    let stop = AtomicBool::new(false);
    let (accepted, after) = tokio::join!(
        async {
            let mut accepted = HashSet::new();
            while !stop.load(Ordering::Relaxed) {
                accepted.extend(tracker.send().await);
            }
            accepted
        },
        async {
            for (round, bytes) in [0, 4_096, 100_000, 0].into_iter().enumerate() {
                for ring in surroundings.rings() {
                    File::options().write(true).open(ring).unwrap().set_len(bytes).unwrap();
                }
                tracker.until_lost_files(2.0 * (round + 1) as f64).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            stop.store(true, Ordering::Relaxed);
            tracker.send_many(50).await
        }
    );
    assert!(tracker.is_alive());
    assert!(tracker.problems().await.contains(&json!("journal_files_lost")));
    assert_eq!(after.len(), 50);
    surroundings.until_delivered(&after).await;
    // What had not been delivered when it was cut off is gone, and known to be.
    let delivered = surroundings.delivered().await;
    let lost = accepted.difference(&delivered).count();
    let damaged = tracker.metric("adtrack_journal_damaged_total").await;
    assert!(lost == 0 || damaged > 0.0, "{lost} of {}", accepted.len());
    for ring in surroundings.rings() {
        assert_eq!(std::fs::metadata(ring).unwrap().len(), 4_194_304);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_a_second_tracker_out_if_the_lock_is_removed() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(20).await;
    for _ in 0..2 {
        let _ = std::fs::remove_file(surroundings.journal().join("lock"));
        let output = surroundings.tracker_command().output().unwrap();
        let text = format!("{output:?}");
        assert!(!output.status.success() && text.contains("another tracker uses it"), "{text}");
    }
    let output = surroundings.redrive();
    assert!(String::from_utf8_lossy(&output.stdout).contains("a tracker uses it"), "{output:?}");
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
}

fn zero_first_page(ring: &Path) {
    let mut bytes = std::fs::read(ring).unwrap();
    bytes[..4_096].fill(0);
    std::fs::write(ring, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_with_damaged_files_and_redrive_saves_their_events() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(347).await;
    assert_eq!(accepted.len(), 347);
    tracker.kill();

    // The first page alone: nothing is missing.
    surroundings.rings().iter().for_each(|ring| zero_first_page(ring));
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 347.0);
    tracker.kill();

    // All that tells a ring from another file: the header, its copy, and the place of every record.
    for ring in surroundings.rings() {
        let bytes = std::fs::read(&ring).unwrap();
        std::fs::write(&ring, [&[0; 8_192], &bytes[4_096..bytes.len() - 4_096]].concat()).unwrap();
    }
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 0.0);
    until("it counts them", async || tracker.metric("adtrack_journal_lost_files").await == 2.0)
        .await;
    assert!(tracker.problems().await.contains(&json!("journal_files_damaged")));
    assert!(tracker.logs("0000.ring.damaged"));
    let more = tracker.send_many(5).await;
    assert_eq!(more.len(), 5);

    surroundings.create_stream().await;
    for _ in 0..2 {
        let output = surroundings.redrive();
        // A ring that nobody has used: nothing is recognized in it, so it is kept.
        let status = i32::from(surroundings.damaged().next().is_some());
        assert_eq!(output.status.code(), Some(status), "{output:?}");
    }
    assert!(surroundings.delivered().await.is_superset(&accepted));
    surroundings.damaged().for_each(|file| std::fs::remove_file(file).unwrap());
    until("nothing is damaged any longer", async || {
        !tracker.problems().await.contains(&json!("journal_files_damaged"))
    })
    .await;
    surroundings.until_delivered(&more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redrive_delivers_the_journal_of_a_tracker_that_is_gone() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(100).await;
    tracker.kill();
    assert_eq!(surroundings.redrive().status.code(), Some(1), "there is no such stream");
    surroundings.create_stream().await;
    for expected in ["100 events", " 0 events"] {
        let output = surroundings.redrive();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{output:?}");
    }
    assert_eq!(surroundings.delivered().await, accepted);
}

/// Puts something else in the place of a ring's file.
type Replace = fn(&Path);

#[tokio::test(flavor = "multi_thread")]
async fn starts_whatever_has_the_name_of_a_ring() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let mut accepted = tracker.send_many(100).await;
    tracker.kill();
    let cases: [(&str, Replace, &str); 8] = [
        ("0002.ring", |path| std::fs::create_dir_all(path.join("folder")).unwrap(), "regular file"),
        ("0002.ring", |path| symlink("nowhere", path).unwrap(), "No such file"),
        ("0002.ring", |path| symlink(path, path).unwrap(), "symbolic links"),
        ("0002.ring", |path| symlink("/dev/zero", path).unwrap(), "regular file"),
        ("0002.ring", |path| drop(UnixListener::bind(path).unwrap()), "regular file"),
        ("0002.new", |path| std::fs::create_dir_all(path).unwrap(), "regular file"),
        (
            "0002.ring",
            |path| link_to_first(path, |from, to| std::fs::hard_link(from, to)),
            "another name",
        ),
        // Before the file that it leads to.
        ("000.ring", |path| link_to_first(path, |from, to| symlink(from, to)), "another name"),
    ];
    for (number, (name, replace, problem)) in (1..).zip(cases) {
        replace(&surroundings.journal().join(name));
        let tracker = Process::start(&surroundings).await;
        let set_aside = tracker.log_line("it is set aside").expect("it is said");
        assert!(set_aside.contains(problem), "{set_aside}");
        assert_eq!(surroundings.damaged().count(), number, "none is overwritten");
        assert!(tracker.problems().await.contains(&json!("journal_files_damaged")));
        accepted.extend(tracker.send_many(5).await);
        tracker.kill();
    }
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 140.0);
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
    let output = surroundings.redrive();
    assert_eq!(output.status.code(), Some(1), "anything but a file is kept: {output:?}");
}

fn link_to_first(path: &Path, link: fn(&Path, &Path) -> std::io::Result<()>) {
    link(&path.with_file_name("0000.ring"), path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_the_copy_of_a_ring_aside() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let [first, second] = <[PathBuf; 2]>::try_from(surroundings.rings()).unwrap();
    let mut accepted = tracker.send_many(50).await;
    std::fs::copy(&first, surroundings.journal().join("earlier")).unwrap();
    accepted.extend(tracker.send_many(50).await);
    tracker.kill();
    // Over the other ring, whose events are saved first.
    let saved = surroundings.journal().join("0007.ring");
    std::fs::rename(&second, &saved).unwrap();
    std::fs::copy(&first, &second).unwrap();
    std::fs::rename(surroundings.journal().join("earlier"), first.with_file_name("0003.ring"))
        .unwrap();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(surroundings.damaged().count(), 2);
    assert!(tracker.log_line("is a copy of").is_some());
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 100.0);
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_what_is_in_the_place_of_the_lock() {
    let surroundings = Surroundings::start().await;
    let lock = surroundings.journal().join("lock");
    let cases: [Replace; 2] = [
        |path| std::fs::create_dir_all(path).unwrap(),
        |path| drop(UnixListener::bind(path).unwrap()),
    ];
    for replace in cases {
        replace(&lock);
        let output = surroundings.tracker_command().output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("/lock") && text.contains("is not a regular file; remove it"),
            "{text}"
        );
        let _ = std::fs::remove_dir(&lock).or_else(|_| std::fs::remove_file(&lock));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_its_place_back_from_another_file() {
    let surroundings = Surroundings::start().await;
    let mut tracker = Process::start(&surroundings).await;
    let accepted = tracker.send_many(50).await;
    for (number, ring) in surroundings.rings().into_iter().enumerate() {
        let other = surroundings.folder.path().join("other");
        std::fs::write(&other, "other").unwrap();
        std::fs::rename(&other, &ring).unwrap();
        tracker.until_lost_files((number + 1) as f64).await;
        until("it is restored", async || {
            std::fs::metadata(&ring).is_ok_and(|file| file.len() == 4_194_304)
        })
        .await;
    }
    assert_eq!(surroundings.damaged().count(), 2);
    assert!(tracker.is_alive());
    tracker.kill();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 50.0);
    surroundings.create_stream().await;
    surroundings.until_delivered(&accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_files_that_are_renamed() {
    let surroundings = Surroundings::start().await;
    let tracker = Process::start(&surroundings).await;
    let mut accepted = tracker.send_many(20).await;
    let [first, second] = <[PathBuf; 2]>::try_from(surroundings.rings()).unwrap();
    let third = first.with_file_name("0005.ring");
    // The two swap their names; then one gets a new name.
    for (from, to) in [(&first, &third), (&second, &first), (&third, &second), (&second, &third)] {
        std::fs::rename(from, to).unwrap();
    }
    until("it is said", async || tracker.log_lines("it is used under its new name") == 2).await;
    accepted.extend(tracker.send_many(20).await);
    assert_eq!(accepted.len(), 40);
    assert_eq!(tracker.metric("adtrack_journal_lost_files").await, 0.0);
    tracker.kill();
    let tracker = Process::start(&surroundings).await;
    assert_eq!(tracker.metric("adtrack_journal_replayed_events_total").await, 40.0);
    assert!(!second.exists() && surroundings.damaged().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_start_with_too_few_open_files() {
    let surroundings = Surroundings::start().await;
    let output = surroundings.tracker_command_with_open_files(255).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the limit on open files is 255; expected at least 256"), "{text}");
}
