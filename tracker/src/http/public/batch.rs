//! `POST /events`: many events in one request.

use std::borrow::Cow;
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
use super::endpoint::Recording;
use super::state::{Public, REPAIRED};
use super::validation;
use crate::domain::{
    BatchItem, Client, MessageId, Parameters, PreparedProgram, ReadItem, Refusal, Repairs,
    TrackedEvent, TrackingRequest,
};
use crate::http::problem::Problem;
use crate::track::{EventSink, Programs, Tracker};

/// The maximum number of events in a batch.
const MAX_EVENTS: usize = 500;
/// The maximum size of a body in bytes, both as received and inflated.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Media types that the body may have. Browsers' `sendBeacon` sends text as `text/plain`, for which a page
/// needs no preflight.
const MEDIA_TYPES: [&str; 5] =
    ["", "application/json", "application/x-ndjson", "application/ndjson", "text/plain"];
/// About the size of an item's result.
const RESULT_BYTES: usize = 70;

/// The programs that a batch names, or why there is none. Each is looked up once.
type Lookups =
    HashMap<ProgramId, Result<Arc<PreparedProgram>, Refusal>, foldhash::fast::RandomState>;

/// What an item of a batch asks to record.
struct ItemRequest<'a> {
    tracking: TrackingRequest<'a>,
    program: Arc<PreparedProgram>,
}

/// The results of a batch's items, in their order.
#[derive(Debug, Default)]
struct Results {
    accepted: u64,
    /// Accepted events without a visitor id.
    anonymous: u64,
    refused: u64,
    /// The first refusal that a retry may overcome.
    transient: Option<Refusal>,
    /// What was repaired in accepted events.
    repairs: Repairs,
    json: String,
}

pub(super) async fn batch<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    recording: Recording,
    public: &Public<P, S>,
) -> Result<HttpResponse, Refusal> {
    if !MEDIA_TYPES.contains(&body::media_type(request).as_str()) {
        return Err(Refusal::UnsupportedMediaType(
            "the body's Content-Type must be application/json, application/x-ndjson, application/ndjson or \
             text/plain",
        ));
    }
    let (body, _permit) = public.bodies.read(request, payload, MAX_BODY_BYTES).await?;
    let body = body::decode(request, body, MAX_BODY_BYTES)?;
    let body = body::without_byte_order_mark(&body);
    let text = body::json_text(body);
    let is_repaired = matches!(text, Cow::Owned(_));
    let items: Vec<_> = read_items(&text)?.into_iter().map(BatchItem::of).collect();
    let received_at = Timestamp::now();
    let lookups = look_up(&items, public).await;
    let client = client(request, &Parameters::default(), &public.visitors)?;
    let mut requests: Vec<_> = items
        .into_iter()
        .map(|item| to_request(&item?, &client, received_at, &lookups, public))
        .collect();
    if is_repaired {
        for item in requests.iter_mut().flatten() {
            item.tracking.parameters.repairs.insert(Repairs::NOT_UTF8);
        }
    }
    if !public.visitors.has_cookie(request) && !stores_new_visitor_id(request, &requests) {
        clear_visitor_ids(&mut requests);
    }

    let mut results = Results::with_room_for(requests.len());
    if recording.is_validation() {
        for item in requests {
            results.push_validated(item);
        }
        return Ok(results.to_response());
    }
    for item in requests {
        match item.and_then(|item| record_item(&item.tracking, item.program, public)) {
            Ok(recorded) => results.push_accepted(&recorded),
            Err(refusal) => {
                public.metrics.http.count_refusal(&refusal);
                results.push_refused(refusal);
            }
        }
    }
    public.metrics.http.requests_accepted.inc_by(results.accepted);
    let count = u32::try_from(results.accepted + results.refused).unwrap_or(u32::MAX);
    public.metrics.http.events_per_batch.observe(count.into());
    let mut response = results.to_response();
    if results.accepted > 0 && results.anonymous == 0 {
        public.visitors.set_cookie(&client, response.headers_mut());
    }
    Ok(response)
}

/// The items of a JSON array, or of a sequence of JSON values such as NDJSON. The first character decides
/// which of them. If a line of NDJSON is not JSON, the others are read all the same.
fn read_items(text: &str) -> Result<Vec<ReadItem<'_>>, Refusal> {
    match items(text) {
        Err(Refusal::InvalidBody(_)) if is_ndjson(text) => lines(text),
        read => read,
    }
}

/// Whether `text` has an event per line. If its values extend over several lines instead, nobody knows where
/// the next one begins.
fn is_ndjson(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
    lines.next().is_some_and(|first| first.starts_with('{') && !first.ends_with(['{', '[', ',']))
        && lines.all(|line| !line.starts_with(['"', '}', ']']))
}

fn lines(text: &str) -> Result<Vec<ReadItem<'_>>, Refusal> {
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if !line.trim_ascii().is_empty() {
            push_bounded(&mut items, ReadItem::of_line(line, number + 1));
        }
    }
    check_count(items)
}

fn check_count(items: Vec<ReadItem<'_>>) -> Result<Vec<ReadItem<'_>>, Refusal> {
    if items.len() > MAX_EVENTS {
        return Err(Refusal::PayloadTooLarge(format!(
            "the batch has more than {MAX_EVENTS} events"
        )));
    }
    Ok(items)
}

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
    check_count(items)
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
) -> Lookups {
    let mut lookups = Lookups::default();
    for item in items.iter().flatten() {
        if !lookups.contains_key(&item.program_id) {
            lookups.insert(item.program_id.clone(), Err(Refusal::CoreDataUnavailable));
        }
    }
    let pending = lookups.iter_mut().map(|(id, found)| async {
        *found = public.tracker.program(id).await;
    });
    join_all(pending).await;
    lookups
}

/// An event that was recorded.
struct Recorded {
    message_id: MessageId,
    is_valid: bool,
    has_visitor: bool,
    repairs: Repairs,
}

/// Turns an item into a request on the program that was looked up for it.
fn to_request<'a, P: Programs, S: EventSink>(
    item: &BatchItem<'a>,
    client: &Client<'a>,
    received_at: Timestamp,
    lookups: &Lookups,
    public: &Public<P, S>,
) -> Result<ItemRequest<'a>, Refusal> {
    let program = match lookups.get(&item.program_id) {
        Some(Ok(program)) => program,
        Some(Err(refusal)) => return Err(refusal.clone()),
        None => return Err(Refusal::CoreDataUnavailable),
    };
    let vendor = public.visitors.tcf_vendor_id;
    let aliases = &program.status_aliases;
    let tracking = item.to_request(client, vendor, received_at, aliases, |claim| {
        public.conversions.authorize(claim, &item.program_id, program)
    })?;
    Ok(ItemRequest { tracking, program: Arc::clone(program) })
}

/// Whether the sender will store the id of a new visitor: it is a browser (it sends `Origin`, Fetch, section
/// 3.2, or Fetch Metadata), and no item of the batch objects to tracking or belongs to another client. If it
/// does not store the id, the rows must not have it: nobody would ever send it again.
fn stores_new_visitor_id(
    request: &HttpRequest,
    requests: &[Result<ItemRequest<'_>, Refusal>],
) -> bool {
    let headers = request.headers();
    (headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-mode"))
        && requests.iter().flatten().all(|item| !item.tracking.client.visitor_id.is_empty())
}

fn clear_visitor_ids(requests: &mut [Result<ItemRequest<'_>, Refusal>]) {
    for item in requests.iter_mut().flatten() {
        item.tracking.client.visitor_id.clear();
    }
}

fn record_item<P: Programs, S: EventSink>(
    tracking: &TrackingRequest<'_>,
    program: Arc<PreparedProgram>,
    public: &Public<P, S>,
) -> Result<Recorded, Refusal> {
    let event = Tracker::<P, S>::validate(tracking, program)?;
    public.tracker.record(&event)?;
    if !event.repairs().is_empty() {
        public.count_repairs(&event);
    }
    Ok(Recorded {
        repairs: event.repairs(),
        message_id: event.message_id,
        is_valid: event.validity_outcome.is_ok(),
        has_visitor: !tracking.client.visitor_id.is_empty(),
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
        self.json.push_str(if event.is_valid { r#"","valid":true"# } else { r#"","valid":false"# });
        if !event.repairs.is_empty() {
            self.push_repairs(event.repairs);
        }
        self.json.push('}');
    }

    fn push_repairs(&mut self, repairs: Repairs) {
        self.repairs.insert(repairs);
        // Writing to a string cannot fail. Nothing in it has to be escaped.
        let _ = write!(self.json, r#","repaired":"{}""#, repairs.header());
    }

    /// Adds what would be recorded of an item.
    fn push_validated(&mut self, item: Result<ItemRequest<'_>, Refusal>) {
        let validated = item.and_then(|item| {
            let event = TrackedEvent::new(&item.tracking, item.program, rand::random())?;
            Ok((validation::description(&event), event.repairs()))
        });
        match validated {
            Ok((json, repairs)) => {
                self.push_separator();
                self.accepted += 1;
                self.repairs.insert(repairs);
                self.json.push_str(&json.to_string());
            }
            Err(refusal) => self.push_refused(refusal),
        }
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
    /// client that looks only at the status sends the batch again.
    fn to_response(&self) -> HttpResponse {
        if let (0, Some(refusal)) = (self.accepted, &self.transient) {
            return Problem::from(refusal.clone()).to_response();
        }
        let status = if self.refused == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
        let (accepted, refused, results) = (self.accepted, self.refused, &self.json);
        let mut response = HttpResponse::build(status);
        response
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CACHE_CONTROL, "no-store"));
        if !self.repairs.is_empty() {
            response.insert_header((REPAIRED, self.repairs.header()));
        }
        response
            .body(format!(r#"{{"accepted":{accepted},"refused":{refused},"results":[{results}]}}"#))
    }
}
