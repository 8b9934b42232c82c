//! Which journal the rings of a folder are, and what it says of itself on the stream.
//!
//! A journal is what one identity appends to: a set of rings that were made together. A start goes on with it only if
//! all of its rings are there, fit the settings, were made in this boot of the host, and have bounds that did not have
//! to be searched for. Otherwise a position could name two events: one that was delivered and lost from the disk, and
//! one that was appended in its place. All other rings are only drained, and new ones are made under a new identity.
//!
//! Rings of a version without receipts have no identity; their events are delivered without a receipt.

use adtrack_proto::journal::{JournalNotice, journal_notice};
use jiff::Timestamp;

use super::clock::{LATE_MS, MAX_STANDSTILL_MS};
use super::memory::WORD;
use super::ring::Ring;
use super::{Inner, Journal};

/// Digits of an id in base 36: enough for every 64-bit number.
const ID_DIGITS: usize = 13;

/// The identity of a journal, as text.
pub fn id_text(id: u64) -> String {
    let mut digits = [0_u8; ID_DIGITS];
    let mut rest = id;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[usize::try_from(rest % 36).unwrap_or(0)];
        rest /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// A journal in the folder that takes no more events.
#[derive(Debug)]
pub struct OtherJournal {
    id: u64,
    /// Its rings that were empty, whose files are removed.
    empty: Vec<journal_notice::Ring>,
    /// Where records may be missing in them.
    lacking: Vec<journal_notice::Ring>,
}

/// What a start decides about identities.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) id: u64,
    /// The journal's time at least, in milliseconds since the Unix epoch.
    pub(super) time_ms: u64,
    pub(super) clock_step: Option<(u64, u64)>,
    pub(super) others: Vec<OtherJournal>,
}

impl Identity {
    /// For rings that are only drained.
    pub(super) fn to_drain(rings: &[Ring]) -> Self {
        let others = others(rings.iter());
        Self { id: rand::random(), time_ms: latest_ms(rings), clock_step: None, others }
    }
}

/// Divides `rings` into those that go on taking events, `count` of `capacity` words or none, and the others.
pub(super) fn choose(
    rings: Vec<Ring>,
    count: usize,
    capacity: u64,
) -> (Identity, Vec<Ring>, Vec<Ring>) {
    let now_ms = now_ms();
    let time_ms = latest_ms(&rings);
    let is_back = time_ms > now_ms + LATE_MS + MAX_STANDSTILL_MS;
    let fits = |ring: &Ring| ring.is_appendable() && ring.capacity_bytes() == capacity * WORD;
    let goes_on = |id: u64| {
        let mut own = rings.iter().filter(|ring| ring.journal() == Some(id)).peekable();
        !is_back && own.clone().count() == count && own.all(fits)
    };
    let continued = rings.iter().filter_map(Ring::journal).find(|id| goes_on(*id));
    let (active, retired): (Vec<_>, Vec<_>) =
        rings.into_iter().partition(|ring| continued.is_some() && ring.journal() == continued);
    let identity = Identity {
        id: continued.unwrap_or_else(rand::random),
        time_ms: if is_back { now_ms } else { time_ms },
        clock_step: is_back.then_some((time_ms, now_ms)),
        others: others(retired.iter()),
    };
    (identity, active, retired)
}

fn latest_ms(rings: &[Ring]) -> u64 {
    rings.iter().map(Ring::time_ms).max().unwrap_or(0)
}

fn others<'a>(rings: impl Iterator<Item = &'a Ring>) -> Vec<OtherJournal> {
    let mut others = Vec::<OtherJournal>::new();
    for ring in rings {
        let Some(id) = ring.journal() else { continue };
        let index = others.iter().position(|other| other.id == id).unwrap_or_else(|| {
            others.push(OtherJournal { id, empty: Vec::new(), lacking: Vec::new() });
            others.len() - 1
        });
        let other = &mut others[index];
        // What is lost behind the head is part of the ring.
        let end = ring.may_lack().map_or(ring.head(), |(_, to)| to);
        if ring.used_bytes() == 0 {
            other.empty.push(range(ring, 0, end));
        }
        other.lacking.extend(ring.may_lack().map(|(from, to)| range(ring, from, to)));
    }
    others
}

fn range(ring: &Ring, from: u64, to: u64) -> journal_notice::Ring {
    let bytes = |words: u64| i64::try_from(words * WORD).unwrap_or(i64::MAX);
    journal_notice::Ring {
        ring: id_text(ring.number()),
        from_position: bytes(from),
        to_position: bytes(to),
    }
}

fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// What kind of notice it is.
pub use journal_notice::Kind;

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
        rings().for_each(Ring::mark_closed);
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
        let Inner { clock, .. } = &*self.inner;
        self.active().iter().for_each(|ring| ring.write_time(clock.highest_ms()));
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
