//! The format of a record in a ring, in words. Pure.
//!
//! ```text
//! word 0   length of the payload in bytes (32 bits) | CRC-32 (32 bits)
//! word 1   the record's position: the words ever written to the ring before it
//! word 2   when the event was accepted, milliseconds since the Unix epoch
//! word 3…  the payload, little-endian, zero-padded
//! ```
//!
//! A ring still holds valid records of the previous lap. Positions only grow, so such a record has another
//! position than expected. The checksum covers everything.

use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::WORD;

/// Words before the payload.
pub(super) const HEADER_WORDS: u64 = 3;
/// The longest payload, in bytes: longer than any event, and short enough to recognize a damaged length.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;
/// A length that means: nothing follows up to the ring's end; the next record is at its start.
const SKIP: u32 = u32::MAX;

/// What is found at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record.
    Record(Record),
    /// The next record is at the ring's start.
    Skip,
    /// A record whose length, time, payload or checksum is damaged.
    Damaged,
    /// No record that begins at this position: free space, or one of an earlier lap.
    Nothing,
}

/// An event in the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Milliseconds since the Unix epoch.
    pub(super) accepted_at: u64,
    /// The event.
    pub(super) payload: Vec<u8>,
}

/// How many words a record takes, given its payload's length in bytes.
pub(super) fn words_of(payload: usize) -> u64 {
    HEADER_WORDS + (payload as u64).div_ceil(WORD)
}

/// Writes a record. `words` must be exactly as long as the record.
pub(super) fn write(words: &[AtomicU64], position: u64, accepted_at: u64, payload: &[u8]) {
    let [first, second, third, rest @ ..] = words else { return };
    second.store(position, Ordering::Relaxed);
    third.store(accepted_at, Ordering::Relaxed);
    let (chunks, tail) = payload.as_chunks::<8>();
    for (word, chunk) in rest.iter().zip(chunks) {
        word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        if let Some(word) = rest.last() {
            word.store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most MAX_PAYLOAD")]
    let length = payload.len() as u32;
    let checksum = checksum(length, position, accepted_at, payload);
    first.store(u64::from(length) | u64::from(checksum) << 32, Ordering::Relaxed);
}

/// Marks the rest of the lap as skipped. `words` is everything up to the ring's end.
pub(super) fn write_skip(words: &[AtomicU64], position: u64) {
    // A rest shorter than a header is always skipped and needs no mark.
    if let [first, second, _, ..] = words {
        second.store(position, Ordering::Relaxed);
        let checksum = checksum(SKIP, position, 0, &[]);
        first.store(u64::from(SKIP) | u64::from(checksum) << 32, Ordering::Relaxed);
    }
}

/// Reads what is at `position`. `words` is everything up to the ring's end.
pub(super) fn read(words: &[AtomicU64], position: u64) -> Found {
    let [first, second, third, rest @ ..] = words else { return Found::Skip };
    if second.load(Ordering::Relaxed) != position {
        return Found::Nothing;
    }
    let first = first.load(Ordering::Relaxed);
    let (length, stored_checksum) = (low(first), low(first >> 32));
    if length == SKIP && stored_checksum == checksum(SKIP, position, 0, &[]) {
        return Found::Skip;
    }
    let size = length as usize;
    let payload_words = size.div_ceil(8);
    let Some(payload_words) = rest.get(..payload_words).filter(|_| size <= MAX_PAYLOAD) else {
        return Found::Nothing;
    };
    let mut payload = Vec::with_capacity(payload_words.len() * 8);
    for word in payload_words {
        payload.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    payload.truncate(size);
    let accepted_at = third.load(Ordering::Relaxed);
    if checksum(length, position, accepted_at, &payload) == stored_checksum {
        Found::Record(Record { accepted_at, payload })
    } else {
        Found::Damaged
    }
}

fn low(word: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "only the lower half is wanted")]
    let low = word as u32;
    low
}

fn checksum(length: u32, position: u64, accepted_at: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut header = [0; 20];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..12].copy_from_slice(&position.to_le_bytes());
    header[12..].copy_from_slice(&accepted_at.to_le_bytes());
    hasher.update(&header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(count: u64) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(u64::MAX)).collect()
    }

    fn record_words(position: u64, payload: &[u8]) -> Vec<AtomicU64> {
        let words = words(words_of(payload.len()));
        write(&words, position, 77, payload);
        words
    }

    proptest! {
        #[test]
        fn reads_records_as_written(
            position in any::<u64>(),
            payload in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let words = record_words(position, &payload);
            prop_assert_eq!(read(&words, position), Found::Record(Record { accepted_at: 77, payload }));
            prop_assert_eq!(read(&words, position.wrapping_add(8)), Found::Nothing);
        }

        #[test]
        fn recognizes_every_flipped_bit(
            payload in proptest::collection::vec(any::<u8>(), 0..60),
            bit in any::<prop::sample::Index>(),
        ) {
            let words = record_words(4_096, &payload);
            let bit = bit.index(words.len() * 64);
            let padding = payload.len() * 8 + 192..words.len() * 64;
            words[bit / 64].fetch_xor(1 << (bit % 64), Ordering::Relaxed);
            let intact = matches!(read(&words, 4_096), Found::Record(record) if record.payload == payload);
            prop_assert_eq!(intact, padding.contains(&bit));
        }

        #[test]
        fn never_panics(words in proptest::collection::vec(any::<u64>(), 0..20)) {
            let position = words.get(1).copied().unwrap_or_default();
            let words: Vec<_> = words.into_iter().map(AtomicU64::new).collect();
            read(&words, position);
        }
    }

    #[test]
    fn skips_the_end_of_the_ring() {
        for left in 0..6 {
            let words = words(left);
            write_skip(&words, 800);
            assert_eq!(read(&words, 800), Found::Skip, "{left} words");
        }
    }
}
