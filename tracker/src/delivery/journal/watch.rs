//! Looks after the journal's files while the tracker runs: they may be removed, shortened, or on a disk that
//! fails. See `ring::home` for what is done about it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adtrack_runtime::log_sampling::LogSampling;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Journal;
use super::clock::MAX_STANDSTILL_MS;
use super::folder;
use super::ring::Trouble;
use crate::metrics::Metrics;

/// Time between two looks. Events that are accepted after a file is lost and before the next look are in memory
/// only.
const INTERVAL: Duration = Duration::from_secs(1);
/// Which consecutive failures to restore a file are logged.
const FAILURES_LOG: LogSampling = LogSampling { first: 1, every: 60 };

/// The task that looks after the files.
#[derive(Debug)]
pub struct JournalWatch {
    journal: Journal,
    metrics: Arc<Metrics>,
    boot: u64,
    /// For each ring, how often it could not be restored since it was lost.
    failures: Vec<u32>,
    /// How often in a row the folder's lock could not be kept.
    lock_failures: u32,
}

impl JournalWatch {
    /// Looks after the files of `journal`.
    pub fn new(journal: Journal, metrics: Arc<Metrics>) -> Self {
        let failures = vec![0; journal.rings().len()];
        Self { journal, metrics, boot: folder::boot_id(), failures, lock_failures: 0 }
    }

    /// Runs until `stop`, or until the clock is so far back that the tracker has to start again.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let check = move || {
                self.check();
                self
            };
            match tokio::task::spawn_blocking(check).await {
                Ok(watch) if watch.journal.clock_standstill_ms() > MAX_STANDSTILL_MS => {
                    tracing::error!(
                        "the host's clock is too far behind the journal's time; ending, so that the next start opens \
                         another journal. Find out what sets the clock"
                    );
                    return;
                }
                Ok(watch) => self = watch,
                Err(error) => {
                    tracing::error!(%error, "the check of the journal's files panicked");
                    return;
                }
            }
        }
    }

    /// Looks at every file, and restores those that are lost.
    pub fn check(&mut self) {
        for ring in 0..self.failures.len() {
            self.check_ring(ring);
        }
        self.keep_lock();
        self.journal.write_time();
        let inner = &self.journal.inner;
        // A folder that cannot be read is no news about the files in it.
        if let Ok(files) = folder::damaged_files(&inner.folder) {
            inner.damaged_files.store(files.len() as u64, Ordering::Relaxed);
        }
        let lost_files = self.journal.damaged_files() + self.journal.lost_files();
        let lost_files = i64::try_from(lost_files).unwrap_or(i64::MAX);
        self.metrics.delivery.journal_lost_files.set(lost_files);
    }

    fn check_ring(&mut self, index: usize) {
        let ring = &self.journal.rings()[index];
        let failures = &mut self.failures[index];
        let Some(trouble) = ring.trouble() else { return };
        let file = ring.path();
        // No news about the names in it if the folder cannot be read.
        let names = folder::ring_files(&self.journal.inner.folder).unwrap_or_default();
        if trouble == Trouble::Removed && ring.follow_rename(&names) {
            tracing::warn!(
                file = %file.display(),
                now = %ring.path().display(),
                "somebody has renamed a file of the journal; it is used under its new name"
            );
            return;
        }
        if *failures == 0 {
            self.journal.inner.lost_files.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                file = %file.display(),
                %trouble,
                waiting = ring.used_bytes(),
                "a file of the journal is lost; find out what removes or shortens it"
            );
        }
        match ring.restore(self.boot) {
            Ok(()) => {
                *failures = 0;
                tracing::warn!(
                    file = %file.display(),
                    waiting = ring.used_bytes(),
                    "the journal's file is restored from memory; what was cut off is counted as damaged"
                );
            }
            Err(error) => {
                *failures += 1;
                if FAILURES_LOG.includes(*failures) {
                    tracing::error!(
                        file = %file.display(),
                        %error,
                        "the journal's file cannot be restored; it takes no events until it can"
                    );
                }
            }
        }
    }

    fn keep_lock(&mut self) {
        match self.journal.inner.lock.keep() {
            Ok(was_removed) => {
                self.lock_failures = 0;
                if was_removed {
                    tracing::warn!("somebody has removed the journal's lock; it is taken again");
                }
            }
            Err(error) => {
                self.lock_failures += 1;
                if FAILURES_LOG.includes(self.lock_failures) {
                    tracing::error!(
                        %error,
                        "somebody has removed the journal's lock, and it cannot be taken again"
                    );
                }
            }
        }
    }
}
