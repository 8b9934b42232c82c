//! The order of events that have the same message id.

use sha2::{Digest, Sha256};

/// The largest number of milliseconds that fits into the rank's 13 digits, in the year 2286.
pub const MAX_RECEIVED_AT_MS: i64 = 9_999_999_999_999;

/// The rank of an event that was received at `received_at_ms`: of events with the same message id, the one with
/// the smallest rank, compared as text, is kept.
///
/// Of two that were received in the same millisecond, a hash of their bytes decides, so that every reader of the
/// stream keeps the same one, in whichever order it reads them. `bytes` is the encoded event as it came from the
/// stream: encoding the decoded event again would drop fields that this version does not know.
pub fn rank(received_at_ms: i64, bytes: &[u8]) -> String {
    let mut hash = [0; 8];
    hash.copy_from_slice(&Sha256::digest(bytes)[..8]);
    format!("{}{:016x}", rank_prefix(received_at_ms), u64::from_be_bytes(hash))
}

/// The part of [`rank`] that does not depend on the event's bytes: smaller than the rank of every event that was
/// received in the same millisecond, and larger than that of every earlier one.
pub fn rank_prefix(received_at_ms: i64) -> String {
    format!("{:013}-", received_at_ms.clamp(0, MAX_RECEIVED_AT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_by_time_then_hash() {
        // The first 16 digits of `printf abc | sha256sum`.
        assert_eq!(rank(1_767_323_045_678, b"abc"), "1767323045678-ba7816bf8f01cfea");
        assert_eq!(rank(7, b"abc"), "0000000000007-ba7816bf8f01cfea");
        for (smaller, larger) in [(-1, 1), (0, 1), (9, 10), (1_767_323_045_678, i64::MAX)] {
            assert!(rank(smaller, b"abc") < rank(larger, b""), "{smaller} {larger}");
        }
        assert_eq!(rank(i64::MAX, b"").len(), 30);
    }

    #[test]
    fn a_prefix_ranks_before_its_millisecond() {
        assert!(rank_prefix(8) < rank(8, b"a"));
        assert!(rank(7, b"a") < rank_prefix(8));
    }
}
