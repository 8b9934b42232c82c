//! Amounts of money: converts decimal text and JSON numbers to micros without floating point.

use crate::domain::json::Number;

/// Digits after the decimal point: a micro is a millionth.
const FRACTION_DIGITS: usize = 6;

/// Why a text is not a valid amount: what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// It is not of the form `-?[0-9]+(\.[0-9]+)?`.
    #[error("a decimal number such as 49.90 or -5")]
    Form,
    /// It has more than six significant digits after the decimal point.
    #[error("a number with at most 6 digits after the decimal point")]
    TooPrecise,
    /// Its micros do not fit into 64 bits.
    #[error("a number within ±9223372036854.775807")]
    TooLarge,
}

/// Converts a decimal `text` to millionths, exactly. Trailing zeros of the fraction are ignored. Refuses
/// exponents, plus signs, spaces, thousands separators and non-ASCII digits, which are ambiguous.
pub fn micros(text: &str) -> Result<i64, InvalidAmount> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return Err(InvalidAmount::Form),
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return Err(InvalidAmount::Form);
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > FRACTION_DIGITS {
        return Err(InvalidAmount::TooPrecise);
    }
    let padding = FRACTION_DIGITS - fraction.len();
    let all = whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', padding));
    // A negative number is counted down from zero: i64's minimum has no positive counterpart.
    let sum = all.map(|byte| i64::from(byte - b'0')).try_fold(0_i64, |sum, digit| {
        let tens = sum.checked_mul(10)?;
        if negative { tens.checked_sub(digit) } else { tens.checked_add(digit) }
    });
    sum.ok_or(InvalidAmount::TooLarge)
}

/// Converts a JSON number to millionths, and says whether that is exact. In contrast to a text, its form is
/// not ambiguous, and the digits beyond a millionth are usually an artefact of binary floating point.
pub fn micros_of_number(text: &str) -> Result<(i64, bool), InvalidAmount> {
    let number = Number::parse(text).ok_or(InvalidAmount::Form)?;
    number.scaled(6).ok_or(InvalidAmount::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn converts_decimals_to_micros_exactly() {
        for (text, expected) in [
            ("0", 0),
            ("-0.00", 0),
            ("49.90", 49_900_000),
            ("-49.9", -49_900_000),
            ("0.000001", 1),
            ("0.1", 100_000),
            ("007.5", 7_500_000),
            ("1.10000000000", 1_100_000),
            ("9223372036854.775807", i64::MAX),
            ("-9223372036854.775808", i64::MIN),
        ] {
            assert_eq!(micros(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_plain_decimal() {
        for text in [
            "", "-", "+5", "1e3", "1,000.00", "1,5", "NaN", "inf", "٣", ".5", "5.", "1.2.3", "--1",
            " 1", "1 ", "0x10", "1_000", "-.5", "1.-5", "5€",
        ] {
            assert_eq!(micros(text), Err(InvalidAmount::Form), "{text:?}");
        }
        for text in ["0.0000001", "1.2345678"] {
            assert_eq!(micros(text), Err(InvalidAmount::TooPrecise), "{text}");
        }
        for text in ["9223372036854.775808", "-9223372036854.775809", &"9".repeat(400)] {
            assert_eq!(micros(text), Err(InvalidAmount::TooLarge), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_back_every_micro(value: i64) {
            let sign = if value < 0 { "-" } else { "" };
            let (whole, fraction) =
                (value.unsigned_abs() / 1_000_000, value.unsigned_abs() % 1_000_000);
            prop_assert_eq!(micros(&format!("{sign}{whole}.{fraction:06}")), Ok(value));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = micros(&text);
        }
    }
}
