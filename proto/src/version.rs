//! The order of a program's updates.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The version of an update, `{epoch}.{sequence}`. The sequence is the Kinesis sequence number of the
/// record that carried the update; an operator raises the epoch when the stream is replaced.
///
/// Versions are ordered by epoch, then by sequence, both as numbers. A sequence number has up to 186
/// bits, more than any integer type, so it stays text. Of two decimal numbers without leading zeros, the
/// longer one is greater; if both have the same length, the one that sorts later is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    epoch: u64,
    sequence: Box<str>,
}

/// The error for a text that is not a valid version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a version is EPOCH.SEQUENCE: a number below 2^64 and one of 1 to {} digits",
    Version::MAX_SEQUENCE_DIGITS
)]
pub struct InvalidVersion;

impl Version {
    /// The maximum length of a sequence number in digits: what `PutRecord` documents for
    /// `SequenceNumberForOrdering` (`0|([1-9]\d{0,128})`).
    pub const MAX_SEQUENCE_DIGITS: usize = 129;

    /// The version of the Kinesis record `sequence_number` in `epoch`.
    pub fn new(epoch: u64, sequence_number: &str) -> Result<Self, InvalidVersion> {
        if sequence_number.is_empty()
            || sequence_number.len() > Self::MAX_SEQUENCE_DIGITS
            || !sequence_number.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(InvalidVersion);
        }
        let significant = sequence_number.trim_start_matches('0');
        let sequence = if significant.is_empty() { "0" } else { significant };
        Ok(Self { epoch, sequence: sequence.into() })
    }

    /// `0.0`, the version of sample data: older than any record on a stream.
    pub fn zero() -> Self {
        Self { epoch: 0, sequence: "0".into() }
    }

    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The sequence number: decimal, without leading zeros.
    pub fn sequence(&self) -> &str {
        &self.sequence
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| self.sequence.len().cmp(&other.sequence.len()))
            .then_with(|| self.sequence.cmp(&other.sequence))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, sequence) = text.split_once('.').ok_or(InvalidVersion)?;
        if !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidVersion);
        }
        Self::new(epoch.parse().map_err(|_| InvalidVersion)?, sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn orders_as_numbers_not_as_text() {
        let ascending = [
            "0.0",
            "0.9",
            "0.10",
            "0.49590338271490256608559692538361571095921575989136588898",
            "0.49590338271490256608559692538361571095921575989136588899",
            "0.149590338271490256608559692538361571095921575989136588898",
            "9.1",
            "10.0",
        ];
        for pair in ascending.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn has_an_epoch_and_a_sequence() {
        let version = version("12.345");
        assert_eq!((version.epoch(), version.sequence()), (12, "345"));
    }

    #[test]
    fn ignores_leading_zeros() {
        assert_eq!(version("00.007"), version("0.7"));
        assert_eq!(version("0.000"), Version::zero());
    }

    #[test]
    fn rejects_invalid_versions() {
        let too_long = format!("0.{}", "1".repeat(130));
        for text in ["", "1", ".", "1.", ".1", "a.1", "1.a", "-1.1", "+1.1", "1.1.1", &too_long] {
            assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text:?}");
        }
    }
}
