//! JSON objects whose members become parameters, as text; and JSON numbers, exactly.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a text is not a JSON object. Says where, and shows none of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidObject(String);

/// A value as text, with the sender's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar<'a> {
    Null,
    Text(Cow<'a, str>),
    /// With the digits as given.
    Number(&'a str),
    /// `true` or `false`.
    Boolean(&'a str),
    /// The JSON of an object or array.
    Nested(&'a str),
}

impl<'a> Scalar<'a> {
    /// Reads a value. Fails on escapes that are no character, such as half a surrogate pair.
    pub fn of(value: &'a RawValue) -> Result<Self, InvalidObject> {
        let json = value.get();
        Ok(match json.as_bytes().first() {
            Some(b'{' | b'[') => Self::Nested(json),
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean(json),
            Some(b'"') if json.contains('\\') => {
                let text: String = serde_json::from_str(json)
                    .map_err(|error| InvalidObject(format!("not JSON: {error}")))?;
                Self::Text(Cow::Owned(text))
            }
            Some(b'"') => Self::Text(Cow::Borrowed(json.trim_matches('"'))),
            _ => Self::Number(json),
        })
    }

    /// The value as text; `None` for null.
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
            Self::Number(text) | Self::Boolean(text) | Self::Nested(text) => {
                Some(Cow::Borrowed(text))
            }
        }
    }
}

/// The members of a JSON object, in order, without those that are null.
pub fn members(json: &str) -> Result<Vec<(Cow<'_, str>, Scalar<'_>)>, InvalidObject> {
    if !json.trim_ascii_start().starts_with('{') {
        return Err(InvalidObject("expected a JSON object".to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = deserializer.deserialize_map(Members).and_then(|members| {
        deserializer.end()?;
        Ok(members)
    });
    let raw = read.map_err(|error| InvalidObject(format!("not JSON: {error}")))?;
    let mut members = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let value = Scalar::of(value)?;
        if value != Scalar::Null {
            members.push((name.0, value));
        }
    }
    Ok(members)
}

/// A JSON number, exactly: `digits` × 10 to the power of `exponent`, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

/// Beyond this, a number is either zero or too large for everything that we read.
const MAX_EXPONENT: i64 = 100_000;

impl Number {
    /// Reads a number as JSON has it: `-?int frac? exp?`.
    pub fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Self::exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let digits = [whole, fraction].concat().trim_start_matches('0').to_owned();
        let exponent = exponent - i64::try_from(fraction.len()).ok()?;
        Some(Self { is_negative, digits, exponent })
    }

    fn exponent(text: &str) -> Option<i64> {
        let (sign, digits) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // Only an absurd number has an exponent that does not fit.
        Some(sign * digits.parse().unwrap_or(MAX_EXPONENT).min(MAX_EXPONENT))
    }

    /// The number times 10 to the power of `places`, rounded half to even, and whether that is exact; none if
    /// it does not fit.
    pub fn scaled(&self, places: i64) -> Option<(i64, bool)> {
        let shift = self.exponent + places;
        let (kept, cut) = if shift >= 0 {
            (self.digits.as_str(), "")
        } else {
            let cut = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
            match self.digits.len().checked_sub(cut) {
                Some(at) => self.digits.split_at(at),
                // Less than half of the last place.
                None => return Some((0, self.digits.is_empty())),
            }
        };
        let zeros = if kept.is_empty() { 0 } else { usize::try_from(shift.max(0)).ok()? };
        // The largest 64-bit number has 19 digits.
        if kept.len() + zeros > 20 {
            return None;
        }
        let all = kept.bytes().chain(std::iter::repeat_n(b'0', zeros));
        let mut sum = all.fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        if is_rounded_up(cut, sum % 2 == 1) {
            sum += 1;
        }
        let signed = if self.is_negative { -sum } else { sum };
        let is_exact = cut.bytes().all(|digit| digit == b'0');
        Some((i64::try_from(signed).ok()?, is_exact))
    }
}

/// Whether what precedes the digits `cut` is rounded away from zero: half to even.
fn is_rounded_up(cut: &str, is_odd: bool) -> bool {
    let Some((first, rest)) = cut.as_bytes().split_first() else { return false };
    match first {
        b'0'..=b'4' => false,
        b'5' => is_odd || rest.iter().any(|digit| *digit != b'0'),
        _ => true,
    }
}

/// A member's name, borrowed if it has no escapes.
#[derive(Debug)]
pub struct Name<'a>(pub Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Name<'de>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_members_as_given() {
        let json = r#" {"a":"x","b":49.90,"c":-1e3,"d":true,"e":null,"ü":"\"\u00fc\n","a":"","":0,"f":[1]}"#;
        let members: Vec<_> = members(json).unwrap();
        let expected = [
            ("a", Scalar::Text("x".into())),
            ("b", Scalar::Number("49.90")),
            ("c", Scalar::Number("-1e3")),
            ("d", Scalar::Boolean("true")),
            ("ü", Scalar::Text("\"ü\n".into())),
            ("a", Scalar::Text("".into())),
            ("", Scalar::Number("0")),
            ("f", Scalar::Nested("[1]")),
        ];
        let members: Vec<_> =
            members.iter().map(|(name, value)| (&**name, value.clone())).collect();
        assert_eq!(members, expected);
    }

    #[test]
    fn reports_where_json_is_not_an_object() {
        for (json, problem) in [
            ("", "expected a JSON object"),
            ("[1]", "expected a JSON object"),
            ("{\n\"a\":1,}", "not JSON: trailing comma at line 2 column 7"),
            ("{\"a\":1} x", "not JSON: trailing characters at line 1 column 9"),
            ("{\"a\":\"\\ud800\"}", "not JSON: "),
        ] {
            let error = members(json).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{json}: {error}");
        }
    }

    #[test]
    fn reads_numbers_exactly_and_rounds_half_to_even() {
        let micros = |text: &str| Number::parse(text).and_then(|number| number.scaled(6));
        for (text, expected, is_exact) in [
            ("0", 0, true),
            ("-0.0", 0, true),
            ("0e999999999999", 0, true),
            ("1e2", 100_000_000, true),
            ("1.0E7", 10_000_000_000_000, true),
            ("49.90", 49_900_000, true),
            ("-4990e-2", -49_900_000, true),
            ("0.30000000000000004", 300_000, false),
            ("19.989999999999998", 19_990_000, false),
            ("0.0000005", 0, false),
            ("0.0000015", 2, false),
            ("0.00000050001", 1, false),
            ("1e-7", 0, false),
            ("1e-999999999999999999999", 0, false),
            ("9223372036854.775807", i64::MAX, true),
            ("-9223372036854.775808", i64::MIN, true),
        ] {
            assert_eq!(micros(text), Some((expected, is_exact)), "{text}");
        }
        for text in [
            "9223372036854.775808",
            "1e400",
            "1e999999999999999999",
            "",
            "-",
            "1.",
            "1e",
            "0x1",
            "+1",
            "1e+",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_shifted_integer(value: i64, places in 0_i64..30) {
            let number = Number::parse(&format!("{value}e-{places}")).unwrap();
            prop_assert_eq!(number.scaled(places), Some((value, true)));
            // By 128-bit arithmetic.
            let power = 10_i128.pow(u32::try_from(places).unwrap());
            let (quotient, rest) = (i128::from(value) / power, (i128::from(value) % power).abs());
            let up = rest * 2 > power || rest * 2 == power && quotient % 2 != 0;
            let rounded = quotient + if up { i128::from(value).signum() } else { 0 };
            prop_assert_eq!(number.scaled(0), Some((i64::try_from(rounded).unwrap(), rest == 0)));
        }

        #[test]
        fn never_panics(text in "-?[0-9.eE+-]{0,30}", places in -20_i64..20) {
            let _ = Number::parse(&text).and_then(|number| number.scaled(places));
        }
    }
}
