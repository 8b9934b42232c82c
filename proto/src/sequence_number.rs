//! The structure of Kinesis sequence numbers, as far as it is known.
//!
//! AWS only documents that sequence numbers are decimal and increase. In fact (and in emulators) they have
//! 186 bits, in hexadecimal digits: a `2`; nine for when the *shard* was created, in seconds since the Unix
//! epoch; 18 that count the shard's records; ten for when the *record* arrived, in seconds; eight for the
//! shard's number; a `2`. So the time of the shard's creation decides which of two numbers is higher, and
//! Kinesis never gave a record a number whose time of creation lies in the future.
//!
//! Because this is not documented, [`highest_possible`] checks it: it compares the arrival that Kinesis reports
//! for a record with the one inside its sequence number, and returns no bound if they differ. Who has no record,
//! only its number, can use [`highest_by`] to doubt the number, but not to discard it.

/// Digits of a sequence number, hexadecimal and with the leading `2`.
const HEX_DIGITS: usize = 47;
const SHARD_CREATED_AT: std::ops::Range<usize> = 1..10;
const ARRIVED_AT: std::ops::Range<usize> = 28..38;
/// How far a reported arrival may be from the one inside: `ApproximateArrivalTimestamp` is approximate.
const ARRIVAL_TOLERANCE_SECONDS: u64 = 600;
/// How far ahead of the clock a shard's creation may be: clocks differ.
const CREATION_TOLERANCE_SECONDS: u64 = 24 * 60 * 60;

/// The highest sequence number that a stream can have given a record by `now`, plus a day. `sequence_number`
/// is that of one of its records, which arrived at `arrived_at`; returns `None` if it does not have the
/// structure above. Both times are in seconds since the Unix epoch.
pub fn highest_possible(sequence_number: &str, arrived_at: u64, now: u64) -> Option<String> {
    let digits = hex_digits(sequence_number)?;
    let has_known_structure = digits.len() == HEX_DIGITS
        && digits.first() == Some(&2)
        && digits.last() == Some(&2)
        && number(&digits[ARRIVED_AT]).abs_diff(arrived_at) <= ARRIVAL_TOLERANCE_SECONDS
        && number(&digits[SHARD_CREATED_AT]) <= arrived_at + ARRIVAL_TOLERANCE_SECONDS;
    if !has_known_structure {
        return None;
    }
    // A record may be read again years after it arrived, and never before.
    Some(highest_by(now.max(arrived_at)))
}

/// The highest sequence number that a stream can have given a record by `now`, in seconds since the Unix epoch, plus
/// a day, if its numbers have the structure above.
pub fn highest_by(now: u64) -> String {
    // Far in the future, and still nine digits.
    let latest = now.saturating_add(CREATION_TOLERANCE_SECONDS).min(0xF_FFFF_FFFF);
    let highest = format!("{:f<HEX_DIGITS$}", format!("2{latest:09x}"));
    let digits: Vec<_> = highest.chars().filter_map(|digit| digit.to_digit(16)).collect();
    converted(&digits, 16, 10).iter().map(u32::to_string).collect()
}

fn hex_digits(decimal: &str) -> Option<Vec<u32>> {
    let digits: Option<Vec<_>> = decimal.chars().map(|digit| digit.to_digit(10)).collect();
    Some(converted(&digits.filter(|digits| digits.len() < 2 * HEX_DIGITS)?, 10, 16))
}

fn number(hex_digits: &[u32]) -> u64 {
    hex_digits.iter().fold(0, |value, digit| value << 4 | u64::from(*digit))
}

/// The digits of a number in another base, most significant first, without leading zeros.
fn converted(digits: &[u32], from: u32, to: u32) -> Vec<u32> {
    let mut reversed: Vec<u32> = Vec::new();
    for digit in digits {
        let mut carry = *digit;
        for place in &mut reversed {
            carry += *place * from;
            *place = carry % to;
            carry /= to;
        }
        while carry > 0 {
            reversed.push(carry % to);
            carry /= to;
        }
    }
    reversed.reverse();
    reversed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the sample event in AWS Lambda's documentation, with its `approximateArrivalTimestamp`.
    const SAMPLES: [(&str, u64); 2] = [
        ("49590338271490256608559692538361571095921575989136588898", 1_545_084_650),
        ("49590338271490256608559692540925702759324208523137515618", 1_545_084_711),
    ];

    #[test]
    fn bounds_what_a_stream_can_have_given() {
        for (sequence_number, arrived_at) in SAMPLES {
            let highest = highest_possible(sequence_number, arrived_at, arrived_at).unwrap();
            assert_eq!(highest.len(), 56);
            assert_eq!(highest_by(arrived_at), highest);
            assert!(*highest > *sequence_number);
            // A shard that is created a day later has numbers below it, one two days later above it.
            let created = |days: u64| {
                let digits = format!("2{:09x}{:0<37}", arrived_at + days * 86_400, "");
                let digits: Vec<_> =
                    digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
                converted(&digits, 16, 10).iter().map(u32::to_string).collect::<String>()
            };
            assert!(created(1) < highest && highest < created(2));
            let replayed = arrived_at + 300 * 86_400;
            assert!(
                highest_possible(sequence_number, arrived_at, replayed).unwrap() > created(300)
            );
        }
    }

    #[test]
    fn returns_no_bound_for_another_structure() {
        let (sample, arrived_at) = SAMPLES[0];
        let longer = format!("1{sample}");
        for sequence_number in ["", "0", "495", "x", &longer, &"9".repeat(56), &"9".repeat(129)] {
            assert_eq!(highest_possible(sequence_number, arrived_at, arrived_at), None);
        }
        let later = arrived_at + 3_600;
        assert_eq!(highest_possible(sample, later, later), None, "another arrival");
    }

    #[test]
    fn bound_grows_with_the_clock_whatever_that_says() {
        let bounds = [0, 1, 1_545_084_650, 1_545_084_651, 0xF_FFFF_FFFF - 86_400].map(highest_by);
        assert!(bounds.iter().all(|bound| bound.len() == 56));
        assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
        assert_eq!(highest_by(u64::MAX), bounds[4]);
    }

    #[test]
    fn converts_between_bases() {
        assert_eq!(hex_digits("4095"), Some(vec![15, 15, 15]));
        assert_eq!(converted(&[0, 0], 10, 16), Vec::<u32>::new());
        assert_eq!(converted(&[15, 15], 16, 10), [2, 5, 5]);
    }
}
