//! The truth at the far end: every id that was answered has to become a row, and no other.
//!
//! Ids and rows go to disk and are compared part by part, so that memory is bounded whatever their
//! number. The table is scanned after the run, or, where counted rows are dropped, all along.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::engine::Accepted;

mod join;
mod partitions;
mod table;

use join::Joined;
use partitions::{Entry, PARTS, Partitions};
pub use table::EventTable;
use table::Position;

const POLL: Duration = Duration::from_millis(500);
/// For a row that should not be there to arrive.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Missing ids that are asked for one by one; more of them wait for the next scan.
const MISSING_KEPT: usize = 100_000;
/// The last accepted ids: when these are rows, most others are.
const TAIL: usize = 100;
/// Pages of rows that are dropped before new ids are taken.
const PAGES_AT_ONCE: usize = 20;
/// The longest time from answer to row that is told from longer ones.
const LONGEST_DELAY_MS: u64 = 3_600_000;

/// A histogram of milliseconds.
pub type Delays = Histogram<u64>;

/// What became of the accepted events.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Ids in answers.
    pub identified: u64,
    /// Of these, rows.
    pub stored: u64,
    /// Of these, not rows when patience ended.
    pub lost: u64,
    /// Rows of the run whose id was in no answer.
    pub unknown: u64,
    /// How long it took after the last answer until all was there, or patience ended.
    pub settled_after: Duration,
    /// Milliseconds from an answer to its row.
    pub delays: Delays,
    /// The same for the answers of each slice of the run; within 10 %.
    pub delays_by_slice: Vec<Delays>,
}

/// What to look for.
#[derive(Debug)]
pub struct Plan {
    /// Where the rows are.
    pub table: EventTable,
    /// The run's mark, at the end of the rows' user agents.
    pub mark: String,
    /// How long rows may take to arrive after the last answer.
    pub settle: Duration,
    /// Whether rows are deleted when they are counted.
    pub drop_counted: bool,
    /// When the run began, milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// How long a slice is.
    pub slice: Duration,
}

/// Follows accepted events.
#[derive(Debug)]
pub struct Follower {
    plan: Plan,
    accepted: Partitions,
    rows: Partitions,
    tail: Vec<u128>,
    /// Where dropping goes on in the table; none at its beginning.
    position: Option<Position>,
}

impl Follower {
    /// Keeps what it has to remember in `folder`.
    pub fn new(plan: Plan, folder: &Path) -> Result<Self, String> {
        let partitions = || {
            Partitions::create(folder).map_err(|error| {
                format!("{}: temporary files for message ids: {error}", folder.display())
            })
        };
        let (accepted, rows) = (partitions()?, partitions()?);
        Ok(Self { plan, accepted, rows, tail: Vec::new(), position: None })
    }

    /// Takes what is accepted until the sender ends, then waits for the rows; until `give_up` turns
    /// true or the patience ends.
    pub async fn follow(
        mut self,
        mut accepted: mpsc::UnboundedReceiver<Vec<Accepted>>,
        mut give_up: watch::Receiver<bool>,
    ) -> Result<Findings, String> {
        // Its time goes on while ids are taken, which may be without a pause.
        let mut looks = tokio::time::interval(POLL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                some = accepted.recv() => match some {
                    Some(some) => self.remember(&some)?,
                    None => break,
                },
                _ = looks.tick(), if self.plan.drop_counted => {
                    self.drain(PAGES_AT_ONCE).await?;
                }
            }
        }
        let begun = Instant::now();
        let settled = tokio::select! {
            settled = self.settle(begun) => settled,
            _ = give_up.wait_for(|give_up| *give_up) => Ok(()),
        };
        settled?;
        self.findings(begun.elapsed())
    }

    fn remember(&mut self, accepted: &[Accepted]) -> Result<(), String> {
        for one in accepted {
            let entry = Entry { id: one.id, at_ms: one.at_ms };
            self.accepted.push(entry).map_err(disk_problem)?;
        }
        self.tail.extend(accepted.iter().rev().take(TAIL).map(|one| one.id));
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        Ok(())
    }

    /// Waits until every accepted event is a row, or patience ends.
    async fn settle(&mut self, begun: Instant) -> Result<(), String> {
        let give_up = begun + self.plan.settle;
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

    /// Waits until all of `ids` are rows, or until `give_up`.
    async fn wait_for(&self, mut ids: Vec<u128>, give_up: Instant) -> Result<(), String> {
        while !ids.is_empty() && Instant::now() < give_up {
            let mut present: Vec<u128> =
                self.plan.table.present(&ids).await?.into_iter().map(|row| row.id).collect();
            present.sort_unstable();
            ids.retain(|id| present.binary_search(id).is_err());
            if !ids.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Reads all rows of the run anew.
    async fn scan(&mut self) -> Result<(), String> {
        self.rows.clear().map_err(disk_problem)?;
        let mut position = None;
        loop {
            let page = self.plan.table.page(&self.plan.mark, position).await?;
            for row in page.counted {
                self.rows.push(row).map_err(disk_problem)?;
            }
            position = page.next;
            if position.is_none() {
                return Ok(());
            }
        }
    }

    /// Goes through the table, or `most_pages` of it, counts the run's rows and deletes them. Returns
    /// how many there were. The next time goes on where this one ended: rows that are not the run's
    /// stay, and would be all that a page from the beginning shows.
    async fn drain(&mut self, most_pages: usize) -> Result<usize, String> {
        let mut drained = 0;
        for _ in 0..most_pages {
            let page = self.plan.table.page(&self.plan.mark, self.position.take()).await?;
            for row in &page.counted {
                self.rows.push(*row).map_err(disk_problem)?;
            }
            self.plan.table.delete(&page.counted).await?;
            self.plan.table.delete(&page.looks).await?;
            drained += page.counted.len();
            self.position = page.next;
            if self.position.is_none() {
                break;
            }
        }
        Ok(drained)
    }

    fn join(&mut self, mut stored: impl FnMut(u64, u64)) -> Result<Joined, String> {
        let mut found = Joined::default();
        for part in 0..PARTS {
            let accepted = self.accepted.sorted(part).map_err(disk_problem)?;
            let rows = self.rows.sorted(part).map_err(disk_problem)?;
            join::join(&accepted, &rows, MISSING_KEPT, &mut found, &mut stored);
        }
        Ok(found)
    }

    fn findings(mut self, settled_after: Duration) -> Result<Findings, String> {
        let start_ms = self.plan.start_ms;
        let slice_ms = u64::try_from(self.plan.slice.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut delays = delays(3);
        let mut delays_by_slice: Vec<Delays> = Vec::new();
        let found = self.join(|answered, stored| {
            // The clocks of two machines may disagree, and milliseconds are cut.
            let delay = stored.saturating_sub(answered);
            delays.saturating_record(delay);
            let slice = usize::try_from(answered.saturating_sub(start_ms) / slice_ms).unwrap_or(0);
            if delays_by_slice.len() <= slice {
                delays_by_slice.resize_with(slice + 1, || self::delays(1));
            }
            delays_by_slice[slice].saturating_record(delay);
        })?;
        Ok(Findings {
            identified: self.accepted.len(),
            stored: found.stored,
            lost: found.lost,
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

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn disk_problem(error: std::io::Error) -> String {
    format!("the temporary files for message ids: {error}; is the disk full?")
}
