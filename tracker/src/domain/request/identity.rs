//! Ids that decide which event it is, and other texts that count as not given if nobody filled them.

use adtrack_proto::unfilled::{is_unfilled, visible};

use super::repairs::Repairs;
use super::rules::{CLICK_ID, EVENT_ID, IMPRESSION_ID};
use crate::domain::Refusal;

/// Parameters of endpoints that count as not given if they are blank or an unfilled macro: they decide which event
/// it is, or where a click leads.
const MAY_BE_UNFILLED: [&str; 5] = ["transaction_id", CLICK_ID, IMPRESSION_ID, "event_name", "url"];

/// An id that decides which event this is: `text`, or nothing if it is blank or an unfilled macro. Without what
/// nobody sees around it: the same id, copied from elsewhere, is the same. Refuses what is too long or damaged:
/// another event might have the same id then.
pub fn identity<'a>(
    name: &str,
    text: &'a str,
    max_bytes: usize,
    repairs: &mut Repairs,
) -> Result<&'a str, Refusal> {
    let id = visible(text);
    if id.len() != text.len() {
        repairs.insert(Repairs::TRIMMED);
    }
    if is_unfilled(id) {
        repairs.insert(Repairs::UNFILLED_MACRO);
        return Ok("");
    }
    if id.len() > max_bytes {
        return Err(Refusal::invalid(name, id, &format!("at most {max_bytes} bytes")));
    }
    if id.contains(char::REPLACEMENT_CHARACTER) {
        return Err(not_utf8(name, id));
    }
    if id.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Refusal::invalid(name, id, "without control characters"));
    }
    Ok(id)
}

/// Whether the parameter `name`, which is not empty, counts as given.
pub(super) fn is_given(name: &str, value: &str) -> bool {
    let may_be_unfilled = name == EVENT_ID || MAY_BE_UNFILLED.contains(&name);
    !value.is_empty() && !(may_be_unfilled && (visible(value).is_empty() || is_unfilled(value)))
}

/// What is wrong with a value that counts as not given.
pub(super) fn why_not_given(value: &str) -> Repairs {
    if is_unfilled(value) { Repairs::UNFILLED_MACRO } else { Repairs::TRIMMED }
}

/// Whether two values of the parameter `name` are the same.
pub(super) fn is_same(name: &str, first: &str, second: &str) -> bool {
    first == second || MAY_BE_UNFILLED.contains(&name) && visible(first) == visible(second)
}

pub(super) fn not_utf8(name: &str, text: &str) -> Refusal {
    Refusal::invalid(name, text, "UTF-8")
}

pub(super) fn given_twice(name: &str, first: &str, second: &str) -> Refusal {
    Refusal::invalid_parameters(&format!(
        "`{name}` is given twice, as {} and {}; give it once",
        Refusal::shown(first),
        Refusal::shown(second),
    ))
}
