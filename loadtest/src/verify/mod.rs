//! Verifies a run in the table: every accepted event has to become a row, and nothing else.
//!
//! Ids and rows are kept on disk and compared one part at a time, so that memory is bounded for any
//! number of them. The table is scanned after the run or, if counted rows are deleted, during it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::aws_call::CallError;
use crate::engine::Accepted;

mod join;
mod partitions;
mod table;

use join::Joined;
use partitions::{Entry, PARTS, Partitions};
pub use table::EventTable;
use table::Position;

const POLL: Duration = Duration::from_millis(500);
/// How long to wait for surplus rows after the last expected one.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Most missing ids that are looked up by key; more of them wait for the next scan.
const MISSING_KEPT: usize = 100_000;
/// Number of last accepted ids to wait for before the scan: when these have rows, most others do.
const TAIL: usize = 100;
/// Pages of rows that are deleted before new ids are received.
const PAGES_AT_ONCE: usize = 20;
/// The longest time from response to row; longer times count as this one.
const LONGEST_DELAY_MS: u64 = 3_600_000;

/// A histogram of milliseconds.
pub type Delays = Histogram<u64>;

/// What became of the accepted events.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Number of ids in responses.
    pub identified: u64,
    /// Ids that have a row.
    pub stored: u64,
    /// Ids that had no row when the time to settle was over.
    pub lost: u64,
    /// Rows that are not linked to the event that led to them.
    pub mislinked: u64,
    /// Rows that hold something else than their events' requests say.
    pub altered: u64,
    /// Rows of the run whose id was in no response.
    pub unknown: u64,
    /// From the last response until all rows were there, or until the time to settle was over.
    pub settled_after: Duration,
    /// Milliseconds from a response to its row.
    pub delays: Delays,
    /// The same by slice of the run in which the response arrived; exact to 10 %.
    pub delays_by_slice: Vec<Delays>,
}

/// Why accepted events cannot be followed to their rows.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The temporary files cannot be created.
    #[error("{}: temporary files for message ids: {error}", .folder.display())]
    Folder {
        /// Their folder.
        folder: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The temporary files cannot be read or written.
    #[error("temporary files for message ids: {0}; is the disk full?")]
    Disk(#[from] std::io::Error),
    /// The table cannot be used.
    #[error(transparent)]
    Table(#[from] CallError),
}

/// Settings of a [`Follower`].
#[derive(Debug)]
pub struct Plan {
    /// The table to read.
    pub table: EventTable,
    /// The run's mark, with which its rows' user agents end.
    pub mark: String,
    /// How long rows may take to arrive after the last response.
    pub settle: Duration,
    /// Whether rows are deleted when they are counted.
    pub drop_counted: bool,
    /// Start of the run, milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// Length of a slice.
    pub slice: Duration,
}

/// Follows accepted events to their rows.
#[derive(Debug)]
pub struct Follower {
    plan: Plan,
    accepted: Partitions,
    rows: Partitions,
    tail: Vec<u128>,
    /// Where the next scan continues; `None` at the start of the table.
    position: Option<Position>,
}

impl Follower {
    /// A follower with temporary files in `folder`.
    ///
    /// # Errors
    ///
    /// If the files cannot be created.
    pub fn new(plan: Plan, folder: &Path) -> Result<Self, VerifyError> {
        let partitions = || {
            Partitions::create(folder)
                .map_err(|error| VerifyError::Folder { folder: folder.to_owned(), error })
        };
        let (accepted, rows) = (partitions()?, partitions()?);
        Ok(Self { plan, accepted, rows, tail: Vec::new(), position: None })
    }

    /// Receives accepted events until the channel closes, then waits for their rows until `give_up` turns
    /// true or the time to settle is over.
    ///
    /// # Errors
    ///
    /// If the table or the temporary files cannot be used.
    pub async fn follow(
        mut self,
        mut accepted: mpsc::UnboundedReceiver<Vec<Accepted>>,
        mut give_up: watch::Receiver<bool>,
    ) -> Result<Findings, VerifyError> {
        // An interval instead of a sleep: ids may arrive without a pause.
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                events = accepted.recv() => match events {
                    Some(events) => self.remember(&events)?,
                    None => break,
                },
                _ = ticks.tick(), if self.plan.drop_counted => {
                    self.drain(PAGES_AT_ONCE).await?;
                }
            }
        }
        let started_at = Instant::now();
        let outcome = tokio::select! {
            outcome = self.settle(started_at) => outcome,
            _ = give_up.wait_for(|give_up| *give_up) => Ok(()),
        };
        outcome?;
        self.findings(started_at.elapsed())
    }

    fn remember(&mut self, accepted: &[Accepted]) -> Result<(), VerifyError> {
        for event in accepted {
            let Accepted { id, at_ms, link, digest } = *event;
            let entry = Entry { id, at_ms, link, digest };
            self.accepted.push(entry)?;
        }
        self.tail.extend(accepted.iter().rev().take(TAIL).map(|event| event.id));
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        Ok(())
    }

    /// Waits until every accepted event has a row, or until the time to settle is over.
    async fn settle(&mut self, started_at: Instant) -> Result<(), VerifyError> {
        let give_up = started_at + self.plan.settle;
        if !self.plan.drop_counted {
            let tail = std::mem::take(&mut self.tail);
            self.wait_for(tail, give_up).await?;
        }
        tokio::time::sleep(AFTERMATH).await;
        loop {
            if self.plan.drop_counted {
                self.position = None;
                while self.drain(usize::MAX).await? > 0 {}
            } else {
                self.scan().await?;
            }
            let missing = self.join(|_, _| {})?.missing;
            if missing.is_empty() || Instant::now() > give_up {
                return Ok(());
            }
            if self.plan.drop_counted {
                tokio::time::sleep(POLL).await;
            } else {
                self.wait_for(missing, give_up).await?;
            }
        }
    }

    /// Waits until all of `ids` have rows, or until `give_up`.
    async fn wait_for(&self, mut ids: Vec<u128>, give_up: Instant) -> Result<(), VerifyError> {
        while !ids.is_empty() && Instant::now() < give_up {
            let mut found: Vec<u128> =
                self.plan.table.find(&ids).await?.into_iter().map(|row| row.id).collect();
            found.sort_unstable();
            ids.retain(|id| found.binary_search(id).is_err());
            if !ids.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Reads all rows of the run from scratch.
    async fn scan(&mut self) -> Result<(), VerifyError> {
        self.rows.clear()?;
        let mut position = None;
        loop {
            let page = self.plan.table.page(&self.plan.mark, position).await?;
            for row in page.counted {
                self.rows.push(row)?;
            }
            position = page.next;
            if position.is_none() {
                return Ok(());
            }
        }
    }

    /// Scans up to `max_pages` of the table, counts the run's rows and deletes them. Returns their number.
    /// The next call continues where this one ended: other rows stay in the table, and the first pages
    /// might contain nothing else.
    async fn drain(&mut self, max_pages: usize) -> Result<usize, VerifyError> {
        let mut drained = 0;
        for _ in 0..max_pages {
            let page = self.plan.table.page(&self.plan.mark, self.position.take()).await?;
            for row in &page.counted {
                self.rows.push(*row)?;
            }
            self.plan.table.delete(&page.counted).await?;
            self.plan.table.delete(&page.probes).await?;
            drained += page.counted.len();
            self.position = page.next;
            if self.position.is_none() {
                break;
            }
        }
        Ok(drained)
    }

    fn join(&mut self, mut stored: impl FnMut(u64, u64)) -> Result<Joined, VerifyError> {
        let mut found = Joined::default();
        for part in 0..PARTS {
            let accepted = self.accepted.read_sorted(part)?;
            let rows = self.rows.read_sorted(part)?;
            join::join(&accepted, &rows, MISSING_KEPT, &mut found, &mut stored);
        }
        Ok(found)
    }

    fn findings(mut self, settled_after: Duration) -> Result<Findings, VerifyError> {
        let start_ms = self.plan.start_ms;
        let slice_ms = u64::try_from(self.plan.slice.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut delays = delays(3);
        let mut delays_by_slice: Vec<Delays> = Vec::new();
        let found = self.join(|responded_ms, stored_ms| {
            // The clocks of two machines may disagree, and milliseconds are truncated.
            let delay = stored_ms.saturating_sub(responded_ms);
            delays.saturating_record(delay);
            let slice =
                usize::try_from(responded_ms.saturating_sub(start_ms) / slice_ms).unwrap_or(0);
            if delays_by_slice.len() <= slice {
                delays_by_slice.resize_with(slice + 1, || self::delays(1));
            }
            delays_by_slice[slice].saturating_record(delay);
        })?;
        Ok(Findings {
            identified: self.accepted.len(),
            stored: found.stored,
            lost: found.lost,
            mislinked: found.mislinked,
            altered: found.altered,
            unknown: found.unknown,
            settled_after,
            delays,
            delays_by_slice,
        })
    }
}

fn delays(digits: u8) -> Delays {
    #[expect(clippy::expect_used, reason = "constant bounds that the crate accepts")]
    Histogram::new_with_bounds(1, LONGEST_DELAY_MS, digits).expect("constant bounds are valid")
}
