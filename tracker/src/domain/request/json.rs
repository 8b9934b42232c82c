//! JSON as clients send it: text that need not be Unicode, objects whose members become parameters, and
//! numbers, exactly.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A body that is meant to be JSON, as text. What is not Unicode in it (bytes that are not UTF-8, and escapes
/// of half a surrogate pair, as JavaScript writes an emoji that was cut in half) is replaced by U+FFFD, so
/// that it costs no event. Where it decides something, U+FFFD is refused.
#[derive(Debug)]
pub struct JsonText<'a> {
    text: Cow<'a, str>,
    /// Where something was replaced, ascending.
    repaired_at: Vec<usize>,
}

impl<'a> JsonText<'a> {
    /// Reads a body.
    pub fn of(body: &'a [u8]) -> Self {
        let mut json = match str::from_utf8(body) {
            Ok(text) => Self { text: Cow::Borrowed(text), repaired_at: Vec::new() },
            Err(_) => Self::of_invalid_utf8(body),
        };
        // Most bodies have no escapes at all.
        if json.text.contains('\\') {
            json.replace_lone_surrogates();
        }
        json
    }

    #[cold]
    fn of_invalid_utf8(body: &[u8]) -> Self {
        let mut text = String::with_capacity(body.len());
        let mut repaired_at = Vec::new();
        for chunk in body.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                repaired_at.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Self { text: Cow::Owned(text), repaired_at }
    }

    /// Replaces escapes of half a surrogate pair by one of U+FFFD, which is as long: positions in errors stay
    /// right. Outside of texts, a backslash is not JSON anyway.
    fn replace_lone_surrogates(&mut self) {
        let lone = lone_surrogates(&self.text);
        if lone.is_empty() {
            return;
        }
        let mut text = String::with_capacity(self.text.len());
        let mut end = 0;
        for at in &lone {
            text.push_str(&self.text[end..*at]);
            text.push_str("\\ufffd");
            end = at + UNICODE_ESCAPE_BYTES;
        }
        text.push_str(&self.text[end..]);
        self.text = Cow::Owned(text);
        self.repaired_at.extend(lone);
        self.repaired_at.sort_unstable();
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether anything was replaced.
    pub fn is_repaired(&self) -> bool {
        !self.repaired_at.is_empty()
    }

    /// Whether anything was replaced in this part of the text.
    pub fn is_repaired_within(&self, part: Range<usize>) -> bool {
        let first = self.repaired_at.partition_point(|at| *at < part.start);
        self.repaired_at.get(first).is_some_and(|at| *at < part.end)
    }
}

/// The length of `\uXXXX`.
const UNICODE_ESCAPE_BYTES: usize = 6;

/// Where `json` has escapes of surrogates that are not half of a pair.
fn lone_surrogates(json: &str) -> Vec<usize> {
    let bytes = json.as_bytes();
    let mut lone = Vec::new();
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let Some(first) = escaped_unit(bytes, at) else {
            // The character behind the backslash belongs to it, and may be of several bytes.
            at += 1 + json[at + 1..].chars().next().map_or(0, char::len_utf8);
            continue;
        };
        let next = at + UNICODE_ESCAPE_BYTES;
        let is_pair = matches!(first, 0xd800..=0xdbff)
            && matches!(escaped_unit(bytes, next), Some(0xdc00..=0xdfff));
        if is_pair {
            at = next + UNICODE_ESCAPE_BYTES;
            continue;
        }
        if matches!(first, 0xd800..=0xdfff) {
            lone.push(at);
        }
        at = next;
    }
    lone
}

/// The UTF-16 code unit of the escape `\uXXXX` at this position, if there is one.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + UNICODE_ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | u16::try_from(char::from(*digit).to_digit(16)?).ok()?)
    })
}

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
    /// Reads a value. Fails on escapes that are no character, which [`JsonText`] does not have.
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
            // Without its quotes.
            Some(b'"') => {
                Self::Text(Cow::Borrowed(json.get(1..json.len() - 1).unwrap_or_default()))
            }
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
        let (mut sum, cut) = self.split(places)?;
        if is_rounded_up(cut, sum % 2 == 1) {
            sum += 1;
        }
        let is_exact = cut.bytes().all(|digit| digit == b'0');
        Some((self.signed(sum)?, is_exact))
    }

    /// The number without what is behind the point; none if it does not fit.
    pub fn truncated(&self) -> Option<i64> {
        self.signed(self.split(0)?.0)
    }

    fn signed(&self, sum: i128) -> Option<i64> {
        i64::try_from(if self.is_negative { -sum } else { sum }).ok()
    }

    /// The absolute value times 10 to the power of `places`, and the digits behind the point. If these are less
    /// than a tenth of the last place, `01` stands for them.
    fn split(&self, places: i64) -> Option<(i128, &str)> {
        let shift = self.exponent + places;
        let (kept, cut) = if shift >= 0 {
            (self.digits.as_str(), "")
        } else {
            let cut = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
            match self.digits.len().checked_sub(cut) {
                Some(at) => self.digits.split_at(at),
                None if self.digits.is_empty() => ("", ""),
                // Not exact, and rounded down.
                None => ("", "01"),
            }
        };
        let zeros = if kept.is_empty() { 0 } else { usize::try_from(shift.max(0)).ok()? };
        // The largest 64-bit number has 19 digits.
        if kept.len() + zeros > 20 {
            return None;
        }
        let all = kept.bytes().chain(std::iter::repeat_n(b'0', zeros));
        Some((all.fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0')), cut))
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
    fn replaces_what_is_not_unicode_and_says_where() {
        for (body, text, repaired) in [
            (&br#"{"a":"x"}"#[..], r#"{"a":"x"}"#, vec![]),
            (br#"{"a":"\ud83d\ude00"}"#, r#"{"a":"\ud83d\ude00"}"#, vec![]),
            (br#"{"a":"\\ud800"}"#, r#"{"a":"\\ud800"}"#, vec![]),
            (br#"{"a":"\ud800"}"#, r#"{"a":"\ufffd"}"#, vec![6]),
            (
                br#"{"a":"\uDBFF\uDBFF\uDFFF\udc00x"}"#,
                r#"{"a":"\ufffd\uDBFF\uDFFF\ufffdx"}"#,
                vec![6, 24],
            ),
            (br#"{"a":"\\\ud800"}"#, r#"{"a":"\\\ufffd"}"#, vec![8]),
            (br#"{"a":"\ud8"#, r#"{"a":"\ud8"#, vec![]),
            (b"{\"a\":\"\xfc\\ud800\xff\"}", "{\"a\":\"\u{fffd}\\ufffd\u{fffd}\"}", vec![6, 9, 15]),
            ("{\"\\ü\\ud800".as_bytes(), "{\"\\ü\\ufffd", vec![5]),
        ] {
            let json = JsonText::of(body);
            assert_eq!((json.text(), &json.repaired_at), (text, &repaired));
            for at in repaired {
                assert!(json.is_repaired_within(at..at + 1));
                assert!(
                    !json.is_repaired_within(at + 1..at + 2) && !json.is_repaired_within(at..at)
                );
            }
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
        /// The standard library's reading of UTF-16 is the second implementation.
        #[test]
        fn reads_any_utf16_that_javascript_can_escape(
            units in proptest::collection::vec(
                prop_oneof![
                    3 => 0xd7fe_u16..=0xe001, 1 => any::<u16>(), 1 => Just(u16::from(b'\\')), 1 => Just(u16::from(b'u')),
                ],
                0..12,
            ),
            is_upper_case: bool,
        ) {
            let mut json = "\"".to_owned();
            for unit in &units {
                json.push_str(&match (is_upper_case, char::from_u32(u32::from(*unit))) {
                    (_, Some('u')) => "u".to_owned(),
                    (_, Some('\\')) => "\\\\".to_owned(),
                    (true, _) => format!("\\u{unit:04X}"),
                    (false, _) => format!("\\u{unit:04x}"),
                });
            }
            json.push('"');
            let read = JsonText::of(json.as_bytes());
            let text: String = serde_json::from_str(read.text()).unwrap();
            prop_assert_eq!(text, String::from_utf16_lossy(&units));
            prop_assert_eq!(read.is_repaired(), String::from_utf16(&units).is_err());
        }

        #[test]
        fn keeps_any_other_text(text: String) {
            let json = serde_json::Value::from(text).to_string();
            let read = JsonText::of(json.as_bytes());
            prop_assert_eq!(read.text(), &*json);
            prop_assert!(!read.is_repaired());
        }

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
            prop_assert_eq!(number.truncated(), Some(i64::try_from(quotient).unwrap()));
        }

        #[test]
        fn never_panics(text in "-?[0-9.eE+-]{0,30}", places in -20_i64..20) {
            let _ = Number::parse(&text).and_then(|number| number.scaled(places));
        }
    }
}
