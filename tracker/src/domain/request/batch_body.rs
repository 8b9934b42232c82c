//! The body of a batch: a JSON array of items, or NDJSON.
//!
//! A body that is JSON as a whole is read as such: an array's elements, or values one after the other, which may
//! extend over several lines. Otherwise each line is read for itself, and what cannot be read gets a result of
//! its own: nothing that can be read is lost because of something else.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::Refusal;
use crate::domain::request::batch_item::ReadItem;
use crate::domain::request::json::JsonText;

/// The maximum number of events in a batch.
const MAX_EVENTS: usize = 500;

/// The items of a batch.
pub fn read_items<'a>(json: &'a JsonText<'a>) -> Result<Vec<ReadItem<'a>>, Refusal> {
    let items = match read_whole(json) {
        Ok(items) => items,
        Err(problem) => {
            let items = read_lines(json);
            if !items.iter().any(ReadItem::is_object) {
                return Err(Refusal::InvalidBody(problem));
            }
            items
        }
    };
    if items.len() > MAX_EVENTS {
        return Err(Refusal::PayloadTooLarge(format!(
            "the batch has more than {MAX_EVENTS} events"
        )));
    }
    Ok(items)
}

/// The items of a body that is JSON as a whole; otherwise what is wrong with it, and where.
fn read_whole<'a>(json: &'a JsonText<'a>) -> Result<Vec<ReadItem<'a>>, String> {
    let text = json.text();
    if !text.trim_ascii_start().starts_with(['[', '{']) {
        let problem = "the body is neither a JSON array of events nor NDJSON with one event per line: \
                       expected `[` or `{` at line 1 column 1";
        return Err(problem.to_owned());
    }
    let items = if json.is_repaired() { repaired_values(json) } else { values(text) };
    items.map_err(|error| format!("the body is not JSON: {error}"))
}

/// The items of a text in which something was replaced, each with whether that was in it.
#[cold]
fn repaired_values<'a>(json: &'a JsonText<'a>) -> serde_json::Result<Vec<ReadItem<'a>>> {
    let text = json.text();
    let to_item = |value: &'a RawValue| -> serde_json::Result<ReadItem<'a>> {
        let value = value.get();
        let start = value.as_ptr().addr() - text.as_ptr().addr();
        let item: ReadItem<'a> = serde_json::from_str(value)?;
        Ok(item.repaired_if(json.is_repaired_within(start..start + value.len())))
    };
    values::<&RawValue>(text)?.into_iter().map(to_item).collect()
}

/// The elements of an array, or values that follow each other.
fn values<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<Vec<T>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    if text.trim_ascii_start().starts_with('[') {
        let values = deserializer.deserialize_seq(Elements(PhantomData))?;
        deserializer.end()?;
        return Ok(values);
    }
    let mut values = Vec::new();
    for value in deserializer.into_iter() {
        push_bounded(&mut values, value?);
    }
    Ok(values)
}

/// Keeps at most one value more than allowed, so that a body of many small values takes little memory.
fn push_bounded<T>(values: &mut Vec<T>, value: T) {
    if values.len() <= MAX_EVENTS {
        values.push(value);
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            push_bounded(&mut values, value);
        }
        Ok(values)
    }
}

/// The items of a body that is not JSON as a whole, line by line. Of a line that is not JSON, its beginning
/// is read as far as it is; the rest is one item that says why not. Commas and brackets between items are
/// ignored, as are byte-order marks: lines may come from an array, or from files that were joined.
#[cold]
fn read_lines<'a>(json: &'a JsonText<'a>) -> Vec<ReadItem<'a>> {
    let text = json.text();
    let mut items = Vec::new();
    let (mut at, mut line) = (0, 1);
    // An object may extend over several lines. Bounds how often a text is read in search of its end.
    let mut budget = text.len();
    while items.len() <= MAX_EVENTS {
        let begin = text.len() - text[at..].trim_start_matches(is_separator).len();
        line += line_feeds(&text[at..begin]);
        let rest = &text[begin..];
        if rest.is_empty() {
            break;
        }
        let in_line = rest.lines().next().unwrap_or_default();
        let read = first_value(in_line).or_else(|error| {
            let may_continue = error.is_eof() && in_line.starts_with('{') && budget > 0;
            if !may_continue {
                return Err(error);
            }
            first_value(rest).map_err(|further| {
                let scanned: usize =
                    rest.lines().take(further.line()).map(|line| line.len() + 1).sum();
                budget = budget.saturating_sub(scanned);
                error
            })
        });
        at = begin;
        match read {
            Ok((item, length)) => {
                at += length;
                items.push(item.repaired_if(json.is_repaired_within(begin..at)));
                line += line_feeds(&text[begin..at]);
            }
            Err(error) => {
                let line_begin = text[..begin].rfind('\n').map_or(0, |line_feed| line_feed + 1);
                items.push(ReadItem::not_json(line, begin - line_begin, &error));
                at += in_line.len();
            }
        }
    }
    items
}

/// The first value of `text`, and its length.
fn first_value(text: &str) -> serde_json::Result<(ReadItem<'_>, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let item = values.next().unwrap_or_else(|| serde_json::from_str(""))?;
    Ok((item, values.byte_offset()))
}

fn is_separator(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n' | ',' | '[' | ']' | '\u{feff}')
}

fn line_feeds(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ITEM: &str = r#"{"programId":"p"}"#;

    /// What becomes of a body: an `o` for each object, else an `x`, or the whole problem.
    fn outcome(body: &str) -> Result<String, String> {
        let json = JsonText::of(body.as_bytes());
        let items = read_items(&json).map_err(|refusal| refusal.to_string())?;
        Ok(items.iter().map(|item| if item.is_object() { 'o' } else { 'x' }).collect())
    }

    fn of(template: &str) -> String {
        template.replace('A', ITEM).replace('P', "{\n \"programId\":\n\"p\"\n}")
    }

    #[test]
    fn reads_what_can_be_read() {
        for (template, expected) in [
            ("[A,A]", "oo"),
            (" [\nA,\nA\n]\n", "oo"),
            ("[]", ""),
            ("[1,A]", "xo"),
            ("A\nA", "oo"),
            ("A\r\n\r\nA\r\n", "oo"),
            ("AA", "oo"),
            ("PA\nP", "ooo"),
            ("A\nnull", "ox"),
            ("A\n1\n\"x\"\n[]\nA", "oxxxo"),
            // Not JSON as a whole.
            ("A\n}\nA", "oxo"),
            ("A\n]\nA", "oo"),
            ("A\n\"cut\nA", "oxo"),
            ("A\n{\nA", "oxo"),
            ("A\n[1,2\nA", "oxxo"),
            ("A\nnope\nA", "oxo"),
            ("A\n# comment\nA", "oxo"),
            ("A,\nA,\n", "oo"),
            ("A,\nA", "oo"),
            ("A\nA,\nA", "ooo"),
            ("nope\nA", "xo"),
            ("# head\nA", "xo"),
            ("null\nA", "xo"),
            ("{\nA\n", "xo"),
            ("A\nnull\n1\n\"x\"\n[]\n# c\nA", "oxxxxo"),
            ("P\nbad\nA", "oxo"),
            ("bad\nP\nA", "xoo"),
            ("AA\nbad\nA", "ooxo"),
            ("A x\nA", "oxo"),
            ("A\n\u{feff}A", "oo"),
            ("A\n\u{feff}A\nbad", "oox"),
            ("[A,\nAx]", "oox"),
            ("[A,A,{\"programId\":\"", "oox"),
            ("[\nA,\n{\"programId\":x},\nA\n]", "oxo"),
            ("[A] []", "o"),
            ("A\n{\"programId\":\"p1\",\"eventType\":\nA", "oxo"),
        ] {
            assert_eq!(outcome(&of(template)).as_deref(), Ok(expected), "{template:?}");
        }
    }

    #[test]
    fn says_what_is_wrong_if_nothing_can_be_read() {
        for (body, problem) in [
            ("", "the body is neither"),
            ("null\n1\n\"x\"", "the body is neither"),
            ("nope", "the body is neither"),
            ("[1,2", "the body is not JSON: EOF while parsing a list at line 1 column 4"),
            ("{\n\"a\":x}", "the body is not JSON: expected value at line 2 column 5"),
        ] {
            let outcome = outcome(body);
            assert!(outcome.as_ref().is_err_and(|text| text.starts_with(problem)), "{outcome:?}");
        }
        let many = vec![ITEM; 501];
        for body in [many.join("\n"), format!("[{}]", many.join(",")), many.join("\nx\n")] {
            assert_eq!(outcome(&body), Err("the batch has more than 500 events".to_owned()));
        }
    }

    #[test]
    fn flags_only_the_items_that_were_repaired() {
        let bad = r#"{"programId":"p","parameters":{"x":"\ud800"}}"#;
        for separator in [",", "\n", ",\nx,\n"] {
            let (open, close) = if separator == "," { ("[", "]") } else { ("", "") };
            let body = format!("{open}{ITEM}{separator}{bad}{separator}{ITEM}{close}");
            let json = JsonText::of(body.as_bytes());
            let items = read_items(&json).unwrap();
            let repaired = items.iter().filter(|item| item.is_object()).map(ReadItem::is_repaired);
            assert_eq!(repaired.collect::<Vec<_>>(), [false, true, false], "{body}");
        }
    }

    #[test]
    fn bounds_the_search_for_the_end_of_objects() {
        let body = "{\"a\":\n".repeat(150_000);
        let started_at = std::time::Instant::now();
        assert!(outcome(&body).is_err());
        // Without a bound it would take minutes.
        assert!(started_at.elapsed() < std::time::Duration::from_secs(20));
    }

    proptest! {
        /// An item on a line of its own is read, whatever the other lines are.
        #[test]
        fn loses_no_line_because_of_another(
            lines in proptest::collection::vec(
                prop_oneof![3 => Just(None), 2 => "[^{\n\r]{0,12}".prop_map(Some)], 1..12,
            ),
        ) {
            let items = lines.iter().filter(|line| line.is_none()).count();
            prop_assume!(items > 0);
            let lines: Vec<_> = lines.iter().map(|line| line.as_deref().unwrap_or(ITEM)).collect();
            let outcome = outcome(&lines.join("\n")).unwrap();
            let read = outcome.chars().filter(|item| *item == 'o').count();
            // An array that is complete is one value.
            prop_assert!(read == items || lines.iter().any(|line| line.contains('[')), "{:?}", lines);
        }
    }
}
