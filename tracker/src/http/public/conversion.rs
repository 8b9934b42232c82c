//! `GET|POST /conversion/{programId}`: postbacks of networks, and pixels on an advertiser's pages. Records
//! a conversion and responds with JSON or, if the path ends in `.gif`, with a pixel.

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;
use jiff::Timestamp;

use super::body::{self, BodyBudget};
use super::client::client;
use super::endpoint::Recording;
use super::pixel::pixel;
use super::state::Public;
use super::tracking_request::{json, parse_program_id};
use crate::domain::json::members;
use crate::domain::{
    ConversionClaim, Parameters, Refusal, Rules, TrackingRequest, event_reference, form_pairs,
    pairs,
};
use crate::track::{EventSink, Programs, Tracker};

/// The maximum size of a body in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;

pub(super) async fn conversion<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    id: &str,
    as_pixel: bool,
    recording: Recording,
    public: &Public<P, S>,
) -> Result<HttpResponse, Refusal> {
    let program_id = parse_program_id(id)?;
    let received_at = Timestamp::now();
    let given = read_pairs(request, payload, &public.bodies).await?;
    let program = public.tracker.program(&program_id).await?;

    let mut parameters = Parameters::default();
    for (name, value) in given {
        let name = program.parameter_of(&name).map_or(name, str::to_owned);
        parameters.add(name, value, Rules::CONVERSION)?;
    }
    let claim = ConversionClaim::of(&parameters);
    let conversion = claim.to_conversion()?;
    let click_id = event_reference("click_id", claim.click_id)?;
    public.conversions.authorize(&claim, &program_id, &program)?;
    let tracking = TrackingRequest {
        program_id,
        event_type: EventType::Conversion,
        client: client(request, &parameters, &public.visitors)?,
        parameters,
        impression_id: String::new(),
        click_id,
        conversion: Some(Box::new(conversion)),
        occurred_at: received_at,
        received_at,
    };
    let event = Tracker::<P, S>::validate(&tracking, program)?;
    let mut response = if as_pixel { pixel() } else { json(&event) };
    if recording.is_on() {
        public.record(&event)?;
        if as_pixel {
            public.add_event_id(&event.message_id, &tracking.client, &mut response);
        } else {
            public.visitors.set_cookie(&tracking.client, response.headers_mut());
        }
    }
    Ok(response)
}

/// Names and values of the query and the body, as given.
async fn read_pairs(
    request: &HttpRequest,
    payload: &mut Payload,
    bodies: &BodyBudget,
) -> Result<Vec<(String, String)>, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let mut given = pairs(query)?;
    if *request.method() != Method::POST {
        return Ok(given);
    }
    let (body, _permit) = bodies.read(request, payload, MAX_BODY_BYTES).await?;
    if body.is_empty() {
        return Ok(given);
    }
    let body = body::decode(request, body, MAX_BODY_BYTES)?;
    let text = str::from_utf8(&body)
        .map_err(|error| Refusal::InvalidBody(format!("the body is not UTF-8: {error}")))?;
    match body::media_type(request).as_str() {
        "application/x-www-form-urlencoded" => {
            given.extend(form_pairs(text.trim_end_matches(['\r', '\n']))?);
        }
        "application/json" => {
            let members = members(text).map_err(|error| Refusal::InvalidBody(error.to_string()))?;
            given.extend(
                members.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())),
            );
        }
        _ => {
            return Err(Refusal::UnsupportedMediaType(
                "the body's Content-Type must be application/x-www-form-urlencoded or application/json",
            ));
        }
    }
    Ok(given)
}
