//! The public listener.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::body::Bodies;
use super::click::{CLICK_PATH, click};
use super::click_settings::ClickSettings;
use super::client::client;
use super::conversion::{self, ConversionGuard, conversion};
use super::documents::{PAGE_SCRIPT, PUBLIC_API};
use super::events::{self, events};
use super::health;
use super::impression::{self, impression};
use super::pixel::EVENT_ID;
use super::problem::Problem;
use super::rate_limits::{LimitedPath, RateLimits};
use super::visitors::VisitorSettings;
use crate::domain::{Answer, Client, MessageId, Parameters, Refusal, Rules, TrackingRequest};
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
    /// Whom the tracker knows again, and who may ask it.
    pub visitors: VisitorSettings,
    /// Of clicks.
    pub clicks: ClickSettings,
    /// Who checks the signatures of conversions.
    pub conversions: Arc<ConversionGuard>,
    /// Those of the requests that are being read or answered.
    pub bodies: Arc<Bodies>,
    /// How many requests an address may make; none if there is no limit.
    pub rate_limits: Option<Arc<RateLimits>>,
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
        async move {
            let answer = route(&incoming.request, &mut incoming.payload, &public).await;
            public.visitors.cors_allowed_origins.apply(&incoming.request, answer)
        }
    }));
}

async fn route<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
) -> HttpResponse {
    match request.path() {
        path if path.starts_with(EVENT_PATH) => event(request, public).await,
        // Boxed, so that what they hold makes the future of an `/event` no larger.
        path if path.starts_with(impression::PATH) => Box::pin(impression(request, public)).await,
        path if path.starts_with(CLICK_PATH) => Box::pin(click(request, public)).await,
        path if path.starts_with(conversion::PATH) => {
            Box::pin(conversion(request, payload, public)).await
        }
        events::PATH => Box::pin(events(request, payload, public)).await,
        "/health/check" => read(request, || health::check(&public.health)),
        "/health/live" => read(request, health::live),
        "/health/ready" => read(request, || health::ready(&public.health)),
        "/adtrack.js" => read(request, || PAGE_SCRIPT.answer(request)),
        "/openapi.yaml" => read(request, || PUBLIC_API.answer(request)),
        _ => Problem::NotFound.to_response(),
    }
}

/// What can be read, and nothing else.
fn read(request: &HttpRequest, answer: impl FnOnce() -> HttpResponse) -> HttpResponse {
    match *request.method() {
        Method::GET | Method::HEAD => answer(),
        _ => Problem::MethodNotAllowed("GET, HEAD").to_response(),
    }
}

/// `GET /event/{programId}`: validates, records, answers. `HEAD` answers without recording.
async fn event<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
) -> HttpResponse {
    let record = match is_recorded(request) {
        Ok(record) => record,
        Err(problem) => return problem.to_response(),
    };
    let begun = Instant::now();
    let mut response = match answer(request, public, record).await {
        Ok(response) => response,
        Err(refusal) => public.refused(refusal).to_response(),
    };
    public.answered(begun, &mut response);
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
    record: bool,
) -> Result<HttpResponse, Refusal> {
    public.check_rate(request, LimitedPath::Event)?;
    let id = request.path().strip_prefix(EVENT_PATH).unwrap_or_default();
    let tracking = tracking_request(request, id, EventType::Event, Rules::EVENT, &public.visitors)?;
    let answer = public.tracker.inspect(&tracking).await?;
    if record {
        public.record(&answer)?;
    }
    let mut response = json(&answer);
    if record {
        public.visitors.remember(&tracking.client, response.headers_mut());
    }
    Ok(response)
}

/// Whether a request that can be read alone is recorded, or only answered.
pub(super) fn is_recorded(request: &HttpRequest) -> Result<bool, Problem> {
    match *request.method() {
        Method::GET => Ok(true),
        Method::HEAD => Ok(false),
        _ => Err(Problem::MethodNotAllowed("GET, HEAD")),
    }
}

/// What a client is told of its program and its event.
pub(super) fn json(answer: &Answer<'_>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .body(answer.to_json())
}

impl<P: Programs, S: EventSink> Public<P, S> {
    /// Names the event that was recorded to who cannot read it in the body, and renews the visitor's
    /// cookie.
    pub(super) fn name_event(
        &self,
        message_id: &MessageId,
        client: &Client<'_>,
        response: &mut HttpResponse,
    ) {
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(message_id) {
            headers.insert(EVENT_ID, id);
        }
        self.visitors.remember(client, headers);
    }

    /// Records what `answer` stands for, and counts it.
    pub(super) fn record(&self, answer: &Answer<'_>) -> Result<(), Refusal> {
        self.tracker.record(answer)?;
        self.metrics.requests_accepted.inc();
        Ok(())
    }

    /// Refuses a request beyond the rate limit of its client's address.
    pub(super) fn check_rate(
        &self,
        request: &HttpRequest,
        path: LimitedPath,
    ) -> Result<(), Refusal> {
        match &self.rate_limits {
            Some(limits) => limits.check(request, path, &self.visitors),
            None => Ok(()),
        }
    }

    /// The problem of a refused request, which is counted.
    pub(super) fn refused(&self, refusal: Refusal) -> Problem {
        self.metrics.refused(&refusal);
        Problem::from(refusal)
    }

    /// A tracking request that `begun` is answered.
    pub(super) fn answered(&self, begun: Instant, response: &mut HttpResponse) {
        self.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
        self.send_elsewhere(response);
    }

    /// Sends a client with an open connection elsewhere once this instance is about to end.
    pub(super) fn send_elsewhere(&self, response: &mut HttpResponse) {
        if self.health.is_draining() {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
    }
}

/// What a request on the program `id` says, or why it is none.
pub fn tracking_request<'a>(
    request: &'a HttpRequest,
    id: &str,
    event_type: EventType,
    rules: Rules,
    visitors: &VisitorSettings,
) -> Result<TrackingRequest<'a>, Refusal> {
    let program_id = parse_program_id(id).ok_or(Refusal::InvalidProgramId)?;
    let parameters = Parameters::parse(request.uri().query().unwrap_or_default(), rules)?;
    let client = client(request, &parameters, visitors)?;
    let received_at = Timestamp::now();
    Ok(TrackingRequest {
        program_id,
        event_type,
        parameters,
        client,
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
