//! What the endpoints of single events share: they turn an HTTP request into a [`TrackingRequest`] and
//! its event into JSON.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::client::client;
use super::visitors::VisitorSettings;
use crate::domain::{Parameters, Refusal, Rules, TrackedEvent, TrackingRequest};

/// Reads a request on the program `id` from its path, query and headers.
pub fn tracking_request<'a>(
    request: &'a HttpRequest,
    id: &str,
    event_type: EventType,
    rules: Rules,
    visitors: &VisitorSettings,
) -> Result<TrackingRequest<'a>, Refusal> {
    let program_id = parse_program_id(id)?;
    let mut parameters = Parameters::parse(request.uri().query().unwrap_or_default(), rules)?;
    let (click_id, impression_id) = parameters.take_references();
    let client = client(request, &parameters, visitors)?;
    let received_at = Timestamp::now();
    Ok(TrackingRequest {
        program_id,
        event_type,
        parameters,
        client,
        impression_id,
        click_id,
        conversion: None,
        occurred_at: received_at,
        received_at,
    })
}

/// Tries the text as is first, because ids are rarely percent-encoded.
pub(super) fn parse_program_id(text: &str) -> Result<ProgramId, Refusal> {
    let decode = || ProgramId::parse(&percent_decode_str(text).decode_utf8().ok()?).ok();
    let refusal = || Refusal::InvalidProgramId(text.to_owned());
    ProgramId::parse(text).ok().or_else(decode).ok_or_else(refusal)
}

/// The response that describes the event and its program to the client.
pub(super) fn json(event: &TrackedEvent<'_>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .body(event.to_json())
}
