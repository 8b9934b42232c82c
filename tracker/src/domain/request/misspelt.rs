//! Parameters under a name that resembles one of ours: `Amount=5`, `transactionId=t-1`, `GDPR=1`.
//!
//! If the right name is not given and the value is one that it accepts, the parameter is read as if it had the right
//! name. Otherwise it is a free parameter like any other. Either way the request is flagged: somebody has to
//! correct it. It is never refused for such a name.

use std::str::FromStr;

use adtrack_proto::unfilled::visible;
use uuid::Uuid;

use super::identity::{identity, is_given};
use super::names::meant;
use super::pairs::Pair;
use super::parameters::{Misspelt, Parameters, is_objection};
use super::repairs::Repairs;
use super::rules::{
    CHECKSUM, CONSENT, CUSTOMER_ID, EVENT_ID, GDPR, IMPRESSION_ID, MAX_EVENT_ID_BYTES, Rules,
};

/// A click's `url` under a misspelt name. Apart from `url` itself, because it leads nowhere but to an allowed page.
pub const MISSPELT_URL: &str = "URL";

impl Parameters {
    /// Adds a parameter whose name is not known but may be a misspelt one.
    #[cold]
    pub(super) fn add_unknown(&mut self, pair: Pair, rules: Rules) {
        match rules.meant(&pair.name) {
            Some(name) => self.add_misspelt(name, pair),
            None => match encoded_pair(&pair).map(|pair| (rules.meant(&pair.name), pair)) {
                Some((Some(name), pair)) => self.add_misspelt(name, pair),
                _ => self.carry(pair.name, pair.value),
            },
        }
    }

    /// Adds a parameter that is meant to be `name`.
    #[cold]
    pub fn add_misspelt(&mut self, name: &'static str, pair: Pair) {
        self.repairs.insert(Repairs::MISSPELT_NAME);
        match name {
            // An objection is one under any name.
            GDPR => self.add_gdpr(pair.name, pair.value),
            CONSENT => self.add_consent(pair.name, pair.value),
            // They only show that a link was made for the program.
            CHECKSUM | CUSTOMER_ID => self.carry(pair.name, pair.value),
            _ => self.misspelt.push(Misspelt { name, pair }),
        }
    }

    /// Looks for `;gdpr=1` inside a parameter: some senders separate parameters by semicolons.
    #[cold]
    pub(super) fn add_hidden_consent(&mut self, pair: &Pair) {
        let text = format!("{}={}", pair.name, pair.value);
        for part in text.split(';').skip(1) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if meant(name, [GDPR]).is_some() {
                self.repairs.insert(Repairs::MISSPELT_NAME);
                self.gdpr_applies |= is_objection(value);
            }
        }
    }

    /// Whether [`Self::read_misspelt`] has anything to do.
    pub fn has_misspelt(&self) -> bool {
        !self.misspelt.is_empty()
    }

    /// Reads the parameters under misspelt names, now that all others are known. `accepts` says whether a request
    /// is valid with the one that has just been filled in; if it is not, or the right name is given, or two of them
    /// differ, the parameter is a free one.
    #[cold]
    pub fn read_misspelt(&mut self, accepts: impl Fn(&Self) -> bool) {
        let mut all = std::mem::take(&mut self.misspelt);
        // An amount is not valid without its currency.
        all.sort_by_key(|misspelt| misspelt.name != "currency");
        let is_unambiguous = |one: &Misspelt| {
            let same_name = all.iter().filter(|other| other.name == one.name);
            same_name.map(|other| &other.pair.value).all(|value| *value == one.pair.value)
        };
        let readable: Vec<_> =
            all.iter().map(|one| one.pair.is_utf8 && is_unambiguous(one)).collect();
        for (Misspelt { name, pair }, is_readable) in all.into_iter().zip(readable) {
            let is_read = is_readable && is_given(name, &pair.value) && {
                if name == EVENT_ID {
                    self.try_event_id(&pair.value, &accepts)
                } else {
                    self.try_own(name, &pair, &accepts)
                }
            };
            if !is_read || name == "url" {
                self.carry(pair.name, pair.value);
            }
        }
    }

    fn try_event_id(&mut self, value: &str, accepts: impl Fn(&Self) -> bool) -> bool {
        let before = self.repairs;
        if self.event_id.is_some() {
            return false;
        }
        if let Ok(id) = identity(EVENT_ID, value, MAX_EVENT_ID_BYTES, &mut self.repairs) {
            self.event_id = Some(id.to_owned());
            if accepts(self) {
                return true;
            }
        }
        self.event_id = None;
        self.repairs = before;
        false
    }

    fn try_own(
        &mut self,
        name: &'static str,
        pair: &Pair,
        accepts: impl Fn(&Self) -> bool,
    ) -> bool {
        let slot = if name == "url" { MISSPELT_URL } else { name };
        // One that is not usable would be left out; under its own name it stays.
        if name == IMPRESSION_ID && Uuid::from_str(visible(&pair.value)).is_err() {
            return false;
        }
        let before = self.for_endpoint.get(slot).cloned();
        if before.as_deref().is_some_and(|value| is_given(name, value)) {
            return false;
        }
        self.set_own(slot, pair.value.clone(), pair.json_type);
        if accepts(self) {
            return true;
        }
        match before {
            Some(value) => self.for_endpoint.insert(slot, value),
            None => self.for_endpoint.remove(slot),
        };
        false
    }
}

/// The parameter whose equals sign was percent-encoded, too: `amount%3D5`.
fn encoded_pair(pair: &Pair) -> Option<Pair> {
    let (name, value) = pair.name.split_once('=').filter(|_| pair.value.is_empty())?;
    Some(Pair { name: name.to_owned(), value: value.to_owned(), ..pair.clone() })
}
