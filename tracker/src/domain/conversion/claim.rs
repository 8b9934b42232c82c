//! A conversion as a network or an advertiser's page claims it, and its validation.

use adtrack_proto::aliases::STATUSES;

use super::amount::{micros, micros_of_number};
use crate::domain::limits::{MAX_AMOUNT_BYTES, MAX_EVENT_NAME_BYTES, MAX_TRANSACTION_ID_BYTES};
use crate::domain::program::Alias;
use crate::domain::{
    Conversion, IMPRESSION_ID, Parameters, Refusal, Repairs, Rules, event_reference, identity,
};

const REFUNDED: &str = "refunded";
/// The status of a conversion that names none: most advertisers report final conversions.
const DEFAULT_STATUS: &str = "approved";
/// What `currency` takes.
const CURRENCY: &str = "three letters (ISO 4217), such as EUR";

/// What `/conversion` reads. Its impression is not part of the claim: it decides nothing.
const CONVERSION_PARAMETERS: [&str; 8] = [
    "click_id",
    "event_name",
    "transaction_id",
    "status",
    "amount",
    "currency",
    "sig",
    IMPRESSION_ID,
];

impl Rules {
    /// The rules of `/conversion`.
    pub const CONVERSION: Self = Self {
        for_endpoint: &CONVERSION_PARAMETERS,
        exact: &ConversionClaim::PARAMETERS,
        misspellable: &CONVERSION_PARAMETERS,
        never_strands: false,
    };
}

/// How the sender names a claim's texts, for refusals.
#[derive(Debug)]
pub struct ClaimNames {
    click_id: &'static str,
    event_name: &'static str,
    transaction_id: &'static str,
}

impl ClaimNames {
    /// The names of `/conversion`.
    pub const PARAMETERS: Self =
        Self { click_id: "click_id", event_name: "event_name", transaction_id: "transaction_id" };
    /// The names of a batch's items.
    pub const MEMBERS: Self =
        Self { click_id: "clickId", event_name: "eventName", transaction_id: "transactionId" };
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
    /// `pending`, `approved`, `rejected` or `refunded`, or what the program's network says instead.
    pub status: &'a str,
    /// What the program's network says for a status.
    pub status_aliases: &'a [Alias],
    /// A decimal number.
    pub amount: &'a str,
    /// Whether the amount is a JSON number: then it may have an exponent, and is rounded to millionths.
    pub amount_is_number: bool,
    /// Three letters (ISO 4217).
    pub currency: &'a str,
    /// The client's own id of the event.
    pub event_id: &'a str,
    /// HMAC-SHA-256 over all of these, hexadecimal.
    pub signature: &'a str,
}

/// A claim that is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidClaim {
    /// What is recorded of it.
    pub conversion: Conversion,
    /// The message id of the click, in the form that the table has; empty if not given.
    pub click_id: String,
    /// What was repaired.
    pub repairs: Repairs,
}

impl<'a> ConversionClaim<'a> {
    /// The parameters of a claim.
    pub const PARAMETERS: [&'static str; 7] =
        ["click_id", "event_name", "transaction_id", "status", "amount", "currency", "sig"];

    /// Reads a claim on a program with `status_aliases` from the parameters of `/conversion`.
    pub fn of(parameters: &'a Parameters, status_aliases: &'a [Alias]) -> Self {
        let text = |name| parameters.for_endpoint.get(name).map_or("", String::as_str);
        let event_id = parameters.event_id_as_sent.as_deref().or(parameters.event_id.as_deref());
        Self {
            click_id: text("click_id"),
            event_name: text("event_name"),
            transaction_id: text("transaction_id"),
            status: text("status"),
            status_aliases,
            amount: text("amount"),
            amount_is_number: parameters.amount_is_number,
            currency: text("currency"),
            event_id: event_id.unwrap_or_default(),
            signature: text("sig"),
        }
    }

    /// Validates the claim, whose sender uses `names`.
    pub fn validate(&self, names: &ClaimNames) -> Result<ValidClaim, Refusal> {
        let mut repairs = Repairs::default();
        let transaction_id = identity(
            names.transaction_id,
            self.transaction_id,
            MAX_TRANSACTION_ID_BYTES,
            &mut repairs,
        )?;
        let click_id = event_reference(names.click_id, self.click_id, &mut repairs)?;
        let event_name =
            identity(names.event_name, self.event_name, MAX_EVENT_NAME_BYTES, &mut repairs)?;
        let status = self.status()?;
        let amount_micros = self.amount_micros(&mut repairs)?;
        // Networks disagree on the sign of a refund.
        let amount_micros = match status {
            REFUNDED => -amount_micros.saturating_abs(),
            _ => amount_micros,
        };
        let conversion = Conversion {
            transaction_id: transaction_id.to_owned(),
            event_name: event_name.to_owned(),
            status: status.to_owned(),
            amount_micros,
            currency: self.currency.to_ascii_uppercase(),
        };
        Ok(ValidClaim { conversion, click_id, repairs })
    }

    /// The status, whatever its case, or the one that the program's network calls by another name.
    fn status(&self) -> Result<&'static str, Refusal> {
        if self.status.is_empty() {
            return Ok(DEFAULT_STATUS);
        }
        let known =
            |text: &str| STATUSES.into_iter().find(|known| known.eq_ignore_ascii_case(text));
        known(self.status)
            .or_else(|| known(Alias::resolve(self.status_aliases, self.status)?))
            .ok_or_else(|| {
                let accepted =
                    "pending, approved, rejected, refunded, or one of the program's statusAliases";
                Refusal::invalid("status", self.status, accepted)
            })
    }

    fn amount_micros(&self, repairs: &mut Repairs) -> Result<i64, Refusal> {
        let is_currency =
            |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !self.currency.is_empty() && !is_currency(self.currency) {
            return Err(Refusal::invalid("currency", self.currency, CURRENCY));
        }
        if self.amount.is_empty() {
            if !self.currency.is_empty() {
                repairs.insert(Repairs::CURRENCY_WITHOUT_AMOUNT);
            }
            return Ok(0);
        }
        if self.currency.is_empty() {
            let problem =
                format!("`currency` is missing: `amount` needs it; it must be {CURRENCY}");
            return Err(Refusal::invalid_parameters(&problem));
        }
        if self.amount.len() > MAX_AMOUNT_BYTES {
            let accepted = format!("at most {MAX_AMOUNT_BYTES} bytes");
            return Err(Refusal::invalid("amount", self.amount, &accepted));
        }
        let read = if self.amount_is_number {
            micros_of_number(self.amount)
        } else {
            micros(self.amount).map(|micros| (micros, true))
        };
        let (micros, is_exact) =
            read.map_err(|error| Refusal::invalid("amount", self.amount, &error.to_string()))?;
        if !is_exact {
            repairs.insert(Repairs::AMOUNT_ROUNDED);
        }
        Ok(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(claim: &ConversionClaim<'_>) -> Result<ValidClaim, Refusal> {
        claim.validate(&ClaimNames::PARAMETERS)
    }

    #[test]
    fn turns_a_claim_into_a_conversion() {
        let query = "transaction_id=t-1&event_name=sale&status=Refunded&amount=-49.90&currency=eur\
                     &campaign=x&at_event_id=e&sig=00";
        let parameters = Parameters::parse(query, Rules::CONVERSION).unwrap();
        let claim = ConversionClaim::of(&parameters, &[]);
        assert_eq!((claim.amount, claim.event_id, claim.signature), ("-49.90", "e", "00"));
        let expected = ValidClaim {
            conversion: Conversion {
                transaction_id: "t-1".into(),
                event_name: "sale".into(),
                status: "refunded".into(),
                amount_micros: -49_900_000,
                currency: "EUR".into(),
            },
            click_id: String::new(),
            repairs: Repairs::default(),
        };
        assert_eq!(validate(&claim).as_ref(), Ok(&expected));
        let taken_back = ConversionClaim { amount: "49.9", ..claim };
        assert_eq!(validate(&taken_back), Ok(expected));
        assert_eq!(parameters.carried.keys().collect::<Vec<_>>(), ["campaign"]);
        let default = validate(&ConversionClaim::default()).unwrap().conversion;
        assert_eq!((default.status.as_str(), default.amount_micros), ("approved", 0));
    }

    #[test]
    fn reads_statuses_in_any_case_and_those_of_the_network() {
        let alias = |theirs: &str, ours: &str| Alias { theirs: theirs.into(), ours: ours.into() };
        let aliases =
            [alias("1", "approved"), alias("Best\u{c4}tigt", "approved"), alias("x", "X")];
        for (given, status) in [
            ("Approved", Some("approved")),
            ("REFUNDED", Some("refunded")),
            ("1", Some("approved")),
            ("best\u{e4}tigt", Some("approved")),
            ("2", None),
            ("x", None),
        ] {
            let claim = ConversionClaim {
                status: given,
                status_aliases: &aliases,
                ..ConversionClaim::default()
            };
            let read = validate(&claim).ok().map(|valid| valid.conversion.status);
            assert_eq!(read.as_deref(), status, "{given}");
        }
    }

    #[test]
    fn unfilled_macros_are_no_ids() {
        let claim = ConversionClaim {
            transaction_id: "{txid}",
            click_id: "%7Bclick_id%7D",
            event_name: "sale",
            ..ConversionClaim::default()
        };
        let valid = validate(&claim).unwrap();
        assert_eq!((&*valid.conversion.transaction_id, &*valid.click_id), ("", ""));
        assert_eq!(valid.repairs, Repairs::UNFILLED_MACRO);
        let blank = ConversionClaim { transaction_id: " ", ..ConversionClaim::default() };
        assert_eq!(validate(&blank).unwrap().conversion.transaction_id, "");
        let name = ConversionClaim { event_name: "{event}", ..ConversionClaim::default() };
        let valid = validate(&name).unwrap();
        assert_eq!((&*valid.conversion.event_name, valid.repairs), ("", Repairs::UNFILLED_MACRO));
    }

    #[test]
    fn trims_what_nobody_sees_around_ids() {
        for text in ["o1 ", " o1", "o1\r\n", "o1\0", "\u{feff}o1", "o1\u{200b}", "\u{a0}o1"] {
            let claim = ConversionClaim {
                transaction_id: text,
                event_name: text,
                ..ConversionClaim::default()
            };
            let valid = validate(&claim).unwrap();
            let ids = (&*valid.conversion.transaction_id, &*valid.conversion.event_name);
            assert_eq!((ids, valid.repairs), (("o1", "o1"), Repairs::TRIMMED), "{text:?}");
        }
    }

    #[test]
    fn flags_a_currency_without_amount() {
        let claim = ConversionClaim { currency: "EUR", ..ConversionClaim::default() };
        assert_eq!(validate(&claim).unwrap().repairs, Repairs::CURRENCY_WITHOUT_AMOUNT);
        let zero = ConversionClaim { amount: "0", ..claim };
        assert!(validate(&zero).unwrap().repairs.is_empty());
    }

    #[test]
    fn rounds_json_numbers_only() {
        let number = ConversionClaim {
            amount: "0.30000000000000004",
            amount_is_number: true,
            currency: "EUR",
            ..ConversionClaim::default()
        };
        let valid = validate(&number).unwrap();
        assert_eq!(valid.conversion.amount_micros, 300_000);
        assert_eq!(valid.repairs, Repairs::AMOUNT_ROUNDED);
        assert!(validate(&ConversionClaim { amount_is_number: false, ..number }).is_err());
        let exponent = ConversionClaim { amount: "1.0E2", ..number };
        assert_eq!(validate(&exponent).unwrap().conversion.amount_micros, 100_000_000);
        assert!(validate(&exponent).unwrap().repairs.is_empty());
    }

    #[test]
    fn names_what_is_wrong_with_a_claim() {
        let long = "x".repeat(129);
        let none = ConversionClaim::default();
        for (claim, problem) in [
            (
                ConversionClaim { status: "1", ..none },
                "`status` must be pending, approved, rejected, refunded, or one of the program's statusAliases; got \"1\"",
            ),
            (
                ConversionClaim { amount: "1", ..none },
                "`currency` is missing: `amount` needs it; it must be three letters",
            ),
            (
                ConversionClaim { amount: "1e3", currency: "EUR", ..none },
                "`amount` must be a decimal number such as 49.90 or -5; got \"1e3\"",
            ),
            (
                ConversionClaim { amount: "1", currency: "EURO", ..none },
                "`currency` must be three letters (ISO 4217), such as EUR; got \"EURO\"",
            ),
            (ConversionClaim { currency: "EU", ..none }, "`currency` must be three letters"),
            (ConversionClaim { currency: "€", ..none }, "`currency` must be three letters"),
            (ConversionClaim { click_id: "1", ..none }, "`click_id` must be a message id"),
            (
                ConversionClaim { transaction_id: &long, ..none },
                "`transaction_id` must be at most 128 bytes; got \"xxxxx",
            ),
            (
                ConversionClaim { transaction_id: "M\u{fffd}", ..none },
                "`transaction_id` must be UTF-8",
            ),
            (ConversionClaim { event_name: &long, ..none }, "`event_name` must be at most 64"),
            (
                ConversionClaim { transaction_id: "o\t1", ..none },
                "`transaction_id` must be without control characters; got \"o\\t1\"",
            ),
        ] {
            let refusal = validate(&claim).unwrap_err();
            assert_eq!(refusal.code(), "invalid_parameters");
            assert!(refusal.to_string().starts_with(problem), "{refusal}");
        }
    }
}
