//! Which of two versions is newer.

use std::sync::{Mutex, PoisonError};

use adtrack_proto::{Version, sequence_number};
use jiff::Timestamp;

/// The order of versions, as far as L1 goes by it. A version that no record of the stream can have by now was
/// forged or written by mistake. It is older than every other version: it is served if there is nothing else, and
/// never stands in the way of an update.
#[derive(Debug, Default)]
pub(super) struct VersionOrder {
    highest: Mutex<Highest>,
}

/// The highest sequence number that is possible in an hour since the Unix epoch.
#[derive(Debug, Default)]
struct Highest {
    hour: i64,
    sequence: String,
}

impl VersionOrder {
    /// Whether the stream can have given a record this version.
    pub(super) fn is_possible(&self, version: &Version) -> bool {
        self.is_possible_at(version, Timestamp::now().as_second())
    }

    /// Whether `new` is newer than `old`. Absence has no version and is older than anything.
    pub(super) fn is_newer(&self, new: Option<&Version>, old: Option<&Version>) -> bool {
        let rank = |version: &Version| self.is_possible(version);
        // Nearly always both are possible.
        match (new, old) {
            (Some(new), Some(old)) => (rank(new), new) > (rank(old), old),
            (new, old) => new > old,
        }
    }

    fn is_possible_at(&self, version: &Version, now: i64) -> bool {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = now.div_euclid(3_600);
        if highest.hour != hour || highest.sequence.is_empty() {
            let now = u64::try_from(now).unwrap_or_default();
            *highest = Highest { hour, sequence: sequence_number::highest_by(now) };
        }
        let sequence = version.sequence();
        (sequence.len(), sequence) <= (highest.sequence.len(), highest.sequence.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2018-12-17, the arrival of the record with the number in `TRUE`.
    const NOW: i64 = 1_545_084_650;
    const TRUE: &str = "0.49590338271490256608559692538361571095921575989136588898";
    /// The creation of its shard is in 2023.
    const LATER: &str = "0.49640338271490256608559692538361571095921575989136588898";

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn doubts_what_no_record_can_have() {
        let order = VersionOrder::default();
        let nines = |count| version(&format!("0.{}", "9".repeat(count)));
        for (version, is_possible) in [
            (version("0.0"), true),
            (version("7.1"), true),
            (version(TRUE), true),
            (nines(55), true),
            (version(LATER), false),
            (nines(56), false),
            (nines(129), false),
        ] {
            assert_eq!(order.is_possible_at(&version, NOW), is_possible, "{version}");
        }
        let years_later = NOW + 6 * 365 * 86_400;
        assert!(order.is_possible_at(&version(LATER), years_later), "the bound moves on");
        assert!(!order.is_possible_at(&version(LATER), NOW), "the clock was set back");
    }

    #[test]
    fn every_possible_version_is_newer_than_an_impossible_one() {
        let order = VersionOrder::default();
        let is_newer =
            |new: &str, old: &str| order.is_newer(Some(&version(new)), Some(&version(old)));
        let (forged, worse) = (format!("0.{}", "9".repeat(56)), format!("9.{}", "9".repeat(57)));
        assert!(is_newer("0.1", &forged) && !is_newer(&forged, "0.1"));
        assert!(is_newer(&worse, &forged) && !is_newer(&forged, &worse), "among themselves");
        assert!(is_newer("0.2", "0.1") && !is_newer("0.1", "0.2") && !is_newer("0.1", "0.1"));
        assert!(order.is_newer(Some(&version(&forged)), None) && !order.is_newer(None, None));
    }
}
