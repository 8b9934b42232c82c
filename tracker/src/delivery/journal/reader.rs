//! The journal's only consumer: reads events, and frees their space when they are acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Journal;
use super::ring::{Read, Ring};

/// Identifies an event that was read, to acknowledge it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    ring: usize,
    ticket: u64,
}

/// Reads the journal.
#[derive(Debug)]
pub struct JournalReader {
    journal: Journal,
    cursors: Vec<Cursor>,
    next_ring: usize,
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
        Self { journal, cursors, next_ring: 0, unacknowledged: (0, 0), damaged: 0 }
    }

    fn next_of(&mut self, ring: usize) -> Option<(Bytes, Claim)> {
        let cursor = &mut self.cursors[ring];
        loop {
            match self.journal.rings()[ring].read(cursor.position) {
                Read::Record(record, end) => {
                    cursor.position = end;
                    let ticket = cursor.first_ticket + cursor.outstanding.len() as u64;
                    let bytes = record.payload.len();
                    cursor.outstanding.push_back(Outstanding { end, bytes, acknowledged: false });
                    self.unacknowledged.0 += 1;
                    self.unacknowledged.1 += bytes;
                    return Some((record.payload.into(), Claim { ring, ticket }));
                }
                Read::Damaged(begin, end) => {
                    self.damaged += 1;
                    tracing::error!(
                        ring,
                        begin,
                        end,
                        "the journal is damaged between these positions (words); skipped"
                    );
                    cursor.position = end;
                    if cursor.outstanding.is_empty() {
                        self.journal.rings()[ring].acknowledge(end);
                    }
                }
                Read::Empty => return None,
            }
        }
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
        unread.sum::<u64>() * super::memory::WORD
    }

    /// Damaged stretches found so far.
    pub fn damaged_stretches(&self) -> u64 {
        self.damaged
    }
}

/// Reads the rings in turn. After `None` there may be more events later.
impl Iterator for JournalReader {
    type Item = (Bytes, Claim);

    fn next(&mut self) -> Option<Self::Item> {
        let rings = self.cursors.len();
        for _ in 0..rings {
            let ring = self.next_ring;
            self.next_ring = (ring + 1) % rings;
            if let Some(event) = self.next_of(ring) {
                return Some(event);
            }
        }
        None
    }
}
