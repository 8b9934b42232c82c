//! The partition key of a Kinesis record with events: a receipt that says which stretches of which journal they are.
//!
//! ```text
//! {journal}.{attempt}.{ring}:{from}+{length}[,{ring}:{from}+{length}…]
//! ```
//!
//! Numbers are in base 36; the ids of journals and rings have 13 digits. A key that is anything else, such as that
//! of a record that another program wrote, is no receipt.

use std::fmt;
use std::str::FromStr;

/// Kinesis's limit for a partition key, in characters, which are ASCII here.
pub const MAX_BYTES: usize = 256;

const ID_DIGITS: usize = 13;
const ATTEMPT_DIGITS: usize = 8;
const POSITION_DIGITS: usize = 13;
const BASE: u32 = 36;

/// The events of a Kinesis record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The journal's id.
    pub journal: String,
    /// How often the events were sent before; every attempt has another key. At most `i32::MAX`.
    pub attempt: u32,
    /// Where the journal has them, at least one stretch.
    pub ranges: Vec<RingRange>,
}

/// A stretch of a ring, in bytes since the ring was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingRange {
    /// The ring's id.
    pub ring: String,
    /// The first position.
    pub from: i64,
    /// The position after the last; at least `from`.
    pub to: i64,
}

/// A partition key that is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not JOURNAL.ATTEMPT.RING:FROM+LENGTH")]
pub struct InvalidReceipt;

impl FromStr for Receipt {
    type Err = InvalidReceipt;

    fn from_str(text: &str) -> Result<Self, InvalidReceipt> {
        parse(text).filter(|_| text.len() <= MAX_BYTES).ok_or(InvalidReceipt)
    }
}

fn parse(text: &str) -> Option<Receipt> {
    let (journal, rest) = text.split_once('.')?;
    let (attempt, ranges) = rest.split_once('.')?;
    let attempt = i32::try_from(number(attempt, ATTEMPT_DIGITS)?).ok()?;
    let ranges = ranges.split(',').map(parse_range).collect::<Option<_>>()?;
    Some(Receipt { journal: id(journal)?, attempt: attempt.cast_unsigned(), ranges })
}

fn parse_range(text: &str) -> Option<RingRange> {
    let (ring, stretch) = text.split_once(':')?;
    let (from, length) = stretch.split_once('+')?;
    let from = number(from, POSITION_DIGITS)?;
    let to = from.checked_add(number(length, POSITION_DIGITS)?)?;
    Some(RingRange { ring: id(ring)?, from, to })
}

fn id(text: &str) -> Option<String> {
    (text.len() == ID_DIGITS && text.bytes().all(is_digit)).then(|| text.to_owned())
}

fn number(text: &str, max_digits: usize) -> Option<i64> {
    // Otherwise a sign and upper case would do.
    let is_number = text.len() <= max_digits && text.bytes().all(is_digit);
    is_number.then(|| i64::from_str_radix(text, BASE).ok())?
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase()
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.", self.journal, Base36(self.attempt.into()))?;
        for (index, RingRange { ring, from, to }) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (from, length) = (from.unsigned_abs(), to.saturating_sub(*from).unsigned_abs());
            write!(f, "{comma}{ring}:{}+{}", Base36(from), Base36(length))?;
        }
        Ok(())
    }
}

/// A number in base 36, lower case.
struct Base36(u64);

impl fmt::Display for Base36 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; POSITION_DIGITS];
        let mut rest = self.0;
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] =
                b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % u64::from(BASE)) as usize];
            rest /= u64::from(BASE);
            if rest == 0 {
                break;
            }
        }
        f.write_str(std::str::from_utf8(&digits[first..]).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JOURNAL: &str = "0123456789abc";
    const RING: &str = "zzzzzzzzzzzzz";

    fn of(text: &str) -> Result<Receipt, InvalidReceipt> {
        text.parse()
    }

    #[test]
    fn reads_the_stretches_of_several_rings() {
        let receipt = of(&format!("{JOURNAL}.z.{RING}:10+a,{JOURNAL}:0+0")).unwrap();
        let range = |ring: &str, from, to| RingRange { ring: ring.to_owned(), from, to };
        assert_eq!(
            receipt,
            Receipt {
                journal: JOURNAL.to_owned(),
                attempt: 35,
                ranges: vec![range(RING, 36, 46), range(JOURNAL, 0, 0)],
            }
        );
    }

    #[test]
    fn rejects_every_other_key() {
        let valid = format!("{JOURNAL}.0.{RING}:0+1");
        let mut others = vec![
            String::new(),
            "019b7ca9-8f2e-7707-8707-070707070707".to_owned(),
            format!("{JOURNAL}.h"),
            format!("{JOURNAL}.0."),
            valid.to_uppercase(),
            valid.replace('+', "+-"),
            valid.replace('+', "++"),
            valid.replace(":0", ":"),
            format!(" {valid}"),
            format!("{valid},"),
            format!("x{valid}"),
            format!("{JOURNAL}.zzzzzzz.{RING}:0+1"),
            format!("{JOURNAL}.123456789.{RING}:0+1"),
            format!("{JOURNAL}.0.{RING}:zzzzzzzzzzzzz+1"),
            format!("{JOURNAL}.0.{RING}:1y2p0ij32e8e7+1"),
            format!("{JOURNAL}.0.{RING}:00000000000000+1"),
        ];
        let ranges = vec![format!("{RING}:0+1"); 15].join(",");
        others.push(format!("{JOURNAL}.0.{ranges}"));
        for other in others {
            assert_eq!(of(&other), Err(InvalidReceipt), "{other}");
        }
        assert!(of(&valid).is_ok());
    }

    prop_compose! {
        fn receipt()(
            journal in "[0-9a-z]{13}",
            attempt in 0..=i32::MAX.cast_unsigned(),
            ranges in prop::collection::vec(("[0-9a-z]{13}", any::<(i64, i64)>()), 1..5),
        ) -> Receipt {
            let range = |(ring, (one, other)): (String, (i64, i64))| {
                let (one, other) = (one & i64::MAX, other & i64::MAX);
                RingRange { ring, from: one.min(other), to: one.max(other) }
            };
            Receipt { journal, attempt, ranges: ranges.into_iter().map(range).collect() }
        }
    }

    proptest! {
        #[test]
        fn round_trips(receipt in receipt()) {
            prop_assert_eq!(of(&receipt.to_string()), Ok(receipt));
        }

        #[test]
        fn never_panics(text in "[0-9a-z.:+,A-Z-]{0,60}") {
            let _ = of(&text);
        }
    }
}
