//! `GET /click/{programId}`: records, and sends people to the landing page.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;
use uuid::Uuid;

use super::problem::Problem;
use super::rate_limits::LimitedPath;
use super::tracking::{Public, is_recorded, tracking_request};
use crate::domain::{
    CLICK_RULES, Destination, IMPRESSION_ID, Refusal, SigningKeys, TrackingRequest, TrafficFlags,
};
use crate::track::{EventSink, Programs};

/// What the paths of clicks begin with.
pub(super) const CLICK_PATH: &str = "/click/";
/// The header that says that a redirect stands for no event.
const RECORDED: HeaderName = HeaderName::from_static("adtrack-recorded");

/// Validates, records, redirects. `HEAD` answers without recording.
pub(super) async fn click<P: Programs, S: EventSink>(
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
        Err(refusal) => refused(refusal, public),
    };
    public.answered(begun, &mut response);
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
    record: bool,
) -> Result<HttpResponse, Refusal> {
    public.check_rate(request, LimitedPath::Click)?;
    let click = click_request(request, public)?;
    let answer = public.tracker.inspect(&click).await?;
    let no_keys = SigningKeys::default();
    let keys = public.clicks.keys().unwrap_or(&no_keys);
    // Before it is recorded: what is refused is not.
    let destination = answer.destination(keys)?;
    if record {
        public.record(&answer)?;
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
    if record {
        public.name_event(&answer.message_id, &click.client, &mut response);
    }
    Ok(response)
}

/// People are not stranded because of what they can do nothing about. What the link itself has wrong
/// (another program's checksum, a page that is not followed) is an error for whoever made it to see.
fn refused<P: Programs, S: EventSink>(refusal: Refusal, public: &Public<P, S>) -> HttpResponse {
    let strands = match &refusal {
        Refusal::InvalidProgramId
        | Refusal::ProgramNotFound
        | Refusal::UriTooLong
        | Refusal::HeadersTooLarge
        | Refusal::CoreDataUnavailable
        | Refusal::Overloaded
        | Refusal::RateLimited
        | Refusal::Draining => true,
        Refusal::InvalidParameters(_)
        | Refusal::ParameterMismatch(_)
        | Refusal::UrlNotAllowed(_)
        | Refusal::InvalidSignature
        | Refusal::ConversionKeyUnavailable
        | Refusal::InvalidBody(_)
        | Refusal::PayloadTooLarge(_)
        | Refusal::UnsupportedMediaType(_) => false,
    };
    let problem = public.refused(refusal);
    match &public.clicks.default_fallback_url {
        Some(page) if strands => {
            let mut response = redirect(page.as_str());
            response.headers_mut().insert(RECORDED, HeaderValue::from_static("false"));
            response
        }
        _ => problem.to_response(),
    }
}

fn redirect(page: &str) -> HttpResponse {
    HttpResponse::build(StatusCode::FOUND)
        .insert_header((LOCATION, page))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .finish()
}

/// What a click says, or why it is none.
fn click_request<'a, P, S>(
    request: &'a HttpRequest,
    public: &Public<P, S>,
) -> Result<TrackingRequest<'a>, Refusal> {
    let id = request.path().strip_prefix(CLICK_PATH).unwrap_or_default();
    let mut click = tracking_request(request, id, EventType::Click, CLICK_RULES, &public.visitors)?;
    let named = click.parameters.own.get(IMPRESSION_ID).filter(|id| !id.is_empty());
    let impression = named.map(|id| Uuid::try_parse(id));
    if click.parameters.cut || matches!(impression, Some(Err(_))) {
        click.client.traffic_flags.insert(TrafficFlags::PARAMETERS_CUT);
    }
    if let Some(Ok(impression)) = impression {
        click.impression_id = impression.to_string();
    }
    Ok(click)
}
