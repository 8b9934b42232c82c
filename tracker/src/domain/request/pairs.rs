//! Decodes the names and values of queries and forms.

use std::borrow::Cow;

use adtrack_proto::unfilled::is_percent_macro;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use super::repairs::Repairs;
use super::rules::Rules;
use crate::domain::Refusal;

/// What is left of `&` where a URL was escaped for HTML, at the start of the next name.
const ESCAPED_AMPERSANDS: [&str; 5] = ["amp;", "#38;", "#038;", "#x26;", "#X26;"];

/// A name and a value, decoded, for callers that have to rename them first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Its name.
    pub name: String,
    /// Its value; U+FFFD where it is not UTF-8.
    pub value: String,
    /// Whether the value is known to be UTF-8 as sent.
    pub is_utf8: bool,
    /// What the value is in JSON; a text if it was not sent as JSON.
    pub json_type: JsonType,
}

/// The type of a JSON value that became a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    /// A string, or not JSON.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An object or an array.
    Nested,
}

impl Pair {
    /// A pair that did not have to be decoded.
    pub fn new(name: &str, value: String) -> Self {
        Self { name: name.to_owned(), value, is_utf8: true, json_type: JsonType::Text }
    }
}

/// The decoded names and values of a query or a form, for callers that have to rename them first. Of a query
/// that is too long, those that begin beyond the limit are left out unless `is_read` accepts their names.
pub fn pairs(
    form: &str,
    rules: Rules,
    max_bytes: usize,
    is_read: impl Fn(&str) -> bool,
    repairs: &mut Repairs,
) -> Vec<Pair> {
    let mut pairs = Vec::new();
    // Never fails: pushing does not.
    let _ = read_pairs(form, rules, max_bytes, is_read, repairs, |pair, _| {
        pairs.push(pair);
        Ok(())
    });
    pairs
}

/// Decodes the names and values of a query or a form, and gives them to `add`, with whether a value may hide another
/// parameter. Of a query that is too long, those that begin beyond the limit are left out unless `is_read`
/// accepts their names.
#[inline]
pub(super) fn read_pairs(
    form: &str,
    rules: Rules,
    max_bytes: usize,
    is_read: impl Fn(&str) -> bool,
    repairs: &mut Repairs,
    mut add: impl FnMut(Pair, bool) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    // A fold does not stop early, so that the compiler can check many bytes at a time.
    let is_encoded =
        form.bytes().fold(false, |found, byte| found | matches!(byte, b'%' | b'+' | b';'));
    let mut end = 0;
    for pair in form.split('&') {
        end += pair.len();
        let is_beyond = end > max_bytes;
        end += 1;
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let pair = if is_encoded {
            decode_pair(name, value, rules, repairs)
        } else {
            Pair::new(name, value.to_owned())
        };
        if is_beyond && !is_read(&pair.name) {
            continue;
        }
        add(pair, is_encoded)?;
    }
    if form.len() > max_bytes {
        repairs.insert(Repairs::QUERY_TOO_LONG);
    }
    Ok(())
}

/// A form that need not be UTF-8: other bytes are percent-encoded, as they should have been.
pub fn form_text(form: &[u8]) -> Cow<'_, str> {
    str::from_utf8(form)
        .map_or_else(|_| Cow::Owned(percent_encode(form, NOT_ASCII).to_string()), Cow::Borrowed)
}

/// `percent_encode` always encodes what is not ASCII.
const NOT_ASCII: &AsciiSet = &CONTROLS.remove(b'\t').remove(b'\r').remove(b'\n').remove(0x7f);

fn decode_pair(raw_name: &str, raw_value: &str, rules: Rules, repairs: &mut Repairs) -> Pair {
    let (name, _) = decode(raw_name, repairs);
    let name = without_escaped_ampersand(name, repairs);
    let before = *repairs;
    let (mut value, is_utf8) = decode(raw_value, repairs);
    // A destination is passed on byte for byte.
    if !is_utf8 && rules.never_strands && rules.own_name(&name).is_some() {
        *repairs = before;
        value = decode_only_utf8(raw_value);
    }
    Pair { name, value, is_utf8, json_type: JsonType::Text }
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
    // The first letters of a macro's name may look like an escape: `%%CACHEBUSTER%%`, `%ecid!`.
    if is_percent_macro(&spaced) {
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
