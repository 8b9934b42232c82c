//! `GET /click/{programId}`: records, and sends people to the landing page.

use std::time::Instant;

use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;
use jiff::Timestamp;
use uuid::Uuid;

use super::client::client;
use super::problem::Problem;
use super::tracking::{Public, parse_program_id};
use crate::domain::{
    CLICK_RULES, Destination, IMPRESSION_ID, Parameters, Refusal, SigningKeys, TrackingRequest,
};
use crate::track::{EventSink, Programs};

/// What the paths of clicks begin with.
pub(super) const CLICK_PATH: &str = "/click/";
/// The header with the click's id, for apps that follow the redirect themselves.
const CLICK_ID: HeaderName = HeaderName::from_static("adtrack-click-id");
/// The header that says that a redirect stands for no event.
const RECORDED: HeaderName = HeaderName::from_static("adtrack-recorded");
/// The traffic flag of a click whose parameters were cut or left out.
const PARAMETERS_CUT: &str = "parameters_cut";

/// Validates, records, redirects. `HEAD` answers without recording.
pub(super) async fn click<P: Programs, S: EventSink>(
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
        Ok(response) => response,
        Err(refusal) => {
            public.metrics.refused(&refusal);
            refused(refusal, public)
        }
    };
    public.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    if public.health.is_draining() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
    record: bool,
) -> Result<HttpResponse, Refusal> {
    let request = click_request(request)?;
    let answer = public.tracker.inspect(&request).await?;
    let no_keys = SigningKeys::default();
    let keys = public.clicks.link_keys_file.as_ref().unwrap_or(&no_keys);
    // Before it is recorded: what is refused is not.
    let destination = answer.destination(keys)?;
    if record {
        public.tracker.record(&answer)?;
        public.metrics.requests_accepted.inc();
    }
    let mut response = match (destination, &public.clicks.default_fallback_url) {
        (Destination::Page(page), _) => redirect(&page),
        (Destination::Nowhere, Some(page)) => redirect(page.as_str()),
        // Browsers stay where they are, and an app has what it wanted.
        (Destination::Nowhere, None) => HttpResponse::NoContent()
            .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .finish(),
        (Destination::Gone(reason), _) => Problem::ProgramNotValid(reason).to_response(),
    };
    if let Ok(click_id) = HeaderValue::from_str(&answer.message_id.to_string()) {
        response.headers_mut().insert(CLICK_ID, click_id);
    }
    Ok(response)
}

/// People are not stranded because of what they can do nothing about. What the link itself has wrong
/// (another program's checksum, a page that is not followed) is an error for whoever made it to see.
fn refused<P, S>(refusal: Refusal, public: &Public<P, S>) -> HttpResponse {
    let strands = match &refusal {
        Refusal::InvalidProgramId
        | Refusal::ProgramNotFound
        | Refusal::CoreDataUnavailable
        | Refusal::Overloaded
        | Refusal::Draining => true,
        Refusal::InvalidParameters(_)
        | Refusal::ParameterMismatch(_)
        | Refusal::UrlNotAllowed(_) => false,
    };
    match &public.clicks.default_fallback_url {
        Some(page) if strands => {
            let mut response = redirect(page.as_str());
            response.headers_mut().insert(RECORDED, HeaderValue::from_static("false"));
            response
        }
        _ => Problem::from(refusal).to_response(),
    }
}

fn redirect(page: &str) -> HttpResponse {
    HttpResponse::build(StatusCode::FOUND)
        .insert_header((LOCATION, page))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .finish()
}

/// What a click says, or why it is none.
fn click_request(request: &HttpRequest) -> Result<TrackingRequest<'_>, Refusal> {
    let uri = request.uri();
    let id = uri.path().strip_prefix(CLICK_PATH).unwrap_or_default();
    let received_at = Timestamp::now();
    let parameters = Parameters::parse(uri.query().unwrap_or_default(), CLICK_RULES)?;
    let mut client = client(request);
    let named = parameters.own.get(IMPRESSION_ID).filter(|id| !id.is_empty());
    let impression = named.map(|id| Uuid::try_parse(id));
    if parameters.cut || matches!(impression, Some(Err(_))) {
        client.traffic_flags.push(PARAMETERS_CUT);
    }
    Ok(TrackingRequest {
        program_id: parse_program_id(id).ok_or(Refusal::InvalidProgramId)?,
        event_type: EventType::Click,
        parameters,
        client,
        impression_id: impression.and_then(Result::ok).map(|id| id.to_string()).unwrap_or_default(),
        click_id: String::new(),
        conversion: None,
        occurred_at: received_at,
        received_at,
    })
}
