//! The public listener.

use std::sync::Arc;
use std::time::Instant;

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::client::client;
use super::conversion::{self, ConversionGuard, conversion};
use super::documents::{PAGE_SCRIPT, PUBLIC_API};
use super::events::{self, events};
use super::health;
use super::problem::Problem;
use crate::domain::{Parameters, Refusal, Rules, TrackingRequest};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::track::{EventSink, Programs, Tracker};

const EVENT_PATH: &str = "/event/";

/// What the public listener needs.
#[derive(Debug, Clone)]
pub struct Public<P, S> {
    /// The use case.
    pub tracker: Tracker<P, S>,
    /// For the health checks.
    pub health: Health,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who checks the signatures of conversions.
    pub conversions: Arc<ConversionGuard>,
}

/// A request with its body, taken apart by hand as paths are.
struct Incoming {
    request: HttpRequest,
    payload: Payload,
}

impl FromRequest for Incoming {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take() }))
    }
}

/// The routes. A few prefixes, told apart by hand: actix-web's router matches every request with a
/// regular expression and a map of resources, at the cost of a third of the handler.
pub fn configure<P, S>(config: &mut web::ServiceConfig, public: web::Data<Public<P, S>>)
where
    P: Programs + 'static,
    S: EventSink + 'static,
{
    config.default_service(web::to(move |mut incoming: Incoming| {
        let public = public.clone();
        async move { route(&incoming.request, &mut incoming.payload, &public).await }
    }));
}

async fn route<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
) -> HttpResponse {
    match request.path() {
        path if path.starts_with(EVENT_PATH) => event(request, public).await,
        path if path.starts_with(conversion::PATH) => conversion(request, payload, public).await,
        events::PATH => events(request, payload, public).await,
        "/health/check" => health::check(&public.health),
        "/health/live" => health::live(),
        "/health/ready" => health::ready(&public.health),
        "/adtrack.js" => PAGE_SCRIPT.answer(request),
        "/openapi.yaml" => PUBLIC_API.answer(request),
        _ => Problem::NotFound.to_response(),
    }
}

/// `GET /event/{programId}`: validates, records, answers. `HEAD` answers without recording.
async fn event<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
) -> HttpResponse {
    let record = match *request.method() {
        Method::GET => true,
        Method::HEAD => false,
        _ => return Problem::MethodNotAllowed("GET, HEAD").to_response(),
    };
    let begun = Instant::now();
    let mut response = match answer(request, public, record).await {
        Ok(json) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
            .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .body(json),
        Err(refusal) => {
            public.metrics.refused(&refusal);
            Problem::from(refusal).to_response()
        }
    };
    public.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    send_elsewhere(public, &mut response);
    response
}

/// Sends clients with open connections elsewhere, while the process ends.
pub(super) fn send_elsewhere<P, S>(public: &Public<P, S>, response: &mut HttpResponse) {
    if public.health.is_draining() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
    record: bool,
) -> Result<String, Refusal> {
    let request = tracking_request(request)?;
    if !record {
        return Ok(public.tracker.inspect(&request).await?.to_json());
    }
    let answer = public.tracker.track(&request).await?;
    public.metrics.requests_accepted.inc();
    Ok(answer.to_json())
}

/// What a request of `/event` says, or why it is none.
pub fn tracking_request(request: &HttpRequest) -> Result<TrackingRequest<'_>, Refusal> {
    let uri = request.uri();
    let id = uri.path().strip_prefix(EVENT_PATH).unwrap_or_default();
    let received_at = Timestamp::now();
    Ok(TrackingRequest {
        program_id: parse_program_id(id).ok_or(Refusal::InvalidProgramId)?,
        event_type: EventType::Event,
        parameters: Parameters::parse(uri.query().unwrap_or_default(), Rules::EVENT)?,
        client: client(request),
        impression_id: String::new(),
        click_id: String::new(),
        conversion: None,
        occurred_at: received_at,
        received_at,
    })
}

/// Ids are seldom percent-encoded: nothing in them has to be.
pub(super) fn parse_program_id(text: &str) -> Option<ProgramId> {
    let decode = || ProgramId::parse(&percent_decode_str(text).decode_utf8().ok()?).ok();
    ProgramId::parse(text).ok().or_else(decode)
}
