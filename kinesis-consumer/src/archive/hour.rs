//! The hours of UTC, by which the archive is laid out.

use std::fmt;

use adtrack_proto::rank::MAX_RECEIVED_AT_MS;
use jiff::Timestamp;

const MS_PER_HOUR: i64 = 60 * 60 * 1_000;

/// An hour. As text, the folder of its files: `dt=2026-01-02/hour=03`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(i64);

impl Hour {
    /// The hour of a time in milliseconds since the Unix epoch, within the archive's [bounds](bounded).
    pub fn of(ms: i64) -> Self {
        Self(bounded(ms) / MS_PER_HOUR)
    }
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = Timestamp::from_millisecond(self.0 * MS_PER_HOUR).unwrap_or_default();
        let text = begin.to_string();
        let (date, hour) = text.split_at_checked(10).unwrap_or_default();
        write!(f, "dt={date}/hour={}", hour.get(1..3).unwrap_or_default())
    }
}

/// A time within the archive's bounds, those of ranks: from 1970 to 2286. No tracker writes another one, and one event
/// beyond what a reader's timestamps hold would make all of its file unreadable.
pub fn bounded(ms: i64) -> i64 {
    ms.clamp(0, MAX_RECEIVED_AT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_folder_of_its_day() {
        for (ms, folder) in [
            (0, "dt=1970-01-01/hour=00"),
            (1_767_323_045_678, "dt=2026-01-02/hour=03"),
            (1_767_322_799_999, "dt=2026-01-02/hour=02"),
            (1_767_322_800_000, "dt=2026-01-02/hour=03"),
            (-1, "dt=1970-01-01/hour=00"),
            (i64::MIN, "dt=1970-01-01/hour=00"),
            (i64::MAX, "dt=2286-11-20/hour=17"),
        ] {
            assert_eq!(Hour::of(ms).to_string(), folder, "{ms}");
        }
    }
}
