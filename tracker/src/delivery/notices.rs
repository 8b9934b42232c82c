//! What the journal has to say of itself on the stream, and when.
//!
//! In the order of time: `opened`; a heartbeat a minute, with the heads of all rings; damaged stretches; that another
//! journal in the folder is drained; `closed`. Like events, notices are sent until the stream takes them. At most one
//! heartbeat is under way: in an outage none pile up.

use std::collections::VecDeque;
use std::time::Duration;

use adtrack_proto::journal::JournalNotice;
use tokio::time::Instant;

use super::batch::StreamRecord;
use super::journal::{Claim, Journal, Kind};
use super::receipt::Label;
use crate::flag::Flag;

/// How long the start waits for the stream to take `opened`: a stream that fails keeps no tracker from serving.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(10);

/// The notices of a journal.
#[derive(Debug)]
pub struct Notices {
    journal: Journal,
    waiting: VecDeque<StreamRecord>,
    /// How many are waiting or under way.
    undelivered: usize,
    interval: Duration,
    next_heartbeat_at: Option<Instant>,
    has_heartbeat: bool,
    /// Set once the stream has taken `opened`, or has had [`ANNOUNCE_TIMEOUT`] for it.
    announced: Flag,
    announced_by: Option<Instant>,
    /// Of the other journals in the folder, whether it is said that they are closed.
    closed_others: Vec<bool>,
}

impl Notices {
    /// Begins with `opened`, and sets `announced` once the stream has it. A heartbeat follows every `interval`.
    pub fn new(journal: Journal, interval: Duration, announced: Flag) -> Self {
        let closed_others = vec![false; journal.others().len()];
        let opened = journal.notice(Kind::Opened, "");
        let mut notices = Self {
            journal,
            waiting: VecDeque::new(),
            undelivered: 0,
            interval,
            next_heartbeat_at: None,
            has_heartbeat: false,
            announced,
            announced_by: None,
            closed_others,
        };
        notices.add(opened, Vec::new());
        notices
    }

    fn add(&mut self, notice: JournalNotice, claims: Vec<Claim>) {
        self.undelivered += 1;
        self.waiting.push_back(StreamRecord::notice(notice, claims));
    }

    /// Adds what is due at `now`.
    pub fn on_tick(&mut self, now: Instant) {
        let due_at = *self.next_heartbeat_at.get_or_insert(now + self.interval);
        if now >= due_at && !self.has_heartbeat {
            self.next_heartbeat_at = Some(now + self.interval);
            self.has_heartbeat = true;
            self.add(self.journal.notice(Kind::Heartbeat, ""), Vec::new());
        }
        let announced_by = *self.announced_by.get_or_insert(now + ANNOUNCE_TIMEOUT);
        if now >= announced_by {
            self.announced.set(true);
        }
        self.close_others();
    }

    /// Says of the other journals that are drained that they are closed.
    fn close_others(&mut self) {
        let journal = self.journal.clone();
        for (index, other) in journal.others().iter().enumerate() {
            if self.closed_others[index] {
                continue;
            }
            for notice in journal.close_other(other, "drained") {
                self.closed_others[index] = true;
                self.add(notice, Vec::new());
            }
        }
    }

    /// Adds stretches that cannot be delivered.
    pub fn add_damages(&mut self, damages: Vec<(JournalNotice, Claim)>) {
        for (notice, claim) in damages {
            self.add(notice, vec![claim]);
        }
    }

    /// Says that the journal, which takes no more events, is closed. Not if events are left in it: the next start goes
    /// on with it.
    pub fn close(&mut self) {
        self.close_others();
        self.journal.mark_closed();
        self.add(self.journal.notice(Kind::Closed, "shutdown"), Vec::new());
    }

    /// The next notice to send.
    pub fn next(&mut self) -> Option<StreamRecord> {
        self.waiting.pop_front()
    }

    /// Whether there are notices that the stream has not taken.
    pub fn are_waiting(&self) -> bool {
        self.undelivered > 0
    }

    /// The stream took this record.
    pub fn on_delivered(&mut self, record: &StreamRecord) {
        let Label::Notice(notice) = &record.label else { return };
        self.undelivered = self.undelivered.saturating_sub(1);
        if notice.kind() == Kind::Opened {
            self.announced.set(true);
        }
        self.has_heartbeat &= notice.kind() != Kind::Heartbeat;
    }
}
