//! The journal's only consumer: reads events, and frees their space when they are acknowledged.

use std::collections::VecDeque;

use adtrack_proto::journal::JournalNotice;
use bytes::Bytes;

use super::Journal;
use super::memory::WORD;
use super::ring::{Read, Ring};

/// Identifies an event that was read, to acknowledge it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    ring: usize,
    ticket: u64,
}

/// Where in a journal an event is, in bytes since its ring was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The journal's id.
    pub journal: u64,
    /// The ring's id.
    pub ring: u64,
    /// The first position. A skipped end of the lap before the event is part of the stretch.
    pub from: u64,
    /// The position behind the last.
    pub to: u64,
}

/// Reads the journal.
#[derive(Debug)]
pub struct JournalReader {
    journal: Journal,
    cursors: Vec<Cursor>,
    /// The ring whose turn it is.
    turn: usize,
    /// What cannot be delivered, and is not said yet.
    damages: Vec<(JournalNotice, Claim)>,
    /// Of the events that were read and not acknowledged: their number and their bytes.
    unacknowledged: (usize, usize),
    /// Damaged stretches found so far.
    damaged: u64,
}

/// The reader's place in a ring.
#[derive(Debug, Default)]
struct Cursor {
    position: u64,
    /// The ticket of the first outstanding event.
    first_ticket: u64,
    outstanding: VecDeque<Outstanding>,
}

/// An event that was read and whose space is not free yet: it or an earlier event is unacknowledged.
#[derive(Debug)]
struct Outstanding {
    end: u64,
    bytes: usize,
    acknowledged: bool,
}

impl Journal {
    /// A reader from the first event that is not acknowledged. There must be only one at a time.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(self.clone())
    }
}

impl JournalReader {
    fn new(journal: Journal) -> Self {
        let cursor = |ring: &Ring| Cursor { position: ring.tail(), ..Cursor::default() };
        let cursors = journal.rings().iter().map(cursor).collect();
        let damages = Vec::new();
        let mut reader =
            Self { journal, cursors, turn: 0, damages, unacknowledged: (0, 0), damaged: 0 };
        for ring in 0..reader.cursors.len() {
            if let Some(stretch) = reader.journal.rings()[ring].unreceipted() {
                reader.note_damage(ring, stretch, "delivered_by_an_earlier_version");
            }
        }
        reader
    }

    /// Remembers that a stretch of a ring cannot be delivered. The space up to its end is free once that is
    /// acknowledged; of a ring without identity, at once.
    fn note_damage(&mut self, ring: usize, (from, to): (u64, u64), reason: &str) {
        let rings = self.journal.rings();
        match self.journal.damage_notice(&rings[ring], (from, to), reason) {
            Some(notice) => {
                let claim = self.claim(ring, to, 0);
                self.damages.push((notice, claim));
            }
            None if self.cursors[ring].outstanding.is_empty() => rings[ring].acknowledge(to),
            None => {}
        }
    }

    fn claim(&mut self, ring: usize, end: u64, bytes: usize) -> Claim {
        let cursor = &mut self.cursors[ring];
        let ticket = cursor.first_ticket + cursor.outstanding.len() as u64;
        cursor.outstanding.push_back(Outstanding { end, bytes, acknowledged: false });
        self.unacknowledged.0 += 1;
        self.unacknowledged.1 += bytes;
        Claim { ring, ticket }
    }

    /// What was found since the last call that cannot be delivered, to be said on the stream and then acknowledged.
    pub fn take_damages(&mut self) -> Vec<(JournalNotice, Claim)> {
        std::mem::take(&mut self.damages)
    }

    /// The next event of the ring whose turn it is, and where it is; none of the latter if the ring has no identity.
    /// Returns nothing at the ring's head, and at a damaged stretch: what follows that is no continuation.
    pub fn next_in_ring(&mut self) -> Option<(Bytes, Claim, Option<Stretch>)> {
        let index = self.turn;
        let ring = &self.journal.rings()[index];
        let from = self.cursors[index].position;
        match ring.read(from) {
            Read::Record(record, end) => {
                let stretch = ring.journal().map(|journal| Stretch {
                    journal,
                    ring: ring.number(),
                    from: from * WORD,
                    to: end * WORD,
                });
                self.cursors[index].position = end;
                let claim = self.claim(index, end, record.payload.len());
                Some((record.payload.into(), claim, stretch))
            }
            Read::Damaged(begin, end) => {
                self.damaged += 1;
                tracing::error!(
                    ring = index,
                    begin,
                    end,
                    "the journal is damaged between these positions (words); skipped"
                );
                self.cursors[index].position = end;
                // A skip before the damage belongs to it.
                self.note_damage(index, (from, end), "unreadable");
                None
            }
            Read::Empty => None,
        }
    }

    /// The place of the ring whose turn it is; none if it has no identity.
    pub fn place(&self) -> Option<Stretch> {
        let ring = &self.journal.rings()[self.turn];
        let at = self.cursors[self.turn].position * WORD;
        let journal = ring.journal()?;
        Some(Stretch { journal, ring: ring.number(), from: at, to: at })
    }

    /// Gives the turn to the next ring.
    pub fn turn(&mut self) {
        self.turn = (self.turn + 1) % self.cursors.len();
    }

    /// The number of rings.
    pub fn rings(&self) -> usize {
        self.cursors.len()
    }

    /// The journal that it reads.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Acknowledges these events. Space is freed in order: an event's once all earlier ones are acknowledged.
    pub fn acknowledge(&mut self, claims: &[Claim]) {
        for claim in claims {
            let cursor = &mut self.cursors[claim.ring];
            let index = claim.ticket.checked_sub(cursor.first_ticket);
            let entry =
                index.and_then(|index| cursor.outstanding.get_mut(usize::try_from(index).ok()?));
            if let Some(entry) = entry.filter(|entry| !entry.acknowledged) {
                entry.acknowledged = true;
                self.unacknowledged.0 -= 1;
                self.unacknowledged.1 -= entry.bytes;
            }
        }
        for (cursor, ring) in self.cursors.iter_mut().zip(self.journal.rings()) {
            let mut end = None;
            while let Some(first) = cursor.outstanding.pop_front_if(|first| first.acknowledged) {
                cursor.first_ticket += 1;
                end = Some(first.end);
            }
            if cursor.outstanding.is_empty() && cursor.position > ring.tail() {
                // Frees a damaged stretch after the last event, too.
                end = Some(cursor.position);
            }
            if let Some(end) = end {
                ring.acknowledge(end);
            }
        }
    }

    /// Events that were read and not acknowledged.
    pub fn unacknowledged_events(&self) -> usize {
        self.unacknowledged.0
    }

    /// Bytes of the events that were read and not acknowledged.
    pub fn unacknowledged_bytes(&self) -> usize {
        self.unacknowledged.1
    }

    /// Events that were read and whose space is not free yet: the unacknowledged ones, and those that
    /// follow them in their ring.
    pub fn outstanding(&self) -> usize {
        self.cursors.iter().map(|cursor| cursor.outstanding.len()).sum()
    }

    /// Bytes that are not read yet.
    pub fn unread_bytes(&self) -> u64 {
        let rings = self.journal.rings().iter();
        let unread = rings.zip(&self.cursors).map(|(ring, cursor)| ring.head() - cursor.position);
        unread.sum::<u64>() * WORD
    }

    /// Damaged stretches found so far.
    pub fn damaged_stretches(&self) -> u64 {
        self.damaged
    }
}

/// Reads one ring after the other. After `None` there may be more events later.
impl Iterator for JournalReader {
    type Item = (Bytes, Claim);

    fn next(&mut self) -> Option<Self::Item> {
        for _ in 0..self.cursors.len() {
            loop {
                let damaged = self.damaged;
                if let Some((event, claim, _)) = self.next_in_ring() {
                    return Some((event, claim));
                }
                if self.damaged == damaged {
                    break;
                }
            }
            self.turn();
        }
        None
    }
}
