//! Compares the rows of the table with what was sent. Pure.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::requests::{Event, Kind, Outcome, user_agent};

pub type Row = HashMap<String, AttributeValue>;

/// What is wrong with the rows.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Events that were accepted and are not there (yet).
    pub missing: Vec<String>,
    /// What will not become right.
    pub wrong: Vec<String>,
}

/// Judges `rows`. All events from number `first` on have to be there; rows of earlier ones, which were judged
/// before, may come again. `is_fed` says whether a program ever had a name.
pub fn judge(
    events: &BTreeMap<u64, Event>,
    rows: &[Row],
    first: u64,
    is_fed: impl Fn(u64, &str) -> bool,
) -> Verdict {
    let mut verdict = Verdict::default();
    // By the number of the first request for the event.
    let mut rows_of = HashMap::<u64, Vec<&str>>::new();
    for row in rows {
        let id = text(row, "id");
        let Some((number, event)) = number(row).and_then(|number| events.get_key_value(&number))
        else {
            verdict.wrong.push(format!("row {id} belongs to no request"));
            continue;
        };
        rows_of.entry(event.first).or_default().push(id);
        if event.outcome == Outcome::Refused {
            verdict
                .wrong
                .push(format!("row {id} of request {number}, which was refused: {event:?}"));
        }
        for name in altered_attributes(row, *number, event, &is_fed) {
            let value = row.get(name);
            verdict.wrong.push(format!("row {id} of {event:?} is altered: {name} is {value:?}"));
        }
    }
    for (first, ids) in rows_of.iter().filter(|(_, ids)| ids.len() > 1) {
        verdict
            .wrong
            .push(format!("{} rows of request {first} and its repeats: {ids:?}", ids.len()));
    }
    for (number, event) in events.range(first..) {
        let Outcome::Accepted { id, .. } = &event.outcome else { continue };
        match (rows_of.get(&event.first), id) {
            (None, _) => verdict.missing.push(format!("request {number}: {event:?}")),
            (Some(ids), Some(id)) if !ids.contains(&id.as_str()) => {
                verdict
                    .wrong
                    .push(format!("the row of request {number} has the id {ids:?}: {event:?}"));
            }
            (Some(_), _) => {}
        }
    }
    verdict
}

fn number(row: &Row) -> Option<u64> {
    row.get("parameters")?.as_m().ok()?.get("n")?.as_s().ok()?.parse().ok()
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(|value| value.as_s().ok()).map_or("", String::as_str)
}

/// The attributes of the row that are not what the request said.
fn altered_attributes(
    row: &Row,
    number: u64,
    event: &Event,
    is_fed: impl Fn(u64, &str) -> bool,
) -> Vec<&'static str> {
    let s = |text: String| Some(AttributeValue::S(text));
    let n = |number: u64| Some(AttributeValue::N(number.to_string()));
    let parameters = HashMap::from([("n".to_owned(), AttributeValue::S(number.to_string()))]);
    let is_conversion = event.kind == Kind::Conversion;
    let of_conversion = |value: String| if is_conversion { s(value) } else { None };
    let client_event_id = event.has_client_id && !is_conversion;
    let expected = [
        ("message_id", s(text(row, "id").to_owned())),
        ("program_id", s(event.program_id())),
        ("checksum", s("c".to_owned())),
        ("customer_id", n(event.program)),
        ("customer_name", s("customer".to_owned())),
        ("user_agent", s(user_agent(number))),
        ("is_valid", Some(AttributeValue::Bool(true))),
        ("event_type", s(event.kind.name().to_owned())),
        ("parameters", Some(AttributeValue::M(parameters))),
        ("client_event_id", if client_event_id { s(event.client_id()) } else { None }),
        ("transaction_id", of_conversion(event.client_id())),
        ("event_name", of_conversion("sale".to_owned())),
        ("currency", of_conversion("EUR".to_owned())),
        ("amount_micros", if is_conversion { n(event.amount_micros()) } else { None }),
    ];
    let differs = |(name, value): &(&'static str, _)| row.get(*name) != Option::as_ref(value);
    let mut altered: Vec<_> =
        expected.iter().filter(|it| differs(it)).map(|(name, _)| *name).collect();
    let program_name = text(row, "program_name");
    let in_response = match &event.outcome {
        Outcome::Accepted { program_name: Some(name), .. } => Some(name.as_str()),
        _ => None,
    };
    // Of a repeat, the row has what was true at the first request.
    let is_as_in_response =
        event.has_client_id || in_response.is_none_or(|name| name == program_name);
    if !is_fed(event.program, program_name) || !is_as_in_response {
        altered.push("program_name");
    }
    altered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(first: u64, id: &str) -> Event {
        let outcome = Outcome::Accepted { id: Some(id.to_owned()), program_name: None };
        Event { first, kind: Kind::Event, program: 3, has_client_id: true, outcome }
    }

    fn row(id: &str, number: u64, first: u64) -> Row {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let number = number.to_string();
        let attributes = [
            ("id", s(id)),
            ("message_id", s(id)),
            ("program_id", s("p3")),
            ("program_name", s("p3 v1")),
            ("checksum", s("c")),
            ("customer_id", AttributeValue::N("3".to_owned())),
            ("customer_name", s("customer")),
            ("user_agent", s(&format!("agent {number}"))),
            ("is_valid", AttributeValue::Bool(true)),
            ("event_type", s("event")),
            ("client_event_id", s(&format!("client-{first}"))),
            ("parameters", AttributeValue::M(HashMap::from([("n".to_owned(), s(&number))]))),
        ];
        attributes.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Judges `rows` of request 7, which has the id `a`, and its repeat 8, with `outcome`.
    fn judge_request_7(rows: &[Row], outcome: Outcome) -> (usize, Vec<String>) {
        let repeat = Event { outcome, ..accepted(7, "a") };
        let events = BTreeMap::from([(7, accepted(7, "a")), (8, repeat)]);
        let verdict = judge(&events, rows, 7, |program, name| (program, name) == (3, "p3 v1"));
        (verdict.missing.len(), verdict.wrong)
    }

    #[test]
    fn accepts_one_row_for_an_event_and_its_repeats() {
        for number in [7, 8] {
            let found = judge_request_7(&[row("a", number, 7)], Outcome::Unknown);
            assert_eq!(found, (0, vec![]), "the row of {number}");
        }
    }

    #[test]
    fn finds_a_lost_event() {
        assert_eq!(judge_request_7(&[], Outcome::Unknown), (1, vec![]));
    }

    #[test]
    fn finds_what_is_wrong() {
        let mut altered = row("a", 7, 7);
        altered.insert("checksum".to_owned(), AttributeValue::S("d".to_owned()));
        let mut renamed = row("a", 7, 7);
        renamed.insert("program_name".to_owned(), AttributeValue::S("p3 v2".to_owned()));
        for (rows, outcome, problem) in [
            (vec![row("a", 7, 7), row("b", 8, 7)], Outcome::Unknown, "2 rows"),
            (vec![row("a", 8, 7)], Outcome::Refused, "which was refused"),
            (vec![row("b", 7, 7)], Outcome::Unknown, "has the id"),
            (vec![row("a", 7, 7), row("c", 9, 9)], Outcome::Unknown, "belongs to no request"),
            (vec![altered], Outcome::Unknown, "checksum"),
            (vec![renamed], Outcome::Unknown, "program_name"),
        ] {
            let (_, wrong) = judge_request_7(&rows, outcome);
            assert!(wrong.len() == 1 && wrong[0].contains(problem), "{problem}: {wrong:?}");
        }
    }
}
