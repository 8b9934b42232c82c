//! The query of a tracking request.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;

use super::Refusal;

/// The most parameters that an event carries.
pub const MAX_COUNT: usize = 20;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 512;
/// Names that begin so are ours, now or later.
const RESERVED_PREFIX: &str = "at_";

/// The parameters of a tracking request, decoded and within their limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `checksum`, where it is given: must be the program's.
    pub checksum: Option<String>,
    /// `customerId`, where it is given: must be the program's.
    pub customer_id: Option<String>,
    /// All others: carried on the event.
    pub carried: BTreeMap<String, String>,
}

impl Parameters {
    /// Reads a query (without its question mark), as forms are encoded: `+` is a space.
    pub fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parameters = Self::default();
        if query.is_empty() {
            return Ok(parameters);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let value = decode(value)?;
            check_length("name", &name, 1, MAX_NAME_BYTES)?;
            check_length("value", &value, 0, MAX_VALUE_BYTES)?;
            let earlier = match name.as_str() {
                "checksum" => parameters.checksum.replace(value).is_some(),
                "customerId" => parameters.customer_id.replace(value).is_some(),
                _ if name.starts_with(RESERVED_PREFIX) => {
                    return Err(refuse("a parameter name that begins with `at_` is reserved"));
                }
                _ => parameters.carried.insert(name, value).is_some(),
            };
            if earlier {
                return Err(refuse("a parameter name is given twice"));
            }
            if parameters.carried.len() > MAX_COUNT {
                return Err(refuse(&format!("more than {MAX_COUNT} parameters are given")));
            }
        }
        Ok(parameters)
    }
}

fn decode(text: &str) -> Result<String, Refusal> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    decoded.map(Into::into).map_err(|_| refuse("a parameter is not UTF-8"))
}

fn check_length(part: &str, text: &str, min: usize, max: usize) -> Result<(), Refusal> {
    if (min..=max).contains(&text.len()) {
        Ok(())
    } else {
        Err(refuse(&format!("a parameter {part} has {min} to {max} bytes")))
    }
}

fn refuse(problem: &str) -> Refusal {
    Refusal::InvalidParameters(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_taken_out_and_others_carried() {
        let parameters =
            Parameters::parse("a=1&checksum=124&b=x+y%26z&customerId=9124&c&&d=").unwrap();
        assert_eq!(parameters.checksum.as_deref(), Some("124"));
        assert_eq!(parameters.customer_id.as_deref(), Some("9124"));
        let carried: Vec<_> = parameters
            .carried
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(carried, [("a", "1"), ("b", "x y&z"), ("c", ""), ("d", "")]);
        assert_eq!(Parameters::parse(""), Ok(Parameters::default()));
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let many =
            |count: usize| (0..count).map(|n| format!("p{n}=v")).collect::<Vec<_>>().join("&");
        let name = |length: usize| format!("{}=v", "n".repeat(length));
        let value = |length: usize| format!("n={}", "%C3%BC".repeat(length / 2));
        for query in [many(20) + "&checksum=1&customerId=2", name(64), value(512)] {
            assert!(Parameters::parse(&query).is_ok(), "{query}");
        }
        for query in [
            many(21),
            name(65),
            value(514),
            "=v".into(),
            "a=1&a=1".into(),
            "checksum=1&checksum=1".into(),
            "at_new=1".into(),
            "a=%ff".into(),
        ] {
            let refusal = Parameters::parse(&query).unwrap_err();
            assert_eq!(refusal.code(), "invalid_parameters", "{query}");
        }
    }
}
