//! Notices a background task that makes no progress, whatever the reason: a call that blocks, a lock that is
//! never released, a wake-up that is lost.
//!
//! Every background task runs inside [`Progress::watch`], which counts how often the runtime polls it. The
//! watchdog is a thread of its own, because a blocked task may block the whole runtime. It looks at the
//! counters once per second:
//!
//! - A task is *stalled* if it has been inside a single poll for 15 s, or, if it should wake up
//!   regularly, has not been polled for as long. `/health/ready` and a metric say so.
//! - If it is still stalled after 60 s, the tracker shuts down with a failure, so that an
//!   orchestrator starts it again. What the task should have delivered is spilled or stays in the journal.
//! - If that shutdown hangs as well, the watchdog ends the process.
//!
//! Time is counted in looks, not by a clock: a process that was stopped for an hour, and its watchdog with it,
//! has no stalled tasks.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use adtrack_runtime::telemetry;

use crate::shutdown::Shutdown;

/// Looks without progress after which a task is stalled, at one per second. Tasks wait at most a few seconds
/// for Redis or Kinesis.
const STALLED_AFTER: u32 = 15;
/// Looks without progress after which a task will not recover.
const GIVE_UP_AFTER: u32 = 60;
const INTERVAL: Duration = Duration::from_secs(1);
/// What shutdown may take beyond its grace period before the process is ended.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(5);
/// Exit status of a process that had to be ended: `EX_SOFTWARE` of sysexits.h.
const EXIT_STUCK: i32 = 70;

/// When a task wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeUps {
    /// Every few seconds at least.
    Regular,
    /// When there is something to do.
    OnDemand,
}

/// The progress of all background tasks. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    tasks: Arc<Mutex<Vec<Arc<TaskProgress>>>>,
}

#[derive(Debug)]
struct TaskProgress {
    name: &'static str,
    wake_ups: WakeUps,
    /// Polls that started or ended: odd during a poll.
    polls: AtomicU64,
    has_ended: AtomicBool,
    /// `polls` at the last look.
    seen_polls: AtomicU64,
    /// Consecutive looks that saw no progress.
    idle_looks: AtomicU32,
}

impl Progress {
    /// Watches `future` as the task `name`.
    pub fn watch<F: Future>(
        &self,
        name: &'static str,
        wake_ups: WakeUps,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let progress = Arc::new(TaskProgress {
            name,
            wake_ups,
            polls: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            seen_polls: AtomicU64::new(0),
            idle_looks: AtomicU32::new(0),
        });
        self.tasks().push(Arc::clone(&progress));
        Watched { progress, future: Box::pin(future) }
    }

    /// Each task's name, and whether it is stalled.
    pub fn tasks_stalled(&self) -> Vec<(&'static str, bool)> {
        let is_stalled = |task: &TaskProgress| task.idle_looks() >= STALLED_AFTER;
        self.tasks().iter().map(|task| (task.name, is_stalled(task))).collect()
    }

    /// Whether any task is stalled.
    pub fn is_stalled(&self) -> bool {
        self.tasks().iter().any(|task| task.idle_looks() >= STALLED_AFTER)
    }

    fn look(&self) {
        self.tasks().iter().for_each(|task| task.look());
    }

    /// The tasks that have made no progress for so many looks.
    fn idle_for(&self, looks: u32) -> Vec<&'static str> {
        let tasks = self.tasks();
        tasks.iter().filter(|task| task.idle_looks() >= looks).map(|task| task.name).collect()
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<Arc<TaskProgress>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskProgress {
    fn look(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        let has_changed = self.seen_polls.swap(polls, Ordering::Relaxed) != polls;
        let may_wait = self.wake_ups == WakeUps::OnDemand && polls.is_multiple_of(2);
        if has_changed || may_wait || self.has_ended.load(Ordering::Relaxed) {
            self.idle_looks.store(0, Ordering::Relaxed);
        } else {
            self.idle_looks.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn idle_looks(&self) -> u32 {
        self.idle_looks.load(Ordering::Relaxed)
    }
}

struct Watched<F> {
    progress: Arc<TaskProgress>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.progress.polls.fetch_add(1, Ordering::Relaxed);
        let result = self.future.as_mut().poll(context);
        self.progress.polls.fetch_add(1, Ordering::Relaxed);
        result
    }
}

/// A task that panicked or was aborted has ended, too; its `JoinSet` reports that.
impl<F> Drop for Watched<F> {
    fn drop(&mut self) {
        self.progress.has_ended.store(true, Ordering::Relaxed);
    }
}

/// The watchdog's thread, which ends when this is dropped.
#[must_use]
#[derive(Debug)]
pub struct Watchdog {
    _running: mpsc::Sender<()>,
}

/// Starts the thread. It requests `shutdown` if a task does not recover, and ends the process if a shutdown
/// takes longer than `grace`.
pub fn start(progress: Progress, shutdown: Shutdown, grace: Duration) -> io::Result<Watchdog> {
    let (running, dropped) = mpsc::channel();
    let thread = std::thread::Builder::new().name("watchdog".to_owned());
    thread.spawn(move || run(&progress, &shutdown, grace, &dropped))?;
    Ok(Watchdog { _running: running })
}

fn run(progress: &Progress, shutdown: &Shutdown, grace: Duration, dropped: &mpsc::Receiver<()>) {
    let mut reported = Vec::new();
    while !shutdown.is_requested() {
        if is_dropped_within(INTERVAL, dropped) {
            return;
        }
        progress.look();
        let stalled = progress.idle_for(STALLED_AFTER);
        if stalled != reported {
            report(&stalled);
            reported = stalled;
        }
        let given_up = progress.idle_for(GIVE_UP_AFTER);
        if !given_up.is_empty() {
            tracing::error!(tasks = ?given_up, "tasks do not recover; shutting down with a failure");
            shutdown.request_after_failure();
        }
    }
    if is_dropped_within(grace + SHUTDOWN_SLACK, dropped) {
        return;
    }
    tracing::error!("shutdown hangs and is ended; what is not delivered stays in the journal");
    telemetry::flush();
    std::process::exit(EXIT_STUCK);
}

/// Waits for `time`, or until the [`Watchdog`] is dropped.
fn is_dropped_within(time: Duration, dropped: &mpsc::Receiver<()>) -> bool {
    dropped.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
}

fn report(stalled: &[&str]) {
    if stalled.is_empty() {
        tracing::info!("all background tasks make progress again");
    } else {
        tracing::error!(tasks = ?stalled, "background tasks make no progress; this is a bug in adtrack");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_until_stalled(progress: &Progress) {
        (0..=STALLED_AFTER).for_each(|_| progress.look());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reports_a_task_that_blocks_in_a_poll() {
        let progress = Progress::default();
        let ((blocked, is_blocked), (release, released)) = (mpsc::channel(), mpsc::channel());
        let task = tokio::spawn(progress.watch("blocked", WakeUps::OnDemand, async move {
            blocked.send(()).unwrap();
            released.recv().unwrap();
        }));
        is_blocked.recv().unwrap();
        look_until_stalled(&progress);
        assert_eq!(progress.tasks_stalled(), [("blocked", true)]);

        release.send(()).unwrap();
        task.await.unwrap();
        progress.look();
        assert!(!progress.is_stalled());
    }

    #[tokio::test]
    async fn reports_a_regular_task_that_is_never_woken() {
        let progress = Progress::default();
        let mut forgotten =
            Box::pin(progress.watch("forgotten", WakeUps::Regular, std::future::pending::<()>()));
        let mut waiting =
            Box::pin(progress.watch("waiting", WakeUps::OnDemand, std::future::pending::<()>()));
        assert!(futures::poll!(&mut forgotten).is_pending());
        assert!(futures::poll!(&mut waiting).is_pending());
        look_until_stalled(&progress);
        assert_eq!(progress.tasks_stalled(), [("forgotten", true), ("waiting", false)]);

        assert!(futures::poll!(&mut forgotten).is_pending());
        progress.look();
        assert!(!progress.is_stalled());
    }

    #[tokio::test]
    async fn forgets_a_task_that_panicked() {
        let progress = Progress::default();
        let task = tokio::spawn(progress.watch("panics", WakeUps::Regular, async { panic!("!") }));
        assert!(task.await.unwrap_err().is_panic());
        look_until_stalled(&progress);
        assert!(!progress.is_stalled());
    }
}
