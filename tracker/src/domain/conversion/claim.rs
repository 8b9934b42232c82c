//! A conversion as a network or an advertiser's page claims it, and its validation.

use std::str::FromStr;

use uuid::Uuid;

use super::amount::micros;
use crate::domain::limits::{MAX_AMOUNT_BYTES, MAX_EVENT_NAME_BYTES, MAX_TRANSACTION_ID_BYTES};
use crate::domain::{Conversion, Parameters, Refusal, Rules};

const REFUNDED: &str = "refunded";
/// The stages of a conversion.
const STATUSES: [&str; 4] = ["pending", "approved", "rejected", REFUNDED];
/// The status of a conversion that names none: most advertisers report final conversions.
const DEFAULT_STATUS: &str = "approved";

impl Rules {
    /// The rules of `/conversion`.
    pub const CONVERSION: Self =
        Self { for_endpoint: &ConversionClaim::PARAMETERS, lenient: false };
}

/// A conversion as its sender states it: the texts as given, not validated; empty if not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConversionClaim<'a> {
    /// The message id of the click that led to it.
    pub click_id: &'a str,
    /// The kind of conversion.
    pub event_name: &'a str,
    /// The advertiser's own id of the transaction.
    pub transaction_id: &'a str,
    /// `pending`, `approved`, `rejected` or `refunded`.
    pub status: &'a str,
    /// A decimal number.
    pub amount: &'a str,
    /// Three letters (ISO 4217).
    pub currency: &'a str,
    /// The client's own id of the event.
    pub event_id: &'a str,
    /// HMAC-SHA-256 over all of these, hexadecimal.
    pub signature: &'a str,
}

impl<'a> ConversionClaim<'a> {
    /// The parameters of a claim, each with the maximum length of its value in bytes.
    pub const PARAMETERS: [(&'static str, usize); 7] = [
        ("click_id", 36),
        ("event_name", MAX_EVENT_NAME_BYTES),
        ("transaction_id", MAX_TRANSACTION_ID_BYTES),
        ("status", 16),
        ("amount", MAX_AMOUNT_BYTES),
        ("currency", 3),
        ("sig", 64),
    ];

    /// Reads a claim from the parameters of `/conversion`.
    pub fn of(parameters: &'a Parameters) -> Self {
        let text = |name| parameters.for_endpoint.get(name).map_or("", String::as_str);
        Self {
            click_id: text("click_id"),
            event_name: text("event_name"),
            transaction_id: text("transaction_id"),
            status: text("status"),
            amount: text("amount"),
            currency: text("currency"),
            event_id: parameters.event_id.as_deref().unwrap_or_default(),
            signature: text("sig"),
        }
    }

    /// Validates the claim and returns what is recorded, apart from [`Self::click_id`].
    pub fn to_conversion(&self) -> Result<Conversion, Refusal> {
        let status = if self.status.is_empty() { DEFAULT_STATUS } else { self.status };
        if !STATUSES.contains(&status) {
            return Err(Refusal::invalid_parameters(
                "`status` is pending, approved, rejected or refunded",
            ));
        }
        let amount_micros = match self.amount {
            "" => 0,
            _ if self.currency.is_empty() => {
                return Err(Refusal::invalid_parameters(
                    "`amount` needs a `currency`: three letters (ISO 4217)",
                ));
            }
            amount => micros(amount)
                .map_err(|error| Refusal::invalid_parameters(&format!("`amount` {error}")))?,
        };
        // Networks disagree on the sign of a refund.
        let amount_micros = match status {
            REFUNDED => -amount_micros.saturating_abs(),
            _ => amount_micros,
        };
        let is_currency = |text: &str| {
            text.is_empty()
                || text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic())
        };
        if !is_currency(self.currency) {
            return Err(Refusal::invalid_parameters(
                "`currency` has three letters (ISO 4217), such as EUR",
            ));
        }
        Ok(Conversion {
            transaction_id: self.transaction_id.to_owned(),
            event_name: self.event_name.to_owned(),
            status: status.to_owned(),
            amount_micros,
            currency: self.currency.to_ascii_uppercase(),
        })
    }
}

/// Parses the id of another event, given in the parameter `name`: a UUID (RFC 9562), in the form that the
/// table has. Empty if not given.
pub fn event_reference(name: &str, text: &str) -> Result<String, Refusal> {
    match Uuid::from_str(text) {
        _ if text.is_empty() => Ok(String::new()),
        // `Uuid` also parses other forms: braces, urn:, no hyphens.
        Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(id.to_string()),
        _ => Err(Refusal::invalid_parameters(&format!(
            "`{name}` is a message id, such as 019b7ca9-8f2e-7707-8707-070707070707"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_a_claim_into_a_conversion() {
        let query = "transaction_id=t-1&event_name=sale&status=refunded&amount=-49.90&currency=eur\
                     &campaign=x&at_event_id=e&sig=00";
        let parameters = Parameters::parse(query, Rules::CONVERSION).unwrap();
        let claim = ConversionClaim::of(&parameters);
        assert_eq!((claim.amount, claim.event_id, claim.signature), ("-49.90", "e", "00"));
        let expected = Conversion {
            transaction_id: "t-1".into(),
            event_name: "sale".into(),
            status: "refunded".into(),
            amount_micros: -49_900_000,
            currency: "EUR".into(),
        };
        assert_eq!(claim.to_conversion().as_ref(), Ok(&expected));
        let taken_back = ConversionClaim { amount: "49.9", ..claim };
        assert_eq!(taken_back.to_conversion(), Ok(expected));
        assert_eq!(parameters.carried.keys().collect::<Vec<_>>(), ["campaign"]);
        let default = ConversionClaim::default().to_conversion().unwrap();
        assert_eq!((default.status.as_str(), default.amount_micros), ("approved", 0));
    }

    #[test]
    fn names_what_is_wrong_with_a_claim() {
        for (claim, problem) in [
            (
                ConversionClaim { status: "Approved", ..ConversionClaim::default() },
                "`status` is pending",
            ),
            (
                ConversionClaim { amount: "1", ..ConversionClaim::default() },
                "`amount` needs a `currency`",
            ),
            (
                ConversionClaim { amount: "1e3", currency: "EUR", ..ConversionClaim::default() },
                "`amount` is not a dec",
            ),
            (
                ConversionClaim { amount: "1", currency: "E1R", ..ConversionClaim::default() },
                "`currency` has three",
            ),
            (
                ConversionClaim { currency: "EU", ..ConversionClaim::default() },
                "`currency` has three",
            ),
            (
                ConversionClaim { currency: "€", ..ConversionClaim::default() },
                "`currency` has three",
            ),
        ] {
            let refusal = claim.to_conversion().unwrap_err();
            assert_eq!(refusal.code(), "invalid_parameters");
            assert!(refusal.to_string().starts_with(problem), "{refusal}");
        }
    }

    #[test]
    fn parses_references_into_the_tables_form() {
        let id = "019b7ca9-8f2e-7707-8707-070707070707";
        for text in [id, &id.to_uppercase()] {
            assert_eq!(event_reference("click_id", text).as_deref(), Ok(id));
        }
        assert_eq!(event_reference("click_id", "").as_deref(), Ok(""));
        for text in ["x", &id[1..], &id.replace('-', ""), &format!("{{{id}}}"), "1 OR 1=1"] {
            assert!(event_reference("click_id", text).is_err(), "{text}");
        }
    }
}
