//! What the partition key of a Kinesis record says. Pure.
//!
//! The key of a record with events is its *receipt*: which stretches of which journal they are. Whoever collects the
//! receipts of a journal finds what is missing of it. Every attempt has another key, so that a record that a throttled
//! shard rejected probably goes to another one next time.

use adtrack_proto::journal::{JournalNotice, journal_notice::Kind};
use adtrack_proto::receipt::{MAX_BYTES, Receipt, RingRange};
use uuid::Uuid;

use super::journal::{Stretch, id_text};

/// Journal, attempt, and the points behind them; `i32::MAX` attempts have six digits.
const FRAME_BYTES: usize = 13 + 1 + 6 + 1;
/// Ring, position and length of the longest stretch, and what separates them. Positions are below 2^51 bytes, and a
/// record's stretches below 36^5.
const STRETCH_BYTES: usize = 13 + 1 + 10 + 1 + 5 + 1;

/// What a Kinesis record is.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum Label {
    /// Events of which nobody knows where they were: of a journal without identity, or of a damaged file.
    #[default]
    Unreceipted,
    /// Events, and where they are in their journal.
    Events(Stretches),
    /// What a journal says of itself, instead of events.
    Notice(Box<JournalNotice>),
}

/// Stretches of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretches {
    journal: u64,
    /// Each ring, from where to where.
    ranges: Vec<(u64, u64, u64)>,
}

impl Label {
    /// Whether an event at `stretch` may be in a record with this label, which has events already.
    pub fn takes(&self, stretch: Option<Stretch>) -> bool {
        match (self, stretch) {
            (Self::Unreceipted, None) => true,
            (Self::Events(own), Some(stretch)) => own.journal == stretch.journal,
            _ => false,
        }
    }

    /// Adds where an event is. The caller has checked that it [`takes`](Self::takes) it, or the record is empty.
    pub fn add(&mut self, stretch: Option<Stretch>) {
        let Some(Stretch { journal, ring, from, to }) = stretch else { return };
        match self {
            Self::Events(Stretches { ranges, .. }) => match ranges.last_mut() {
                Some(last) if last.0 == ring && last.2 == from => last.2 = to,
                _ => ranges.push((ring, from, to)),
            },
            _ => *self = Self::Events(Stretches { journal, ranges: vec![(ring, from, to)] }),
        }
    }

    /// Whether the key has room for a stretch of another ring.
    pub fn has_room(&self) -> bool {
        match self {
            // The stretches so far are complete: only a new one can grow.
            Self::Events(_) => self.key_bytes() + STRETCH_BYTES <= MAX_BYTES,
            _ => true,
        }
    }

    /// An upper bound on the key's length.
    pub fn key_bytes(&self) -> usize {
        match self {
            Self::Events(Stretches { ranges, .. }) => {
                let bytes =
                    ranges.iter().map(|(_, from, to)| 16 + digits(*from) + digits(to - from));
                FRAME_BYTES + bytes.sum::<usize>()
            }
            _ => 36,
        }
    }

    /// The partition key of an attempt, which counts from 0.
    pub fn partition_key(&self, attempt: u32) -> String {
        match self {
            Self::Unreceipted => Uuid::new_v4().to_string(),
            Self::Events(stretches) => stretches.receipt(attempt).to_string(),
            Self::Notice(notice) => format!("{}.{}", notice.journal, kind_letter(notice.kind())),
        }
    }
}

impl Stretches {
    /// The receipt of an attempt.
    pub fn receipt(&self, attempt: u32) -> Receipt {
        let position = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let ranges = self.ranges.iter().map(|(ring, from, to)| RingRange {
            ring: id_text(*ring),
            from: position(*from),
            to: position(*to),
        });
        Receipt { journal: id_text(self.journal), attempt, ranges: ranges.collect() }
    }

    /// The stretches of a receipt; none if an id is larger than a tracker makes them.
    pub fn of(receipt: &Receipt) -> Option<Self> {
        let id = |text: &str| u64::from_str_radix(text, 36).ok();
        let range = |range: &RingRange| {
            Some((id(&range.ring)?, range.from.unsigned_abs(), range.to.unsigned_abs()))
        };
        Some(Self {
            journal: id(&receipt.journal)?,
            ranges: receipt.ranges.iter().map(range).collect::<Option<_>>()?,
        })
    }
}

/// How many digits a number has in base 36.
fn digits(number: u64) -> usize {
    number.checked_ilog(36).map_or(1, |log| log as usize + 1)
}

fn kind_letter(kind: Kind) -> char {
    match kind {
        Kind::Opened => 'o',
        Kind::Heartbeat => 'h',
        Kind::Damaged => 'd',
        Kind::Closed => 'c',
        Kind::Unspecified => 'u',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stretch(ring: u64, from: u64, to: u64) -> Option<Stretch> {
        Some(Stretch { journal: 1, ring, from, to })
    }

    #[test]
    fn joins_stretches_that_continue_each_other() {
        let mut label = Label::default();
        for (ring, from, to) in [(5, 0, 40), (5, 40, 80), (6, 8, 16), (5, 88, 96)] {
            label.add(stretch(ring, from, to));
        }
        assert_eq!(
            label.partition_key(35),
            "0000000000001.z.0000000000005:0+28,0000000000006:8+8,0000000000005:2g+8"
        );
    }

    #[test]
    fn keeps_journals_and_unreceipted_events_apart() {
        let mut label = Label::default();
        assert!(label.takes(None));
        label.add(stretch(5, 0, 40));
        assert!(label.takes(stretch(6, 0, 8)) && !label.takes(None));
        assert!(!label.takes(Some(Stretch { journal: 2, ring: 5, from: 40, to: 48 })));
    }

    proptest! {
        #[test]
        fn fits_into_a_partition_key_and_is_read_again(
            journal in any::<u64>(),
            attempt in 0..=i32::MAX.cast_unsigned(),
            stretches in prop::collection::vec((any::<u64>(), 0_u64..1 << 51, 8_u64..10_000_000), 1..20),
        ) {
            let mut label = Label::default();
            for (ring, from, length) in stretches {
                if label.has_room() {
                    label.add(Some(Stretch { journal, ring, from, to: from + length }));
                }
            }
            let key = label.partition_key(attempt);
            prop_assert!(key.len() <= label.key_bytes() && label.key_bytes() <= MAX_BYTES, "{key}");
            let receipt = key.parse::<Receipt>().unwrap();
            prop_assert_eq!(Stretches::of(&receipt).map(Label::Events), Some(label));
        }
    }
}
