//! The requests of the load, drawn at random. Pure.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use crate::feed::PROGRAMS;

/// Requests that are always refused, on a program that exists.
const INVALID: [&str; 5] = [
    "event/p0?checksum=wrong",
    "event/bad%20id?a=b",
    "click/p0?url=https://elsewhere.example/",
    "conversion/p0?amount=much&currency=EUR",
    "conversion/p0?amount=1&currency=EUR&click_id=no-uuid",
];
const LARGEST_BATCH: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Event,
    Impression,
    Click,
    Conversion,
}

/// What a request says of the one event that it asks for. Its number is among the event's parameters.
#[derive(Debug, Clone)]
pub struct Event {
    /// Number of the first request for the same event. Those that follow are repeats, by the client's own id.
    pub first: u64,
    pub kind: Kind,
    pub program: u64,
    /// Whether it carries an id of the client's own.
    pub has_client_id: bool,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No response (yet): it may be recorded.
    Unknown,
    /// Recorded. Id and program name are what the response says, as far as it was received.
    Accepted { id: Option<String>, program_name: Option<String> },
    /// Not recorded.
    Refused,
}

#[derive(Debug, Clone)]
pub enum Request {
    Single(u64, Event),
    Head(u64, Event),
    Batch(Vec<(u64, Event)>),
    /// One of [`INVALID`].
    Invalid(u64, usize),
    /// Of a program that does not exist.
    UnknownProgram(u64, Event),
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Impression => "impression",
            Self::Click => "click",
            Self::Conversion => "conversion",
        }
    }
}

impl Event {
    fn new(first: u64, kind: Kind, program: u64) -> Self {
        let has_client_id = kind == Kind::Conversion;
        Self { first, kind, program, has_client_id, outcome: Outcome::Unknown }
    }

    pub fn program_id(&self) -> String {
        format!("p{}", self.program)
    }

    /// The client's own id, the same in all repeats.
    pub fn client_id(&self) -> String {
        format!("client-{}", self.first)
    }

    /// The amount of a conversion, the same in all repeats.
    pub fn amount(&self) -> String {
        format!("{}.50", self.first % 1_000)
    }

    pub fn amount_micros(&self) -> u64 {
        self.first % 1_000 * 1_000_000 + 500_000
    }

    /// An event drawn at random, or a repeat of one of `repeatable`.
    fn draw(rng: &mut fastrand::Rng, number: u64, repeatable: &mut Vec<Self>) -> Self {
        if !repeatable.is_empty() && rng.u8(0..5) == 0 {
            return repeatable[rng.usize(0..repeatable.len())].clone();
        }
        let kinds = [Kind::Event, Kind::Event, Kind::Impression, Kind::Click, Kind::Conversion];
        let kind = kinds[rng.usize(0..kinds.len())];
        let mut event = Self::new(number, kind, rng.u64(0..PROGRAMS));
        event.has_client_id |= kind != Kind::Click && rng.u8(0..4) == 0;
        if event.has_client_id {
            repeatable.push(event.clone());
        }
        event
    }
}

impl Request {
    /// Draws a request. Takes a number for each of its events from `number` on.
    pub fn draw(rng: &mut fastrand::Rng, number: &mut u64, repeatable: &mut Vec<Event>) -> Self {
        let first = *number;
        *number += 1;
        match rng.u8(0..20) {
            0 => Self::Head(first, Event::new(first, Kind::Event, rng.u64(0..PROGRAMS))),
            1 => Self::Invalid(first, rng.usize(0..INVALID.len())),
            2 => Self::UnknownProgram(first, Event::new(first, Kind::Event, PROGRAMS)),
            3..=4 => {
                *number = first + rng.u64(1..=LARGEST_BATCH);
                let draw = |number| (number, Event::draw(rng, number, repeatable));
                Self::Batch((first..*number).map(draw).collect())
            }
            _ => Self::Single(first, Event::draw(rng, first, repeatable)),
        }
    }

    pub fn event(number: u64, program: u64) -> Self {
        Self::Single(number, Event::new(number, Kind::Event, program))
    }

    /// Its events, by number.
    pub fn events(&self) -> Vec<(u64, Event)> {
        match self {
            Self::Single(number, event)
            | Self::Head(number, event)
            | Self::UnknownProgram(number, event) => vec![(*number, event.clone())],
            Self::Batch(events) => events.clone(),
            Self::Invalid(number, _) => vec![(*number, Event::new(*number, Kind::Event, 0))],
        }
    }

    /// Whether its events are recorded if it succeeds.
    pub fn is_recorded(&self) -> bool {
        !matches!(self, Self::Head(..))
    }

    /// The program of its first event.
    pub fn program(&self) -> u64 {
        self.events().first().map_or(0, |(_, event)| event.program)
    }

    pub fn builder(&self, client: &Client, url: &str) -> RequestBuilder {
        match self {
            Self::Single(number, event) | Self::UnknownProgram(number, event) => {
                get(client, url, *number, event)
            }
            Self::Head(number, event) => {
                client.head(format!("{url}/event/{}?n={number}", event.program_id()))
            }
            Self::Batch(events) => {
                let post = client.post(format!("{url}/events")).body(batch(events));
                post.header("content-type", "application/json")
            }
            Self::Invalid(number, which) => {
                client.get(format!("{url}/{}&n={number}", INVALID[*which]))
            }
        }
    }
}

fn get(client: &Client, url: &str, number: u64, event: &Event) -> RequestBuilder {
    let mut url = format!("{url}/{}/{}?n={number}", event.kind.name(), event.program_id());
    let id = event.client_id();
    if event.kind == Kind::Conversion {
        let amount = event.amount();
        url += &format!("&transaction_id={id}&event_name=sale&amount={amount}&currency=EUR");
    } else if event.has_client_id {
        url += &format!("&at_event_id={id}");
    }
    client.get(url).header("user-agent", user_agent(number))
}

/// The items of a batch as `POST /events` takes them.
pub fn batch(events: &[(u64, Event)]) -> String {
    let items = events.iter().map(|(number, event)| {
        let mut item = json!({"programId": event.program_id(), "eventType": event.kind.name(),
            "userAgent": user_agent(*number), "parameters": {"n": number.to_string()}});
        if event.kind == Kind::Conversion {
            item["transactionId"] = event.client_id().into();
            item["eventName"] = "sale".into();
            item["amount"] = event.amount().into();
            item["currency"] = "EUR".into();
        } else if event.has_client_id {
            item["eventId"] = event.client_id().into();
        }
        item
    });
    Value::from_iter(items).to_string()
}

pub fn user_agent(number: u64) -> String {
    format!("agent {number}")
}
