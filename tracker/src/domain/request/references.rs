//! References to other events: `click_id` and `impression_id`.

use std::str::FromStr;

use uuid::Uuid;

use super::identity::identity;
use super::parameters::Parameters;
use super::repairs::Repairs;
use super::rules::{CLICK_ID, IMPRESSION_ID};
use crate::domain::Refusal;

/// Parses the id of another event, given as `name`: a UUID (RFC 9562), in the form that the table has. Empty if
/// it is not given or an unfilled macro.
pub fn event_reference(name: &str, text: &str, repairs: &mut Repairs) -> Result<String, Refusal> {
    let text = identity(name, text, usize::MAX, repairs)?;
    match Uuid::from_str(text) {
        _ if text.is_empty() => Ok(String::new()),
        // `Uuid` also parses other forms: braces, urn:, no hyphens.
        Ok(id) if text.len() == uuid::fmt::Hyphenated::LENGTH => Ok(id.to_string()),
        _ => Err(Refusal::invalid(
            name,
            text,
            "a message id, such as 019b7ca9-8f2e-7707-8707-070707070707",
        )),
    }
}

/// The same for a reference that does not decide which event it is: one that is not usable is left out. Takes a UUID
/// in any of its forms.
pub fn optional_reference(text: &str, repairs: &mut Repairs) -> String {
    match identity("", text, usize::MAX, repairs).map(|text| (text, Uuid::from_str(text))) {
        Ok(("", _)) => String::new(),
        Ok((_, Ok(id))) => id.to_string(),
        Ok((_, Err(_))) | Err(_) => {
            repairs.insert(Repairs::INVALID_REFERENCE);
            String::new()
        }
    }
}

impl Parameters {
    /// The click and the impression that led to an event for which they do not decide which event it is.
    pub fn take_references(&mut self) -> (String, String) {
        // Nearly no event but a conversion has one.
        if self.for_endpoint.is_empty() {
            return (String::new(), String::new());
        }
        (self.take_reference(CLICK_ID), self.take_reference(IMPRESSION_ID))
    }

    /// The event that the parameter `name` refers to.
    #[cold]
    pub fn take_reference(&mut self, name: &str) -> String {
        let text = self.for_endpoint.remove(name);
        text.map_or_else(String::new, |text| optional_reference(&text, &mut self.repairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019b7ca9-8f2e-7707-8707-070707070707";

    #[test]
    fn parses_references_into_the_tables_form() {
        let parse = |text: &str| event_reference("click_id", text, &mut Repairs::default());
        for text in [ID, &ID.to_uppercase(), &format!("{ID} ")] {
            assert_eq!(parse(text).as_deref(), Ok(ID));
        }
        for text in ["", " ", "{click_id}"] {
            assert_eq!(parse(text).as_deref(), Ok(""));
        }
        for text in ["x", &ID[1..], &ID.replace('-', ""), &format!("{{{ID}}}"), "1 OR 1=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn leaves_out_references_that_are_not_usable() {
        for (text, id, repairs) in [
            (ID, ID, Repairs::default()),
            (&ID.replace('-', ""), ID, Repairs::default()),
            (&format!("{{{ID}}}"), ID, Repairs::default()),
            ("", "", Repairs::default()),
            ("\u{feff}", "", Repairs::TRIMMED),
            ("{click_id}", "", Repairs::UNFILLED_MACRO),
            ("12345", "", Repairs::INVALID_REFERENCE),
            ("M\u{fffd}", "", Repairs::INVALID_REFERENCE),
        ] {
            let mut repaired = Repairs::default();
            assert_eq!(optional_reference(text, &mut repaired), id, "{text}");
            assert_eq!(repaired, repairs, "{text}");
        }
    }
}
