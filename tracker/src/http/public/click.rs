//! `GET /click/{programId}`: records a click and redirects to its landing page.

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;
use adtrack_proto::unfilled::is_unfilled;
use url::Url;

use super::click_settings::ClickSettings;
use super::endpoint::Recording;
use super::state::Public;
use super::tracking_request::tracking_request;
use super::validation;
use super::visitors::VisitorSettings;
use crate::domain::signed_link::URL_PARAMETER;
use crate::domain::{CLICK_RULES, Destination, Refusal, Repairs, SigningKeys, TrackingRequest};
use crate::http::problem::Problem;
use crate::track::{EventSink, Programs};

/// The header of a redirect whose click was not recorded.
const RECORDED: HeaderName = HeaderName::from_static("adtrack-recorded");

pub(super) async fn click<P: Programs, S: EventSink>(
    request: &HttpRequest,
    id: &str,
    recording: Recording,
    public: &Public<P, S>,
) -> Result<HttpResponse, Refusal> {
    let tracking = click_request(request, id, &public.visitors)?;
    let event = public.tracker.look_up_and_validate(&tracking).await?;
    let no_keys = SigningKeys::default();
    let keys = public.clicks.keys().unwrap_or(&no_keys);
    // Before recording: a click whose `url` is not allowed is not recorded. One that gets 410 is.
    let destination = event.destination(keys)?;
    let fallback = public.clicks.default_fallback_url.as_ref().map(Url::as_str);
    if recording.is_validation() {
        return Ok(validation::response(&event, Some((&destination, fallback))));
    }
    if recording.is_on() {
        public.record(&event)?;
    }
    let mut response = match (destination, fallback) {
        (Destination::Page(page), _) => redirect(&page),
        (Destination::Nowhere, Some(page)) => redirect(page),
        // A browser stays on its page; an app needs nothing more.
        (Destination::Nowhere, None) => HttpResponse::NoContent()
            .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
            .finish(),
        (Destination::Gone(reason), _) => Problem::ProgramNotValid(reason).to_response(),
    };
    public.report_repairs(&event, recording, &mut response);
    if recording.is_on() {
        public.add_event_id(&event.message_id, &tracking.client, &mut response);
    }
    Ok(response)
}

fn click_request<'a>(
    request: &'a HttpRequest,
    id: &str,
    visitors: &VisitorSettings,
) -> Result<TrackingRequest<'a>, Refusal> {
    let mut click = tracking_request(request, id, EventType::Click, CLICK_RULES, visitors)?;
    let parameters = &mut click.parameters;
    // The visitor gets to the program's own page.
    if parameters.for_endpoint.get(URL_PARAMETER).is_some_and(|url| is_unfilled(url)) {
        parameters.for_endpoint.remove(URL_PARAMETER);
        parameters.repairs.insert(Repairs::UNFILLED_MACRO);
    }
    Ok(click)
}

/// The response to a refused click: a redirect to the fallback page if there is one, so that the visitor gets
/// somewhere. A mistake that the link's author has to see (another program's checksum, a page that is not
/// allowed) is an error.
pub(super) fn refusal_response(refusal: Refusal, settings: &ClickSettings) -> HttpResponse {
    let falls_back = match &refusal {
        Refusal::InvalidProgramId(_)
        | Refusal::ProgramNotFound
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
    match &settings.default_fallback_url {
        Some(page) if falls_back => {
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
