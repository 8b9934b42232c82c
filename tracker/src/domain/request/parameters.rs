//! The parameters of a tracking request: parsing and limits.
//!
//! Free parameters never cost the event ([`super::repairs`]): what exceeds a limit is cut or left out, what is
//! not clean is repaired, and [`Parameters::repairs`] says so. Those that adtrack reads itself are exact, or the
//! request is refused. An empty value of one of these counts as not given. [`super::misspelt`] reads those whose
//! names are not quite right.

use std::collections::BTreeMap;

use adtrack_proto::unfilled::is_unfilled;

use super::identity::{given_twice, identity, is_given, is_same, not_utf8, why_not_given};
use super::pairs::{JsonType, Pair, read_pairs};
use super::repairs::Repairs;
use super::rules::{CHECKSUM, CONSENT, CUSTOMER_ID, EVENT_ID, GDPR, MAX_EVENT_ID_BYTES, Rules};
use crate::domain::Refusal;
use crate::domain::client::tcf;
use crate::domain::limits::{MAX_NAME_BYTES, MAX_PARAMETERS, MAX_QUERY_BYTES, MAX_VALUE_BYTES};

/// Names with this prefix are reserved for adtrack.
const RESERVED_PREFIX: &str = "at_";

/// The parameters of a tracking request, decoded and within their limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `checksum`, if given: must be the program's.
    pub checksum: Option<String>,
    /// `customerId`, if given: must be the program's.
    pub customer_id: Option<String>,
    /// `at_event_id`, if given: the client's own id of the event.
    pub event_id: Option<String>,
    /// The `at_event_id` as it was sent, if it was trimmed or is an unfilled macro. Signatures cover it.
    pub event_id_as_sent: Option<String>,
    /// The parameters that only this endpoint reads.
    pub for_endpoint: BTreeMap<&'static str, String>,
    /// All others. They are carried on the event.
    pub carried: BTreeMap<String, String>,
    /// Whether any `gdpr` parameter is other than `0` or empty, even one that is not carried.
    pub gdpr_applies: bool,
    /// The `gdpr_consent`, even if it is not carried. Empty if several differ: then nobody knows which counts.
    pub consent: Option<String>,
    /// Whether the `amount` is a JSON number.
    pub amount_is_number: bool,
    /// What was repaired.
    pub repairs: Repairs,
    /// Parameters under misspelt names that are not read yet.
    pub(super) misspelt: Vec<Misspelt>,
}

/// A parameter under a misspelt name, until all of the request is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misspelt {
    /// The name that is meant.
    pub(super) name: &'static str,
    pub(super) pair: Pair,
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
        let mut repairs = Repairs::default();
        let is_read = |name: &str| rules.is_read(name);
        read_pairs(query, rules, MAX_QUERY_BYTES, is_read, &mut repairs, |pair, may_hide| {
            if may_hide { parameters.add(pair, rules) } else { parameters.add_plain(pair, rules) }
        })?;
        parameters.repairs.insert(repairs);
        if parameters.has_misspelt() {
            parameters.read_misspelt(|_| true);
        }
        Ok(parameters)
    }

    /// Adds a parameter. [`Self::read_misspelt`] has to be called behind the last one.
    pub fn add(&mut self, pair: Pair, rules: Rules) -> Result<(), Refusal> {
        if pair.value.contains(';') || pair.name.contains(';') {
            self.add_hidden_consent(&pair);
        }
        self.add_plain(pair, rules)
    }

    fn add_plain(&mut self, pair: Pair, rules: Rules) -> Result<(), Refusal> {
        let Pair { name, value, is_utf8, json_type } = pair;
        match name.as_str() {
            CHECKSUM => set_once(CHECKSUM, &mut self.checksum, value, &mut self.repairs),
            CUSTOMER_ID => set_once(CUSTOMER_ID, &mut self.customer_id, value, &mut self.repairs),
            EVENT_ID => self.add_event_id(EVENT_ID, value, is_utf8, rules),
            GDPR => {
                self.add_gdpr(name, value);
                Ok(())
            }
            CONSENT => {
                self.add_consent(name, value);
                Ok(())
            }
            _ => {
                if let Some(own) = rules.own_name(&name) {
                    return self.add_own(own, Pair { name, value, is_utf8, json_type }, rules);
                }
                if rules.may_be_misspelt(&name) {
                    self.add_unknown(Pair { name, value, is_utf8, json_type }, rules);
                } else {
                    self.carry(name, value);
                }
                Ok(())
            }
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
                if self.event_id.is_none() {
                    self.event_id_as_sent = Some(value).filter(|value| !value.is_empty());
                }
                Ok(())
            }
            Ok(id) if is_utf8 => {
                let trimmed = (id.len() != value.len()).then(|| id.to_owned());
                let (id, as_sent) = match trimmed {
                    Some(id) => (id, Some(value)),
                    None => (value, None),
                };
                self.event_id_as_sent = as_sent;
                set_once(name, &mut self.event_id, id, &mut self.repairs)
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
    fn add_own(&mut self, name: &'static str, pair: Pair, rules: Rules) -> Result<(), Refusal> {
        let Pair { value, is_utf8, json_type, .. } = pair;
        if value.is_empty() {
            return Ok(());
        }
        let is_exact = rules.exact.contains(&name);
        if !is_utf8 && is_exact && !rules.never_strands {
            return Err(not_utf8(name, &value));
        }
        match self.for_endpoint.get(name) {
            None => self.set_own(name, value, json_type),
            // Of two, the one that is filled counts.
            Some(first) if !is_given(name, first) => {
                self.repairs.insert(why_not_given(first));
                self.set_own(name, value, json_type);
            }
            Some(_) if !is_given(name, &value) => self.repairs.insert(why_not_given(&value)),
            Some(first) if !is_exact || is_same(name, first, &value) => {
                self.repairs.insert(Repairs::REPEATED_NAME);
            }
            Some(first) => return Err(given_twice(name, first, &value)),
        }
        Ok(())
    }

    pub(super) fn set_own(&mut self, name: &'static str, value: String, json_type: JsonType) {
        if name == "amount" {
            self.amount_is_number = json_type == JsonType::Number;
        }
        self.for_endpoint.insert(name, value);
    }

    pub(super) fn add_gdpr(&mut self, name: String, value: String) {
        self.gdpr_applies |= is_objection(&value);
        self.carry(name, value);
    }

    pub(super) fn add_consent(&mut self, name: String, value: String) {
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
    pub(super) fn carry(&mut self, name: String, mut value: String) {
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

/// Whether a `gdpr` with this value says that consent is needed. What cannot be read does.
pub(super) fn is_objection(value: &str) -> bool {
    !matches!(value, "" | "0")
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

#[cfg(test)]
mod tests;
