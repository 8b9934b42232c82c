//! What a journal says of itself on the stream: the content of its notices.

use adtrack_proto::journal::JournalNotice;
pub use adtrack_proto::journal::journal_notice::Kind;

use super::Journal;
use super::identity::{OtherJournal, id_text, now_ms, range};
use super::memory::WORD;
use super::ring::Ring;

impl Journal {
    /// The journal's id.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// What the journal says of itself now: that it is open, or how far its rings have come. `at_ms` is the journal's
    /// time, read before the heads, and noted in the files, so that a restart goes on from there.
    pub fn notice(&self, kind: Kind, reason: &str) -> JournalNotice {
        let at_ms = self.inner.clock.announce(now_ms());
        self.write_time();
        let mut notice = notice(kind, self.inner.id, at_ms, reason);
        notice.rings = self.active().iter().map(|ring| range(ring, 0, ring.head())).collect();
        if let (Kind::Opened, Some((from, to))) = (kind, self.inner.clock_step) {
            notice.clock_from_ms = signed(from);
            notice.clock_to_ms = signed(to);
        }
        notice
    }

    /// That `ranges` of a ring cannot be delivered.
    pub(super) fn damage_notice(
        &self,
        ring: &Ring,
        (from, to): (u64, u64),
        reason: &str,
    ) -> Option<JournalNotice> {
        let mut notice =
            notice(Kind::Damaged, ring.journal()?, self.inner.clock.announce(now_ms()), reason);
        notice.rings = vec![range(ring, from, to)];
        Some(notice)
    }

    /// The journals in the folder that take no more events.
    pub fn others(&self) -> &[OtherJournal] {
        &self.inner.others
    }

    /// The last that is said of another journal, once it is drained: what may be lost of it, and that it is closed.
    /// Empty before. Nothing appends to its rings afterwards, in no process.
    pub fn close_other(&self, other: &OtherJournal, reason: &str) -> Vec<JournalNotice> {
        let rings = || self.rings().iter().filter(|ring| ring.journal() == Some(other.id));
        if rings().any(|ring| ring.used_bytes() > 0) {
            return Vec::new();
        }
        // Those that may lack records are never appended to, and must say so until it is delivered.
        rings().filter(|ring| ring.may_lack().is_none()).for_each(Ring::mark_closed);
        let at_ms = self.inner.clock.announce(now_ms());
        let mut lost = notice(Kind::Damaged, other.id, at_ms, "host_crashed");
        lost.rings.clone_from(&other.lacking);
        let mut closed = notice(Kind::Closed, other.id, at_ms, reason);
        let ends = rings().map(|ring| range(ring, 0, end_of(ring, other)));
        closed.rings = other.empty.iter().cloned().chain(ends).collect();
        let lost = Some(lost).filter(|lost| !lost.rings.is_empty());
        lost.into_iter().chain([closed]).collect()
    }

    /// Notes in the files that the journal, which is drained, takes no more events. The next start opens another.
    pub fn mark_closed(&self) {
        self.active().iter().for_each(Ring::mark_closed);
    }

    /// Notes the journal's time in the files.
    pub(super) fn write_time(&self) {
        let time_ms = self.inner.clock.highest_ms();
        self.active().iter().for_each(|ring| ring.write_time(time_ms));
    }

    /// How long the journal's time has to stand still because the clock stepped back, in milliseconds; 0 usually.
    pub fn clock_standstill_ms(&self) -> u64 {
        self.inner.clock.standstill_ms(now_ms())
    }
}

/// The end of a drained ring, in words: with what may be lost behind its head.
fn end_of(ring: &Ring, other: &OtherJournal) -> u64 {
    let id = id_text(ring.number());
    let lost = other.lacking.iter().find(|lost| lost.ring == id);
    let lost = lost.and_then(|lost| u64::try_from(lost.to_position).ok()).map(|to| to / WORD);
    lost.unwrap_or(0).max(ring.head())
}

fn notice(kind: Kind, journal: u64, at_ms: u64, reason: &str) -> JournalNotice {
    JournalNotice {
        kind: kind.into(),
        journal: id_text(journal),
        at_ms: signed(at_ms),
        reason: reason.to_owned(),
        ..JournalNotice::default()
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
