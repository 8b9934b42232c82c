//! The parameters of a tracking request: parsing and limits.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;

use crate::domain::Refusal;
use crate::domain::client::tcf;
use crate::domain::limits::{MAX_NAME_BYTES, MAX_PARAMETERS, MAX_QUERY_BYTES, MAX_VALUE_BYTES};

/// Names with this prefix are reserved for adtrack.
const RESERVED_PREFIX: &str = "at_";

/// Whether European data protection law applies (IAB Europe's Transparency and Consent Framework).
const GDPR: &str = "gdpr";
/// A consent string. It may be longer than other values; then it is read, but not carried on the event.
const CONSENT: &str = "gdpr_consent";
/// Parameters that every endpoint reads.
const COMMON: [&str; 5] = ["checksum", "customerId", "at_event_id", GDPR, CONSENT];

/// The maximum length of the id that a client gives its event, in bytes.
const MAX_EVENT_ID_BYTES: usize = 128;

/// Which parameters an endpoint reads itself, and how strict it is.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Parameters that only this endpoint reads, each with the maximum length of its value in bytes. They are
    /// not carried on the event.
    pub for_endpoint: &'static [(&'static str, usize)],
    /// Whether to cut or drop what breaks a limit, and flag the request, instead of refusing it.
    pub lenient: bool,
}

impl Rules {
    /// The rules of `/event`, `/impression` and batch items.
    pub const EVENT: Self = Self { for_endpoint: &[], lenient: false };

    fn is_for_endpoint(&self, name: &str) -> bool {
        self.for_endpoint.iter().any(|(known, _)| *known == name)
    }

    fn is_known(&self, name: &str) -> bool {
        COMMON.contains(&name) || self.is_for_endpoint(name)
    }
}

/// The parameters of a tracking request, decoded and within their limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `checksum`, if given: must be the program's.
    pub checksum: Option<String>,
    /// `customerId`, if given: must be the program's.
    pub customer_id: Option<String>,
    /// `at_event_id`, if given: the client's own id of the event.
    pub event_id: Option<String>,
    /// The parameters that only this endpoint reads.
    pub for_endpoint: BTreeMap<&'static str, String>,
    /// All others. They are carried on the event.
    pub carried: BTreeMap<String, String>,
    /// Whether any `gdpr` parameter is `1`, even one that is not carried.
    pub gdpr_applies: bool,
    /// The first `gdpr_consent`, even if it is not carried.
    pub consent: Option<String>,
    /// Whether a parameter was cut or dropped.
    pub is_cut: bool,
}

impl Parameters {
    /// Parses a query (without its question mark), encoded as a form: `+` is a space. If it is too long, a
    /// lenient endpoint carries nothing beyond the limit. It still reads the parameters that the tracker
    /// knows there: an objection, or a page that is not allowed, must not count as absent.
    pub fn parse(query: &str, rules: Rules) -> Result<Self, Refusal> {
        let mut parameters = Self::default();
        if query.is_empty() {
            return Ok(parameters);
        }
        if query.len() > MAX_QUERY_BYTES {
            if !rules.lenient {
                return Err(Refusal::UriTooLong);
            }
            parameters.is_cut = true;
        }
        let mut end = 0;
        for pair in query.split('&') {
            end += pair.len();
            let is_beyond = end > MAX_QUERY_BYTES;
            end += 1;
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Ok(name), _) if is_beyond && !rules.is_known(&name) => {}
                (Ok(name), Ok(value)) => parameters.add(name, value, rules)?,
                // The endpoint validates the value. Dropping it would make it look absent.
                (Ok(name), Err(_)) if rules.lenient && rules.is_for_endpoint(&name) => {
                    let value = percent_decode(value.as_bytes()).decode_utf8_lossy();
                    parameters.add(name, value.into_owned(), rules)?;
                }
                (Err(_), _) | (_, Err(_)) if rules.lenient => parameters.is_cut = true,
                (Err(refusal), _) | (_, Err(refusal)) => return Err(refusal),
            }
        }
        Ok(parameters)
    }

    /// Adds a parameter. A lenient endpoint flags one that breaks a limit instead of refusing it.
    pub fn add(&mut self, name: String, value: String, rules: Rules) -> Result<(), Refusal> {
        match self.try_add(name, value, rules) {
            Err(_) if rules.lenient => {
                self.is_cut = true;
                Ok(())
            }
            added => added,
        }
    }

    fn try_add(&mut self, name: String, mut value: String, rules: Rules) -> Result<(), Refusal> {
        check_length("name", &name, 1, MAX_NAME_BYTES)?;
        let for_endpoint = rules.for_endpoint.iter().find(|(known, _)| *known == name);
        let max = match for_endpoint {
            Some((_, max)) => *max,
            None if name == CONSENT => tcf::MAX_BYTES,
            None => MAX_VALUE_BYTES,
        };
        if rules.lenient && for_endpoint.is_none() && value.len() > max {
            value.truncate(value.floor_char_boundary(max));
            self.is_cut = true;
        }
        check_length("value", &value, 0, max)?;
        match (name.as_str(), for_endpoint) {
            ("checksum", _) => set_once(&mut self.checksum, value),
            ("customerId", _) => set_once(&mut self.customer_id, value),
            ("at_event_id", _) => {
                check_length("at_event_id", &value, 1, MAX_EVENT_ID_BYTES)?;
                set_once(&mut self.event_id, value)
            }
            (_, Some((known, _))) => {
                let mut slot = self.for_endpoint.remove(known);
                let set = set_once(&mut slot, value);
                self.for_endpoint.extend(slot.map(|value| (*known, value)));
                set
            }
            (GDPR, None) => {
                self.gdpr_applies |= value == "1";
                self.carry(name, value)
            }
            (CONSENT, None) => {
                set_once(&mut self.consent, value.clone())?;
                if value.len() > MAX_VALUE_BYTES { Ok(()) } else { self.carry(name, value) }
            }
            (_, None) => self.carry(name, value),
        }
    }

    fn carry(&mut self, name: String, value: String) -> Result<(), Refusal> {
        if name.starts_with(RESERVED_PREFIX) {
            return Err(Refusal::invalid_parameters(
                "a parameter name that begins with `at_` is reserved",
            ));
        }
        if self.carried.contains_key(&name) {
            return Err(Refusal::invalid_parameters("a parameter name is given twice"));
        }
        if self.carried.len() == MAX_PARAMETERS {
            return Err(Refusal::invalid_parameters(&format!(
                "more than {MAX_PARAMETERS} parameters are given"
            )));
        }
        self.carried.insert(name, value);
        Ok(())
    }
}

/// Fills the slot; fails if it is filled.
fn set_once(slot: &mut Option<String>, value: String) -> Result<(), Refusal> {
    if slot.is_some() {
        return Err(Refusal::invalid_parameters("a parameter name is given twice"));
    }
    *slot = Some(value);
    Ok(())
}

/// The decoded names and values of a query, for callers that have to rename them first.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(Refusal::UriTooLong);
    }
    form_pairs(query)
}

/// The decoded names and values of a form.
pub fn form_pairs(form: &str) -> Result<Vec<(String, String)>, Refusal> {
    let pairs = form.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    pairs.collect()
}

fn decode(text: &str) -> Result<String, Refusal> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode(spaced.as_bytes()).decode_utf8();
    decoded.map(Into::into).map_err(|_| Refusal::invalid_parameters("a parameter is not UTF-8"))
}

fn check_length(part: &str, text: &str, min: usize, max: usize) -> Result<(), Refusal> {
    if (min..=max).contains(&text.len()) {
        Ok(())
    } else {
        Err(Refusal::invalid_parameters(&format!("a parameter {part} has {min} to {max} bytes")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_all_names_but_reserved_ones() {
        let parameters =
            Parameters::parse("a=1&checksum=124&b=x+y%26z&customerId=9124&c&&d=", Rules::EVENT)
                .unwrap();
        assert_eq!(parameters.checksum.as_deref(), Some("124"));
        assert_eq!(parameters.customer_id.as_deref(), Some("9124"));
        let carried: Vec<_> = parameters
            .carried
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(carried, [("a", "1"), ("b", "x y&z"), ("c", ""), ("d", "")]);
        assert_eq!(Parameters::parse("", Rules::EVENT), Ok(Parameters::default()));
    }

    #[test]
    fn enforces_limits_exactly() {
        let many =
            |count: usize| (0..count).map(|n| format!("p{n}=v")).collect::<Vec<_>>().join("&");
        let name = |length: usize| format!("{}=v", "n".repeat(length));
        let value = |length: usize| format!("n={}", "%C3%BC".repeat(length / 2));
        for query in [many(20) + "&checksum=1&customerId=2", name(64), value(512)] {
            assert!(Parameters::parse(&query, Rules::EVENT).is_ok(), "{query}");
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
            let refusal = Parameters::parse(&query, Rules::EVENT).unwrap_err();
            assert_eq!(refusal.code(), "invalid_parameters", "{query}");
        }
    }

    #[test]
    fn refuses_or_cuts_a_long_query() {
        for lenient in [false, true] {
            let rules = Rules { for_endpoint: &[], lenient };
            let query = |length: usize| format!("&{}", "&".repeat(length - 1));
            assert!(Parameters::parse(&query(MAX_QUERY_BYTES), rules).is_ok());
            let longer = Parameters::parse(&query(MAX_QUERY_BYTES + 1), rules);
            let cut = Parameters { is_cut: true, ..Parameters::default() };
            assert_eq!(longer, if lenient { Ok(cut) } else { Err(Refusal::UriTooLong) });
        }
    }

    #[test]
    fn reads_a_long_consent_without_carrying_it() {
        for lenient in [false, true] {
            let rules = Rules { for_endpoint: &[], lenient };
            let parse = |length| {
                Parameters::parse(&format!("a=1&gdpr_consent={}", "C".repeat(length)), rules)
            };
            for (length, carried) in [(512, 2), (513, 1), (4_096, 1)] {
                let parameters = parse(length).unwrap();
                assert_eq!(parameters.consent.as_ref().map(String::len), Some(length));
                assert_eq!(
                    (parameters.carried.len(), parameters.is_cut),
                    (carried, false),
                    "{length}"
                );
            }
            assert_eq!(parse(4_097).is_ok(), lenient);
        }
        let long = format!("gdpr_consent={}", "C".repeat(600));
        for twice in [
            format!("{long}&{long}"),
            format!("{long}&gdpr_consent=C"),
            format!("gdpr_consent=C&{long}"),
        ] {
            assert!(Parameters::parse(&twice, Rules::EVENT).is_err());
        }
    }

    #[test]
    fn reads_its_parameters_beyond_every_limit() {
        let rules = Rules { for_endpoint: &[("url", 600)], lenient: true };
        let many: String = (0..MAX_PARAMETERS).map(|n| format!("p{n}=v&")).collect();
        let long = format!("z={}&", "z".repeat(MAX_QUERY_BYTES));
        for before in [many, long, "gdpr=0&gdpr_consent=C&gdpr_consent=D&".to_owned()] {
            let query = format!("{before}a=1&checksum=7&url=u&gdpr=1&gdpr_consent=C");
            let parameters = Parameters::parse(&query, rules).unwrap();
            assert!(parameters.is_cut && parameters.gdpr_applies, "{before}");
            assert_eq!(parameters.consent.as_deref(), Some("C"));
            assert_eq!(parameters.checksum.as_deref(), Some("7"));
            assert_eq!(parameters.for_endpoint["url"], "u");
        }
        // The limit is between them.
        let query = format!("a=1&z={}&b=1&checksum=7", "z".repeat(MAX_QUERY_BYTES - 8));
        let parameters = Parameters::parse(&query, rules).unwrap();
        assert!(parameters.carried.keys().eq(["a", "z"]), "{:?}", parameters.carried.keys());
        assert!(!Parameters::parse("gdpr=0", rules).unwrap().gdpr_applies);
    }

    #[test]
    fn does_not_carry_the_endpoints_own_parameters() {
        let rules = Rules { for_endpoint: &[("url", 600)], lenient: false };
        let long = "u".repeat(600);
        let parameters =
            Parameters::parse(&format!("url={long}&at_event_id=e-1&x=1"), rules).unwrap();
        assert_eq!(parameters.for_endpoint["url"], long);
        assert_eq!(parameters.event_id.as_deref(), Some("e-1"));
        assert_eq!(parameters.carried.len(), 1);
        for query in ["url=1&url=2", "at_event_id=", &format!("at_event_id={}", "x".repeat(129))] {
            assert!(Parameters::parse(query, rules).is_err(), "{query}");
        }
    }

    #[test]
    fn cuts_and_flags_at_a_lenient_endpoint() {
        let rules = Rules { for_endpoint: &[("url", 10)], lenient: true };
        let many: String = (0..25).map(|n| format!("&p{n}={n}")).collect();
        let long = "ü".repeat(300);
        for (query, carried) in [
            (format!("url=1{many}"), 20),
            (format!("url=1&v={long}"), 1),
            ("url=1&url=2".to_owned(), 0),
            ("url=1&a=%ff&b=1".to_owned(), 1),
            ("url=1&at_new=1".to_owned(), 0),
            (format!("url=1&{long}=1"), 0),
        ] {
            let parameters = Parameters::parse(&query, rules).unwrap();
            assert!(parameters.is_cut, "{query}");
            assert_eq!(
                (parameters.carried.len(), &*parameters.for_endpoint["url"]),
                (carried, "1")
            );
            assert!(parameters.carried.values().all(|value| value.len() <= MAX_VALUE_BYTES));
        }
        // A cut URL would be another URL; one that is not UTF-8 must not count as absent.
        assert_eq!(Parameters::parse("url=%ff", rules).unwrap().for_endpoint["url"], "\u{fffd}");
        assert!(Parameters::parse("url=12345678901", rules).unwrap().for_endpoint.is_empty());
        assert!(!Parameters::parse("url=1&a=1", rules).unwrap().is_cut);
    }
}
