//! Values of a scenario that are checked as they are parsed, so that an error has a line and a column.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// The longest time in a scenario.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The highest rate in a scenario, requests per second.
pub const HIGHEST_RATE: f64 = 1_000_000.0;

/// The error for a value that a scenario or a flag may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, not {found}")]
pub struct InvalidValue {
    expected: String,
    found: String,
}

impl InvalidValue {
    pub(super) fn new(expected: impl Into<String>, found: impl fmt::Display) -> Self {
        Self { expected: expected.into(), found: found.to_string() }
    }

    /// Shows the value in quotes.
    pub(super) fn of_text(expected: impl Into<String>, found: &str) -> Self {
        Self::new(expected, format_args!("{found:?}"))
    }
}

/// A time such as `10s`, `500ms`, `15m` or `1h`; up to a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(pub Duration);

impl Period {
    /// Parses the value of a flag.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let seconds = match &text[digits..] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => f64::NAN,
        };
        text[..digits]
            .parse::<f64>()
            .ok()
            .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
            .filter(|period| *period <= LONGEST)
            .map(Self)
            .ok_or_else(|| {
                InvalidValue::of_text("a time such as 10s, 500ms, 15m or 1h, up to 24h", text)
            })
    }
}

impl TryFrom<String> for Period {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::parse(&text)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        match milliseconds {
            ms if ms % 1_000 != 0 => write!(formatter, "{ms}ms"),
            ms if ms % 60_000 != 0 || ms == 0 => write!(formatter, "{}s", ms / 1_000),
            ms => write!(formatter, "{}m", ms / 60_000),
        }
    }
}

/// Requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Rate(pub f64);

impl TryFrom<f64> for Rate {
    type Error = InvalidValue;

    fn try_from(rate: f64) -> Result<Self, InvalidValue> {
        if (0.0..=HIGHEST_RATE).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(InvalidValue::new(format!("a rate per second from 0 to {HIGHEST_RATE}"), rate))
        }
    }
}

impl Rate {
    /// Parses the value of a flag.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let rate: f64 = text.parse().map_err(|_| InvalidValue::of_text("a rate", text))?;
        Self::try_from(rate)
    }
}

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Share(pub f64);

impl TryFrom<f64> for Share {
    type Error = InvalidValue;

    fn try_from(share: f64) -> Result<Self, InvalidValue> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(InvalidValue::new("a share from 0 to 1", share))
        }
    }
}

impl Share {
    /// Parses the value of a flag.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let share: f64 = text.parse().map_err(|_| InvalidValue::of_text("a share", text))?;
        Self::try_from(share)
    }
}

/// The exponent of Zipf's law, from 0 (all items equally likely) to 5.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Exponent(pub f64);

impl TryFrom<f64> for Exponent {
    type Error = InvalidValue;

    fn try_from(exponent: f64) -> Result<Self, InvalidValue> {
        if (0.0..=5.0).contains(&exponent) {
            Ok(Self(exponent))
        } else {
            Err(InvalidValue::new("an exponent from 0 to 5", exponent))
        }
    }
}

impl Exponent {
    /// Parses the value of a flag.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let exponent: f64 = text.parse().map_err(|_| InvalidValue::of_text("an exponent", text))?;
        Self::try_from(exponent)
    }
}

/// An integer from 1 to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Count<const MAX: u32>(pub u32);

impl<const MAX: u32> TryFrom<i64> for Count<MAX> {
    type Error = InvalidValue;

    fn try_from(count: i64) -> Result<Self, InvalidValue> {
        u32::try_from(count)
            .ok()
            .filter(|count| (1..=MAX).contains(count))
            .map(Self)
            .ok_or_else(|| InvalidValue::new(format!("an integer from 1 to {MAX}"), count))
    }
}

impl<const MAX: u32> Count<MAX> {
    /// Parses the value of a flag.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let count: i64 = text.parse().map_err(|_| InvalidValue::of_text("an integer", text))?;
        Self::try_from(count)
    }
}

/// An HTTP status, from 100 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Status(pub u16);

impl TryFrom<i64> for Status {
    type Error = InvalidValue;

    fn try_from(status: i64) -> Result<Self, InvalidValue> {
        u16::try_from(status)
            .ok()
            .filter(|status| (100..600).contains(status))
            .map(Self)
            .ok_or_else(|| InvalidValue::new("an HTTP status from 100 to 599", status))
    }
}

/// Text that is valid in the head of a request: printable ASCII, not empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderText(pub String);

impl TryFrom<String> for HeaderText {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        if !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            Ok(Self(text))
        } else {
            Err(InvalidValue::of_text("printable ASCII", &text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_formats_periods() {
        for (text, ms) in
            [("10s", 10_000), ("500ms", 500), ("15m", 900_000), ("0.5s", 500), ("24h", 86_400_000)]
        {
            assert_eq!(Period::parse(text).unwrap().0.as_millis(), ms, "{text}");
        }
        for text in ["", "10", "s", "-1s", "25h", "1d", "1.2.3s", "10 s", "∞s"] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
        for text in ["10s", "500ms", "15m", "90s"] {
            assert_eq!(Period::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn rejects_values_out_of_bounds() {
        assert!(
            Rate::parse("-1").is_err() && Rate::parse("nan").is_err() && Rate::parse("2e4").is_ok()
        );
        assert!(Share::parse("1.01").is_err() && Share::parse("1").is_ok());
        assert!(Count::<5>::parse("0").is_err() && Count::<5>::parse("6").is_err());
        assert!(Status::try_from(99).is_err() && Status::try_from(404).is_ok());
        assert!(HeaderText::try_from("a\r\nb".to_owned()).is_err());
    }
}
