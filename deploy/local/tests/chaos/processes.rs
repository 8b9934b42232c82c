//! The faults of a tracker's process and of the files that it needs.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use local_stack::process::Signal;
use tokio::time::{Instant, sleep_until};

use crate::rig::{GRACE_SECONDS, JOURNALS, Rig, names};

/// How long after a signal a tracker must have ended: its grace, and the time of a busy machine.
const END_TIMEOUT: Duration = Duration::from_secs(GRACE_SECONDS + 10);
/// How long a tracker may take to restore its journal. It looks after it once per second.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a tracker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Reports a tracker that no fault has ended.
pub async fn report_end(rig: &Rig, tracker: usize) {
    if let Some(status) = rig.stack.lock().await.trackers()[tracker].process().exit_status() {
        rig.report(format!("tracker {tracker} ended on its own: {status}"));
    }
}

/// Kills a tracker, and starts it again at `until`.
pub async fn kill(rig: &Rig, tracker: usize, until: Instant) {
    let _alone = rig.processes[tracker].lock().await;
    report_end(rig, tracker).await;
    rig.stack.lock().await.trackers()[tracker].process().kill().await;
    sleep_until(until).await;
    rig.launch(tracker).await;
}

/// Ends a tracker with `signal`, and starts it again at `until`.
pub async fn terminate(rig: &Rig, tracker: usize, signal: Signal, until: Instant) {
    let _alone = rig.processes[tracker].lock().await;
    report_end(rig, tracker).await;
    rig.stack.lock().await.trackers()[tracker].process().signal(signal);
    wait_for(END_TIMEOUT, async || {
        rig.stack.lock().await.trackers()[tracker].process().exit_status().is_some()
    })
    .await;
    match rig.stack.lock().await.trackers()[tracker].process().exit_status() {
        None => rig.report(format!("tracker {tracker} runs {END_TIMEOUT:?} after {signal:?}")),
        Some(status) if !is_graceful(status, signal) => {
            rig.report(format!("tracker {tracker} ended after {signal:?} with {status}"));
        }
        Some(_) => {}
    }
    sleep_until(until).await;
    rig.launch(tracker).await;
}

/// A process that has only just been started may not handle signals yet.
fn is_graceful(status: ExitStatus, signal: Signal) -> bool {
    status.success() || status.signal() == Some(signal.as_raw())
}

/// Stops a tracker until `until`, as if it got no processor.
pub async fn stop(rig: &Rig, tracker: usize, until: Instant) {
    let _alone = rig.processes[tracker].lock().await;
    rig.stack.lock().await.trackers()[tracker].process().signal(Signal::STOP);
    sleep_until(until).await;
    rig.stack.lock().await.trackers()[tracker].process().signal(Signal::CONT);
}

/// Removes the folder of a running tracker's journal. Kills the tracker once the folder is restored: everything that
/// was accepted is in it again.
pub async fn remove_journal(rig: &Rig, tracker: usize, until: Instant) {
    let alone = rig.processes[tracker].lock().await;
    // A journal that no process has open is gone if it is removed.
    if !wait_for(START_TIMEOUT, async || rig.has_opened_journal(tracker).await).await {
        return rig.report(format!("tracker {tracker} has not started within {START_TIMEOUT:?}"));
    }
    let folder = rig.folder.join(JOURNALS[tracker]);
    // In one step, so that the tracker restores no file in between.
    let renamed = folder.with_extension("removed");
    std::fs::rename(&folder, &renamed).unwrap();
    std::fs::remove_dir_all(renamed).unwrap();
    if !wait_for(RESTORE_TIMEOUT, async || names(&folder) == rig.journal_files).await {
        let found = names(&folder);
        rig.report(format!("tracker {tracker} has restored only {found:?} of its journal"));
    }
    drop(alone);
    kill(rig, tracker, until).await;
}

/// Cuts off the end of a running tracker's ring, where no record ever is. Kills the tracker once the file is restored.
pub async fn shorten_ring(rig: &Rig, tracker: usize, until: Instant) {
    let alone = rig.processes[tracker].lock().await;
    if !wait_for(START_TIMEOUT, async || rig.has_opened_journal(tracker).await).await {
        return rig.report(format!("tracker {tracker} has not started within {START_TIMEOUT:?}"));
    }
    let path = rig.folder.join(JOURNALS[tracker]).join("0000.ring");
    let ring = File::options().write(true).open(&path).unwrap();
    let length = ring.metadata().unwrap().len();
    ring.set_len(length - 8).unwrap();
    let is_restored = async || std::fs::metadata(&path).is_ok_and(|ring| ring.len() == length);
    if !wait_for(RESTORE_TIMEOUT, is_restored).await {
        rig.report(format!("tracker {tracker} has not restored {}", path.display()));
    }
    drop(alone);
    kill(rig, tracker, until).await;
}

/// Waits until `is_so`, at most for `timeout`. Returns whether it is.
async fn wait_for(timeout: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let give_up = Instant::now() + timeout;
    loop {
        if is_so().await {
            return true;
        }
        if Instant::now() > give_up {
            return false;
        }
        tokio::time::sleep(POLL).await;
    }
}
