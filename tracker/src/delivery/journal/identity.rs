//! Which journal the rings of a folder are.
//!
//! A journal is what one identity appends to: a set of rings that were made together. A start goes on with it only if
//! all of its rings are there, fit the settings, were made in this boot of the host, and have bounds that did not have
//! to be searched for. Otherwise a position could name two events: one that was delivered and lost from the disk, and
//! one that was appended in its place. All other rings are only drained, and new ones are made under a new identity.
//!
//! Rings of a version without receipts have no identity; their events are delivered without a receipt.

use adtrack_proto::journal::journal_notice;
use jiff::Timestamp;

use super::clock::{LATE_MS, MAX_STANDSTILL_MS};
use super::memory::WORD;
use super::ring::Ring;

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
    pub(super) id: u64,
    /// Its rings that were empty, whose files are removed.
    pub(super) empty: Vec<journal_notice::Ring>,
    /// Where records may be missing in them.
    pub(super) lacking: Vec<journal_notice::Ring>,
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

/// A stretch of a ring, from and to in words.
pub(super) fn range(ring: &Ring, from: u64, to: u64) -> journal_notice::Ring {
    let bytes = |words: u64| i64::try_from(words * WORD).unwrap_or(i64::MAX);
    journal_notice::Ring {
        ring: id_text(ring.number()),
        from_position: bytes(from),
        to_position: bytes(to),
    }
}

/// The host's clock, in milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}
