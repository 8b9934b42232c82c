//! The parameters of a tracking request: parsing and limits.
//!
//! Free parameters never cost the event ([`super::repairs`]): what exceeds a limit is cut or left out, what is
//! not clean is repaired, and [`Parameters::repairs`] says so. Those that adtrack reads itself are exact, or the
//! request is refused. An empty value of one of these counts as not given.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use crate::domain::Refusal;
use crate::domain::client::tcf;
use crate::domain::limits::{MAX_NAME_BYTES, MAX_PARAMETERS, MAX_QUERY_BYTES, MAX_VALUE_BYTES};
use crate::domain::request::repairs::Repairs;
use crate::domain::request::unfilled::is_unfilled;

/// Names with this prefix are reserved for adtrack.
const RESERVED_PREFIX: &str = "at_";

/// Whether European data protection law applies (IAB Europe's Transparency and Consent Framework).
const GDPR: &str = "gdpr";
/// A consent string. It may be longer than other values; then it is read, but not carried on the event.
const CONSENT: &str = "gdpr_consent";
/// The client's own id of the event.
const EVENT_ID: &str = "at_event_id";
/// Parameters that every endpoint reads.
const COMMON: [&str; 5] = ["checksum", "customerId", EVENT_ID, GDPR, CONSENT];

/// Parameters of endpoints that decide identity.
const IDS: [&str; 3] = ["transaction_id", "click_id", "impression_id"];

/// The maximum length of the id that a client gives its event, in bytes.
const MAX_EVENT_ID_BYTES: usize = 128;

/// What is left of `&` where a URL was escaped for HTML, at the start of the next name.
const ESCAPED_AMPERSANDS: [&str; 5] = ["amp;", "#38;", "#038;", "#x26;", "#X26;"];

/// Which parameters an endpoint reads itself, and what happens to those that are not valid.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Parameters that only this endpoint reads. They are not carried on the event.
    pub for_endpoint: &'static [&'static str],
    /// Whether the endpoint leaves out ids that are not valid, and flags the request, instead of refusing it:
    /// a visitor who clicked has to get somewhere.
    pub never_strands: bool,
}

impl Rules {
    /// The rules of `/event`, `/impression` and batch items.
    pub const EVENT: Self = Self { for_endpoint: &[], never_strands: false };

    fn own_name(&self, name: &str) -> Option<&'static str> {
        self.for_endpoint.iter().find(|known| **known == name).copied()
    }

    fn is_known(&self, name: &str) -> bool {
        COMMON.contains(&name) || self.own_name(name).is_some()
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
    /// An `at_event_id` that is an unfilled macro and therefore counts as not given. Signatures cover it.
    pub unfilled_event_id: Option<String>,
    /// The parameters that only this endpoint reads.
    pub for_endpoint: BTreeMap<&'static str, String>,
    /// All others. They are carried on the event.
    pub carried: BTreeMap<String, String>,
    /// Whether any `gdpr` parameter is other than `0` or empty, even one that is not carried.
    pub gdpr_applies: bool,
    /// The `gdpr_consent`, even if it is not carried. Empty if several differ: then nobody knows which counts.
    pub consent: Option<String>,
    /// What was repaired.
    pub repairs: Repairs,
}

/// A name and a value, decoded, for callers that have to rename them first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its name.
    pub name: String,
    /// Its value; U+FFFD where it is not UTF-8.
    pub value: String,
    /// Whether the value is known to be UTF-8 as sent.
    pub is_utf8: bool,
}

impl Parameters {
    /// Parses a query (without its question mark), encoded as a form: `+` is a space. Free parameters beyond
    /// the limit are left out. Those that the tracker knows are read there, too: an objection, or a page that
    /// is not allowed, must not count as absent.
    pub fn parse(query: &str, rules: Rules) -> Result<Self, Refusal> {
        let mut parameters = Self::default();
        if query.is_empty() {
            return Ok(parameters);
        }
        let mut end = 0;
        for pair in query.split('&') {
            end += pair.len();
            let is_beyond = end > MAX_QUERY_BYTES;
            end += 1;
            if pair.is_empty() {
                continue;
            }
            let pair = decode_pair(pair, rules, &mut parameters.repairs);
            if is_beyond && !rules.is_known(&pair.name) {
                continue;
            }
            parameters.add(pair, rules)?;
        }
        if query.len() > MAX_QUERY_BYTES {
            parameters.repairs.insert(Repairs::QUERY_TOO_LONG);
        }
        Ok(parameters)
    }

    /// Adds a parameter.
    pub fn add(&mut self, pair: Pair, rules: Rules) -> Result<(), Refusal> {
        let Pair { name, value, is_utf8 } = pair;
        match name.as_str() {
            "checksum" => set_once("checksum", &mut self.checksum, value, &mut self.repairs),
            "customerId" => set_once("customerId", &mut self.customer_id, value, &mut self.repairs),
            EVENT_ID => self.add_event_id(EVENT_ID, value, is_utf8, rules),
            GDPR => {
                self.gdpr_applies |= !matches!(&*value, "" | "0");
                self.carry(name, value);
                Ok(())
            }
            CONSENT => {
                self.add_consent(name, value);
                Ok(())
            }
            _ => match rules.own_name(&name) {
                Some(own) => self.add_own(own, value, is_utf8, rules),
                None => {
                    self.carry(name, value);
                    Ok(())
                }
            },
        }
    }

    /// Adds the client's own id of the event, which the sender calls `name`.
    pub(super) fn add_event_id(
        &mut self,
        name: &str,
        value: String,
        is_utf8: bool,
        rules: Rules,
    ) -> Result<(), Refusal> {
        match identity(name, &value, MAX_EVENT_ID_BYTES, &mut self.repairs) {
            Ok("") => {
                self.unfilled_event_id = Some(value).filter(|value| !value.is_empty());
                Ok(())
            }
            Ok(_) if is_utf8 && (!rules.never_strands || self.event_id.is_none()) => {
                set_once(name, &mut self.event_id, value, &mut self.repairs)
            }
            Ok(_) | Err(_) if rules.never_strands => {
                self.repairs.insert(Repairs::INVALID_REFERENCE);
                Ok(())
            }
            Ok(_) => Err(not_utf8(name, &value)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Adds a parameter that only this endpoint reads. The endpoint validates it.
    fn add_own(
        &mut self,
        name: &'static str,
        value: String,
        is_utf8: bool,
        rules: Rules,
    ) -> Result<(), Refusal> {
        if value.is_empty() {
            return Ok(());
        }
        if !is_utf8 && !rules.never_strands {
            return Err(not_utf8(name, &value));
        }
        match self.for_endpoint.get(name) {
            None => {
                self.for_endpoint.insert(name, value);
            }
            // Of two ids, the one that is filled counts.
            Some(first) if IDS.contains(&name) && is_unfilled(first) => {
                self.repairs.insert(Repairs::UNFILLED_MACRO);
                self.for_endpoint.insert(name, value);
            }
            Some(_) if IDS.contains(&name) && is_unfilled(&value) => {
                self.repairs.insert(Repairs::UNFILLED_MACRO);
            }
            Some(first) if *first == value || rules.never_strands => {
                self.repairs.insert(Repairs::REPEATED_NAME);
            }
            Some(first) => return Err(given_twice(name, first, &value)),
        }
        Ok(())
    }

    fn add_consent(&mut self, name: String, value: String) {
        if value.is_empty() {
            return;
        }
        match &self.consent {
            None => {
                self.consent = Some(value.clone());
                if value.len() <= MAX_VALUE_BYTES {
                    self.carry(name, value);
                } else if value.len() > tcf::MAX_BYTES {
                    self.repairs.insert(Repairs::VALUE_TOO_LONG);
                }
            }
            Some(first) => {
                self.repairs.insert(Repairs::REPEATED_NAME);
                if *first != value {
                    self.consent = Some(String::new());
                }
            }
        }
    }

    /// Carries a free parameter on the event, within the limits.
    fn carry(&mut self, name: String, mut value: String) {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            self.repairs.insert(Repairs::NAME_LENGTH);
        } else if name.starts_with(RESERVED_PREFIX) {
            self.repairs.insert(Repairs::RESERVED_NAME);
        } else if self.carried.contains_key(&name) {
            self.repairs.insert(Repairs::REPEATED_NAME);
        } else if self.carried.len() == MAX_PARAMETERS {
            self.repairs.insert(Repairs::TOO_MANY_PARAMETERS);
        } else {
            if value.len() > MAX_VALUE_BYTES {
                value.truncate(value.floor_char_boundary(MAX_VALUE_BYTES));
                self.repairs.insert(Repairs::VALUE_TOO_LONG);
            }
            self.carried.insert(name, value);
        }
    }
}

impl Pair {
    /// A pair that did not have to be decoded.
    pub fn new(name: &str, value: String) -> Self {
        Self { name: name.to_owned(), value, is_utf8: true }
    }
}

/// An id that decides which event this is: `text`, or nothing if it is blank or an unfilled macro. Refuses what
/// is too long or damaged: another event might have the same id then.
pub fn identity<'a>(
    name: &str,
    text: &'a str,
    max_bytes: usize,
    repairs: &mut Repairs,
) -> Result<&'a str, Refusal> {
    if text.trim_ascii().is_empty() {
        return Ok("");
    }
    if is_unfilled(text) {
        repairs.insert(Repairs::UNFILLED_MACRO);
        return Ok("");
    }
    if text.len() > max_bytes {
        return Err(Refusal::invalid(name, text, &format!("at most {max_bytes} bytes")));
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(not_utf8(name, text));
    }
    Ok(text)
}

fn not_utf8(name: &str, text: &str) -> Refusal {
    Refusal::invalid(name, text, "UTF-8")
}

fn given_twice(name: &str, first: &str, second: &str) -> Refusal {
    Refusal::invalid_parameters(&format!(
        "`{name}` is given twice, as {} and {}; give it once",
        Refusal::shown(first),
        Refusal::shown(second),
    ))
}

/// Fills the slot, unless the value is empty; fails if it is filled with something else.
fn set_once(
    name: &str,
    slot: &mut Option<String>,
    value: String,
    repairs: &mut Repairs,
) -> Result<(), Refusal> {
    if value.is_empty() {
        return Ok(());
    }
    match slot {
        None => *slot = Some(value),
        Some(first) if *first == value => repairs.insert(Repairs::REPEATED_NAME),
        // Of two values, the one that is filled counts.
        Some(first) if is_unfilled(first) => {
            repairs.insert(Repairs::UNFILLED_MACRO);
            *first = value;
        }
        Some(_) if is_unfilled(&value) => repairs.insert(Repairs::UNFILLED_MACRO),
        Some(first) => return Err(given_twice(name, first, &value)),
    }
    Ok(())
}

/// The decoded names and values of a query or a form, for callers that have to rename them first. Of a query
/// that is too long, those that begin beyond the limit are left out unless `is_known` accepts their names.
pub fn pairs(
    form: &str,
    rules: Rules,
    max_bytes: usize,
    is_known: impl Fn(&str) -> bool,
    repairs: &mut Repairs,
) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut end = 0;
    for pair in form.split('&') {
        end += pair.len();
        let is_beyond = end > max_bytes;
        end += 1;
        if pair.is_empty() {
            continue;
        }
        let pair = decode_pair(pair, rules, repairs);
        if !is_beyond || rules.is_known(&pair.name) || is_known(&pair.name) {
            pairs.push(pair);
        } else {
            repairs.insert(Repairs::QUERY_TOO_LONG);
        }
    }
    pairs
}

/// A form that need not be UTF-8: other bytes are percent-encoded, as they should have been.
pub fn form_text(form: &[u8]) -> Cow<'_, str> {
    str::from_utf8(form)
        .map_or_else(|_| Cow::Owned(percent_encode(form, NOT_ASCII).to_string()), Cow::Borrowed)
}

/// `percent_encode` always encodes what is not ASCII.
const NOT_ASCII: &AsciiSet = &CONTROLS.remove(b'\t').remove(b'\r').remove(b'\n').remove(0x7f);

fn decode_pair(pair: &str, rules: Rules, repairs: &mut Repairs) -> Pair {
    let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
    let (name, _) = decode(raw_name, repairs);
    let name = without_escaped_ampersand(name, repairs);
    let before = *repairs;
    let (mut value, is_utf8) = decode(raw_value, repairs);
    // A destination is passed on byte for byte.
    if !is_utf8 && rules.never_strands && rules.own_name(&name).is_some() {
        *repairs = before;
        value = decode_only_utf8(raw_value);
    }
    Pair { name, value, is_utf8 }
}

/// The decoded text, and whether it is UTF-8.
fn decode(text: &str, repairs: &mut Repairs) -> (String, bool) {
    if !text.contains(['%', '+']) {
        return (text.to_owned(), true);
    }
    decode_escapes(text, repairs)
}

fn decode_escapes(text: &str, repairs: &mut Repairs) -> (String, bool) {
    let spaced = text.replace('+', " ");
    // The first letters of a macro's name may look like an escape: `%%CACHEBUSTER%%`.
    if spaced.starts_with("%%") && spaced.ends_with("%%") && is_unfilled(&spaced) {
        repairs.insert(Repairs::INVALID_ESCAPE);
        return (spaced, true);
    }
    let decoded: Cow<'_, [u8]> = percent_decode(spaced.as_bytes()).into();
    let escapes = spaced.bytes().filter(|byte| *byte == b'%').count();
    if spaced.len() - decoded.len() != 2 * escapes {
        repairs.insert(Repairs::INVALID_ESCAPE);
    }
    let is_utf8 = str::from_utf8(&decoded).is_ok();
    if !is_utf8 {
        repairs.insert(Repairs::NOT_UTF8);
    }
    let text = match decoded {
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    (text, is_utf8)
}

/// The decoded text; bytes that are not UTF-8 stay percent-encoded.
#[cold]
fn decode_only_utf8(text: &str) -> String {
    let spaced = text.replace('+', " ");
    let decoded: Cow<'_, [u8]> = percent_decode(spaced.as_bytes()).into();
    let mut kept = String::with_capacity(spaced.len());
    for chunk in decoded.utf8_chunks() {
        kept.push_str(chunk.valid());
        kept.extend(percent_encode(chunk.invalid(), percent_encoding::NON_ALPHANUMERIC));
    }
    kept
}

fn without_escaped_ampersand(name: String, repairs: &mut Repairs) -> String {
    if !matches!(name.as_bytes(), [b'a', b'm', b'p', b';', ..] | [b'#', ..]) {
        return name;
    }
    let mut rest = name.as_str();
    while let Some(after) = ESCAPED_AMPERSANDS.iter().find_map(|start| rest.strip_prefix(start)) {
        repairs.insert(Repairs::ESCAPED_AMPERSAND);
        rest = after;
    }
    rest.to_owned()
}

#[cfg(test)]
mod tests;
