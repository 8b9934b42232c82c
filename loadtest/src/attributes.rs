//! What an event's row has to hold, as far as the event's request says it. Pure.
//!
//! Requests and rows are compared by digests: a run may have millions of events.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;
use url::form_urlencoded;

/// The tracker cuts longer user agents.
const MAX_USER_AGENT_BYTES: usize = 512;
const MAX_HEADERS: usize = 64;
/// Digits of an amount after the point.
const AMOUNT_DIGITS: usize = 6;

/// The attributes of a row that a request decides. A text that the row does not have is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Attributes<'a> {
    /// `event`, `impression`, `click` or `conversion`.
    pub event_type: Cow<'a, str>,
    /// Program.
    pub program_id: Cow<'a, str>,
    /// User agent.
    pub user_agent: Cow<'a, str>,
    /// Transaction of a conversion.
    pub transaction_id: Cow<'a, str>,
    /// Amount of a conversion, in millionths.
    pub amount_micros: Option<i64>,
    /// Its currency.
    pub currency: Cow<'a, str>,
}

impl Attributes<'_> {
    /// A digest that is equal for equal attributes, and never 0.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish().max(1)
    }
}

/// The digests of the rows that a request's events have to become, in the events' order; 0 for an event whose
/// attributes are not known.
pub fn expected(request: &[u8]) -> Vec<u64> {
    attributes(request).into_iter().map(|event| event.map_or(0, |event| event.digest())).collect()
}

fn attributes(request: &[u8]) -> Vec<Option<Attributes<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(head)) = parsed.parse(request) else { return vec![None] };
    let header = |name: &str| {
        let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| str::from_utf8(header.value).ok()).unwrap_or_default()
    };
    let user_agent = header("user-agent");
    let body = &request[head..];
    let (path, query) = parsed
        .path
        .unwrap_or_default()
        .split_once('?')
        .unwrap_or((parsed.path.unwrap_or_default(), ""));
    if user_agent.len() > MAX_USER_AGENT_BYTES {
        return vec![None];
    }
    match path.trim_start_matches('/').split_once('/') {
        None if path == "/events" => of_batch(body, user_agent),
        Some((event_type, program)) => {
            let is_form = header("content-type").starts_with("application/x-www-form-urlencoded");
            let form = if is_form { body } else { b"" };
            vec![of_parameters(event_type, program, user_agent, query.as_bytes(), form)]
        }
        None => vec![None],
    }
}

fn of_parameters<'a>(
    event_type: &'a str,
    program: &'a str,
    user_agent: &'a str,
    query: &'a [u8],
    form: &'a [u8],
) -> Option<Attributes<'a>> {
    let program_id = match event_type {
        "event" | "click" => program,
        "impression" | "conversion" => program.strip_suffix(".gif").unwrap_or(program),
        _ => return None,
    };
    let mut event = Attributes {
        event_type: event_type.into(),
        program_id: program_id.into(),
        user_agent: user_agent.into(),
        ..Attributes::default()
    };
    if event_type == "conversion" {
        let pairs: Vec<_> =
            form_urlencoded::parse(query).chain(form_urlencoded::parse(form)).collect();
        let value = |name: &str| {
            let pair = pairs.iter().find(|(other, value)| other == name && !value.is_empty());
            pair.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        event.set_sale(
            value("transaction_id"),
            &value("amount"),
            &value("currency"),
            &value("status"),
        )?;
    }
    Some(event)
}

/// A member of a batch's item: a text, or the JSON of another value.
type Member<'a> = Option<&'a RawValue>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Item<'a> {
    #[serde(borrow)]
    program_id: Member<'a>,
    #[serde(borrow)]
    event_type: Member<'a>,
    #[serde(borrow)]
    user_agent: Member<'a>,
    #[serde(borrow)]
    transaction_id: Member<'a>,
    #[serde(borrow)]
    amount: Member<'a>,
    #[serde(borrow)]
    currency: Member<'a>,
    #[serde(borrow)]
    status: Member<'a>,
}

fn of_batch<'a>(body: &'a [u8], user_agent: &'a str) -> Vec<Option<Attributes<'a>>> {
    let items: Vec<Item<'_>> = serde_json::from_slice(body).unwrap_or_default();
    items.iter().map(|item| of_item(item, user_agent)).collect()
}

fn of_item<'a>(item: &Item<'a>, user_agent: &'a str) -> Option<Attributes<'a>> {
    let of_the_client = text(item.user_agent);
    let mut event = Attributes {
        event_type: match text(item.event_type) {
            given if given.is_empty() => "event".into(),
            given => given,
        },
        program_id: text(item.program_id),
        user_agent: if of_the_client.is_empty() { user_agent.into() } else { of_the_client },
        ..Attributes::default()
    };
    if event.event_type == "conversion" {
        let (amount, currency, status) =
            (text(item.amount), text(item.currency), text(item.status));
        event.set_sale(text(item.transaction_id), &amount, &currency, &status)?;
    }
    Some(event)
}

/// A text without its quotes, or a number as it is written; empty for null.
fn text<'a>(member: Member<'a>) -> Cow<'a, str> {
    match member.map(RawValue::get) {
        None | Some("null") => Cow::Borrowed(""),
        Some(json) if json.starts_with('"') => {
            serde_json::from_str(json).map_or(Cow::Borrowed(""), Cow::Owned)
        }
        Some(json) => Cow::Borrowed(json),
    }
}

impl<'a> Attributes<'a> {
    /// Adds what is of conversions only; `None` if it is not certain what the tracker makes of it.
    fn set_sale(
        &mut self,
        transaction_id: Cow<'a, str>,
        amount: &str,
        currency: &str,
        status: &str,
    ) -> Option<()> {
        self.transaction_id = transaction_id;
        self.currency = currency.to_owned().into();
        if !amount.is_empty() {
            let micros = micros(amount)?;
            self.amount_micros = Some(if status == "refunded" { -micros.abs() } else { micros });
        }
        Some(())
    }
}

/// Millionths of a decimal number such as `-19.90`; `None` if it is written in another way.
fn micros(amount: &str) -> Option<i64> {
    let (sign, digits) = amount.strip_prefix('-').map_or((1, amount), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || fraction.len() > AMOUNT_DIGITS
        || !all_digits(whole)
        || !all_digits(fraction)
    {
        return None;
    }
    let micros: i64 = format!("{whole}{fraction:0<AMOUNT_DIGITS$}").parse().ok()?;
    Some(sign * micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &str, body: &str) -> Vec<Option<Attributes<'static>>> {
        let request = format!("{head}\r\nUser-Agent: a run/1\r\n\r\n{body}").leak();
        attributes(request.as_bytes())
    }

    fn event(event_type: &str, program_id: &str) -> Attributes<'static> {
        Attributes {
            event_type: event_type.to_owned().into(),
            program_id: program_id.to_owned().into(),
            user_agent: "a run/1".into(),
            ..Attributes::default()
        }
    }

    fn sale(transaction_id: &str, amount_micros: i64) -> Attributes<'static> {
        Attributes {
            transaction_id: transaction_id.to_owned().into(),
            amount_micros: Some(amount_micros),
            currency: "EUR".into(),
            ..event("conversion", "p")
        }
    }

    #[test]
    fn reads_the_event_of_each_endpoint() {
        for (path, expected) in [
            ("/event/p-1?transaction_id=x", event("event", "p-1")),
            ("/impression/p.gif", event("impression", "p")),
            ("/click/p?impression_id=1", event("click", "p")),
            (
                "/conversion/p.gif?transaction_id=t%201&amount=19.90&currency=EUR",
                sale("t 1", 19_900_000),
            ),
            (
                "/conversion/p?transaction_id=t&amount=5&currency=EUR&status=refunded",
                sale("t", -5_000_000),
            ),
        ] {
            assert_eq!(of(&format!("GET {path} HTTP/1.1"), ""), [Some(expected)], "{path}");
        }
        let form = "POST /conversion/p HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
        let body = "transaction_id=t&amount=0.000001&currency=EUR";
        assert_eq!(of(form, body), [Some(sale("t", 1))]);
    }

    #[test]
    fn reads_every_event_of_a_batch() {
        let body = r#"[{"programId":"p"},{"programId":"p","eventType":"conversion","transactionId":7,"amount":"-2.5","currency":"EUR"}]"#;
        let expected = [Some(event("event", "p")), Some(sale("7", -2_500_000))];
        assert_eq!(of("POST /events HTTP/1.1", body), expected);
    }

    #[test]
    fn expects_nothing_of_what_it_does_not_know() {
        for path in ["/other/p", "/", "/conversion/p?amount=1e2", "/conversion/p?amount=.5"] {
            assert_eq!(of(&format!("GET {path} HTTP/1.1"), ""), [None], "{path}");
        }
        assert_eq!(expected(b"GET /x"), [0]);
        let long = format!("GET /event/p HTTP/1.1\r\nUser-Agent: {}\r\n\r\n", "x".repeat(513));
        assert_eq!(expected(long.as_bytes()), [0]);
    }

    #[test]
    fn every_attribute_counts() {
        let mut digests = vec![sale("t", 1).digest()];
        for other in [
            Attributes { event_type: "click".into(), ..sale("t", 1) },
            Attributes { program_id: "q".into(), ..sale("t", 1) },
            Attributes { user_agent: "b".into(), ..sale("t", 1) },
            Attributes { amount_micros: None, ..sale("t", 1) },
            Attributes { currency: "USD".into(), ..sale("t", 1) },
            sale("u", 1),
            sale("t", 2),
        ] {
            digests.push(other.digest());
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 8);
    }
}
