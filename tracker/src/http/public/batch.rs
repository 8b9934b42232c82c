//! `POST /events`: many events in one request.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::ProgramId;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::body::{self, MediaType};
use super::client::client;
use super::endpoint::Recording;
use super::fault_shares::TrafficKind;
use super::state::{Public, REPAIRED};
use super::validation;
use crate::domain::json::JsonText;
use crate::domain::{
    BatchItem, Client, MessageId, Parameters, PreparedProgram, Refusal, Repairs, TrackedEvent,
    TrackingRequest, read_items,
};
use crate::http::problem::Problem;
use crate::track::{EventSink, Programs, Tracker};

/// The maximum size of a body in bytes, both as received and inflated.
const MAX_BODY_BYTES: usize = 1 << 20;
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
    MediaType::of(request)?;
    let (body, _permit) = public.bodies.read(request, payload, MAX_BODY_BYTES).await?;
    let body = body::decode(request, body, MAX_BODY_BYTES)?;
    let json = JsonText::of(body::without_byte_order_mark(&body.bytes));
    let items: Vec<_> = read_items(&json)?.into_iter().map(BatchItem::of).collect();
    let received_at = Timestamp::now();
    let lookups = look_up(&items, public).await;
    let client = client(request, &Parameters::default(), &public.visitors)?;
    let mut requests: Vec<_> = items
        .into_iter()
        .map(|item| {
            let item = item?;
            to_request(&item, &client, received_at, &lookups, public).inspect_err(|refusal| {
                if recording.is_on() {
                    let kind = TrafficKind::of(item.event_type);
                    public.fault_shares.count_refused(&item.program_id, kind, refusal);
                }
            })
        })
        .collect();
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
    let mut copies = Copies::default();
    for item in requests {
        match item.and_then(|item| record_item(item, &mut copies, public)) {
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

/// How many items of a batch were recorded under each id that a repeat shares.
type Copies = HashMap<MessageId, i64, foldhash::fast::RandomState>;

/// Records an item. Of the items of a batch that have one id, the first must stay, though they were received at the
/// same moment: each further one counts as received a millisecond later.
fn record_item<P: Programs, S: EventSink>(
    item: ItemRequest<'_>,
    copies: &mut Copies,
    public: &Public<P, S>,
) -> Result<Recorded, Refusal> {
    let ItemRequest { mut tracking, program } = item;
    let event = Tracker::<P, S>::validate(&tracking, Arc::clone(&program));
    let event = event.inspect_err(|refusal| {
        let kind = TrafficKind::of(tracking.event_type);
        public.fault_shares.count_refused(&tracking.program_id, kind, refusal);
    })?;
    let copies = match event.has_shared_id() {
        true => Some(copies.entry(event.message_id).or_default()),
        false => None,
    };
    let earlier = copies.as_deref().copied().unwrap_or(0);
    let event = if earlier == 0 {
        event
    } else {
        drop(event);
        let later = SignedDuration::from_millis(earlier);
        tracking.received_at =
            tracking.received_at.saturating_add(later).unwrap_or(tracking.received_at);
        Tracker::<P, S>::validate(&tracking, program)?
    };
    public.tracker.record(&event)?;
    event.count_conversion();
    if let Some(copies) = copies {
        *copies += 1;
    }
    if !event.repairs().is_empty() {
        public.count_repairs(&event);
    }
    Ok(Recorded {
        repairs: event.repairs(),
        message_id: event.message_id,
        is_valid: event.validity_outcome.is_ok(),
        has_visitor: !event.is_anonymous(),
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
