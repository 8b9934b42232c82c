//! `POST /events`: many events in one request.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::ProgramId;
use futures::future::join_all;
use jiff::Timestamp;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::body;
use super::client::client;
use super::state::Public;
use crate::domain::{
    BatchItem, Client, MessageId, Parameters, PreparedProgram, ReadItem, Refusal, TrackingRequest,
};
use crate::http::problem::Problem;
use crate::track::{EventSink, Programs, Tracker};

/// The most events in a batch.
const MAX_EVENTS: usize = 500;
/// The largest body, in bytes, both as received and inflated.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Media types that the body may have. Browsers' `sendBeacon` sends text as `text/plain`, for which a page
/// needs no preflight.
const MEDIA_TYPES: [&str; 5] =
    ["", "application/json", "application/x-ndjson", "application/ndjson", "text/plain"];
/// About the size of an item's result.
const RESULT_BYTES: usize = 70;

/// The programs that a batch names. Each is looked up once.
type FoundPrograms =
    HashMap<ProgramId, Result<Arc<PreparedProgram>, Refusal>, foldhash::fast::RandomState>;

/// An item's request, and its program.
type Found<'a> = (TrackingRequest<'a>, Arc<PreparedProgram>);

/// The results of a batch's items, in their order.
#[derive(Debug, Default)]
struct Results {
    accepted: u64,
    /// Accepted events without a visitor id.
    anonymous: u64,
    refused: u64,
    /// The first refusal that a retry may overcome.
    transient: Option<Refusal>,
    json: String,
}

pub(super) async fn batch<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
) -> Result<HttpResponse, Refusal> {
    if !MEDIA_TYPES.contains(&body::media_type(request).as_str()) {
        return Err(Refusal::UnsupportedMediaType(
            "the body's Content-Type must be application/json, application/x-ndjson or text/plain",
        ));
    }
    let (body, _permit) = public.bodies.read(request, payload, MAX_BODY_BYTES).await?;
    let body = body::decode(request, body, MAX_BODY_BYTES)?;
    let text = str::from_utf8(&body)
        .map_err(|error| Refusal::InvalidBody(format!("the body is not UTF-8: {error}")))?;
    let items: Vec<_> = items(text)?.into_iter().map(BatchItem::of).collect();
    let received_at = Timestamp::now();
    let programs = look_up(&items, public).await;
    let client = client(request, &Parameters::default(), &public.visitors)?;
    let mut requests: Vec<_> = items
        .into_iter()
        .map(|item| to_request(&item?, &client, received_at, &programs, public))
        .collect();
    if !public.visitors.knows(request) && !keeps_new_visitor_id(request, &requests) {
        for (tracking, _) in requests.iter_mut().flatten() {
            tracking.client.visitor_id.clear();
        }
    }

    let mut results = Results::with_room_for(requests.len());
    for request in requests {
        match request.and_then(|(tracking, program)| record(&tracking, program, public)) {
            Ok(recorded) => results.push_accepted(&recorded),
            Err(refusal) => {
                public.metrics.http.record_refusal(&refusal);
                results.push_refused(refusal);
            }
        }
    }
    public.metrics.http.requests_accepted.inc_by(results.accepted);
    let count = u32::try_from(results.accepted + results.refused).unwrap_or(u32::MAX);
    public.metrics.http.events_per_batch.observe(count.into());
    let mut response = results.to_response();
    if results.accepted > 0 && results.anonymous == 0 {
        public.visitors.remember(&client, response.headers_mut());
    }
    Ok(response)
}

/// The items of a JSON array, or of a sequence of JSON values such as NDJSON. The first character tells
/// which it is.
fn items(text: &str) -> Result<Vec<ReadItem<'_>>, Refusal> {
    let malformed =
        |error: serde_json::Error| Refusal::InvalidBody(format!("the body is not JSON: {error}"));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let items = match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => {
            let items = deserializer.deserialize_seq(Items).map_err(malformed)?;
            deserializer.end().map_err(malformed)?;
            items
        }
        Some(b'{') => {
            let mut items = Vec::new();
            for item in deserializer.into_iter() {
                push_bounded(&mut items, item.map_err(malformed)?);
            }
            items
        }
        _ => {
            let problem = "the body is neither a JSON array of events nor NDJSON with one event per \
                           line: expected `[` or `{` at line 1 column 1";
            return Err(Refusal::InvalidBody(problem.to_owned()));
        }
    };
    if items.len() > MAX_EVENTS {
        return Err(Refusal::PayloadTooLarge(format!(
            "the batch has more than {MAX_EVENTS} events"
        )));
    }
    Ok(items)
}

/// Keeps at most one item more than allowed, so that a body of many small values takes little memory.
fn push_bounded<'a>(items: &mut Vec<ReadItem<'a>>, item: ReadItem<'a>) {
    if items.len() <= MAX_EVENTS {
        items.push(item);
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<ReadItem<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            push_bounded(&mut items, item);
        }
        Ok(items)
    }
}

async fn look_up<P: Programs, S: EventSink>(
    items: &[Result<BatchItem<'_>, Refusal>],
    public: &Public<P, S>,
) -> FoundPrograms {
    let mut programs = FoundPrograms::default();
    for item in items.iter().flatten() {
        if !programs.contains_key(&item.program_id) {
            programs.insert(item.program_id.clone(), Err(Refusal::CoreDataUnavailable));
        }
    }
    let look_ups = programs.iter_mut().map(|(id, found)| async {
        *found = public.tracker.program(id).await;
    });
    join_all(look_ups).await;
    programs
}

/// An event that was recorded.
struct Recorded {
    message_id: MessageId,
    is_valid: bool,
    has_visitor: bool,
}

/// Turns an item into a request, and finds its program.
fn to_request<'a, P: Programs, S: EventSink>(
    item: &BatchItem<'a>,
    client: &Client<'a>,
    received_at: Timestamp,
    programs: &FoundPrograms,
    public: &Public<P, S>,
) -> Result<Found<'a>, Refusal> {
    let program = match programs.get(&item.program_id) {
        Some(Ok(program)) => program,
        Some(Err(refusal)) => return Err(refusal.clone()),
        None => return Err(Refusal::CoreDataUnavailable),
    };
    let vendor = public.visitors.tcf_vendor_id;
    let request = item.to_request(client, vendor, received_at, |claim| {
        public.conversions.authorize(claim, &item.program_id, program)
    })?;
    Ok((request, Arc::clone(program)))
}

/// Whether the sender will keep the id of a new visitor. That takes a browser, which names its origin
/// (Fetch, section 3.2) or its mode (Fetch Metadata), and a batch in which no item objects or belongs to
/// somebody else. Otherwise the rows would have the id of a visitor who does not exist.
fn keeps_new_visitor_id(request: &HttpRequest, requests: &[Result<Found<'_>, Refusal>]) -> bool {
    let headers = request.headers();
    (headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-mode"))
        && requests.iter().flatten().all(|(tracking, _)| !tracking.client.visitor_id.is_empty())
}

fn record<P: Programs, S: EventSink>(
    request: &TrackingRequest<'_>,
    program: Arc<PreparedProgram>,
    public: &Public<P, S>,
) -> Result<Recorded, Refusal> {
    let event = Tracker::<P, S>::validate_for(request, program)?;
    public.tracker.record(&event)?;
    Ok(Recorded {
        message_id: event.message_id,
        is_valid: event.validity.is_ok(),
        has_visitor: !request.client.visitor_id.is_empty(),
    })
}

impl Results {
    fn with_room_for(items: usize) -> Self {
        Self { json: String::with_capacity(items * RESULT_BYTES), ..Self::default() }
    }

    fn push_accepted(&mut self, event: &Recorded) {
        self.push_separator();
        self.accepted += 1;
        self.anonymous += u64::from(!event.has_visitor);
        self.json.push_str(r#"{"messageId":""#);
        self.json.push_str(&event.message_id);
        self.json.push_str(if event.is_valid {
            r#"","valid":true}"#
        } else {
            r#"","valid":false}"#
        });
    }

    fn push_refused(&mut self, refusal: Refusal) {
        self.push_separator();
        self.refused += 1;
        let problem = Problem::from(refusal.clone());
        // Writing to a string cannot fail.
        let _ = write!(self.json, r#"{{"problem":{}}}"#, problem.to_json());
        if self.transient.is_none() && problem.status() == StatusCode::SERVICE_UNAVAILABLE {
            self.transient = Some(refusal);
        }
    }

    fn push_separator(&mut self) {
        if self.accepted + self.refused > 0 {
            self.json.push(',');
        }
    }

    /// 200 if all items were accepted, else 207. 503 if none was accepted and a retry may help, so that a
    /// client that looks at nothing but the status sends the batch again.
    fn to_response(&self) -> HttpResponse {
        if let (0, Some(refusal)) = (self.accepted, &self.transient) {
            return Problem::from(refusal.clone()).to_response();
        }
        let status = if self.refused == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
        let (accepted, refused, results) = (self.accepted, self.refused, &self.json);
        HttpResponse::build(status)
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(format!(r#"{{"accepted":{accepted},"refused":{refused},"results":[{results}]}}"#))
    }
}
