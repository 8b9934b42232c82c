//! `GET|POST /conversion/{programId}`: postbacks of networks, and pixels on an advertiser's pages. Records
//! a conversion and responds with JSON or, if the path ends in `.gif`, with a pixel.

use std::borrow::Cow;

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
use super::validation;
use crate::domain::json::{Scalar, members};
use crate::domain::{
    ClaimNames, ConversionClaim, IMPRESSION_ID, JsonType, MAX_QUERY_BYTES, Pair, Parameters,
    PreparedProgram, Refusal, Repairs, Rules, TrackingRequest, form_text, pairs,
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
    // Read before the program is known, whose aliases rename parameters.
    let given = read_given(request, payload, &public.bodies).await?;
    let program = public.tracker.program(&program_id).await?;

    let mut parameters = given.parameters(request, &program)?;
    let impression_id = parameters.take_reference(IMPRESSION_ID);
    let claim = ConversionClaim::of(&parameters, &program.status_aliases);
    let valid = claim.validate(&ClaimNames::PARAMETERS)?;
    public.conversions.authorize(&claim, &program_id, &program)?;
    parameters.repairs.insert(valid.repairs);
    let tracking = TrackingRequest {
        program_id,
        event_type: EventType::Conversion,
        client: client(request, &parameters, &public.visitors)?,
        parameters,
        impression_id,
        click_id: valid.click_id,
        conversion: Some(Box::new(valid.conversion)),
        occurred_at: received_at,
        received_at,
    };
    let event = Tracker::<P, S>::validate(&tracking, program)?;
    if recording.is_validation() {
        return Ok(validation::response(&event, None));
    }
    let mut response = if as_pixel { pixel() } else { json(&event) };
    public.report_repairs(&event, recording, &mut response);
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

/// What the body gives, besides the query.
#[derive(Debug, Default)]
struct Given {
    pairs: Vec<Pair>,
    repairs: Repairs,
}

impl Given {
    /// The parameters of the query and the body, under our names.
    fn parameters(
        self,
        request: &HttpRequest,
        program: &PreparedProgram,
    ) -> Result<Parameters, Refusal> {
        let rules = Rules::CONVERSION;
        let mut parameters = Parameters::default();
        parameters.repairs.insert(self.repairs);
        let query = request.uri().query().unwrap_or_default();
        let is_read = |name: &str| {
            rules.is_read(name)
                || program.parameter_of(name).is_some()
                || program.meant(name).is_some()
        };
        let in_query = pairs(query, rules, MAX_QUERY_BYTES, is_read, &mut parameters.repairs);
        for mut pair in in_query.into_iter().chain(self.pairs) {
            let ours = program.parameter_of(&pair.name);
            check_type(&pair, ours.unwrap_or(&pair.name))?;
            if pair.json_type == JsonType::Nested {
                parameters.repairs.insert(Repairs::NESTED_VALUE);
            }
            // The name in a batch, where it decides which event this is. Here others use it for something else.
            if pair.name == "eventId" {
                parameters.repairs.insert(Repairs::MISSPELT_NAME);
            }
            if let Some(ours) = ours {
                ours.clone_into(&mut pair.name);
            } else if !rules.is_known(&pair.name)
                && let Some(ours) = program.meant(&pair.name).and_then(|ours| rules.meant(ours))
            {
                parameters.add_misspelt(ours, pair);
                continue;
            }
            parameters.add(pair, rules)?;
        }
        if parameters.has_misspelt() {
            read_misspelt(&mut parameters, program);
        }
        Ok(parameters)
    }

    fn read_form(&mut self, body: &[u8]) {
        let form = body.trim_ascii_end();
        self.pairs =
            pairs(&form_text(form), Rules::CONVERSION, usize::MAX, |_| true, &mut self.repairs);
    }

    fn read_json(&mut self, text: &str) -> Result<(), Refusal> {
        let members = members(text).map_err(|error| Refusal::InvalidBody(error.to_string()))?;
        for (name, value) in members {
            let json_type = match value {
                Scalar::Null | Scalar::Text(_) => JsonType::Text,
                Scalar::Number(_) => JsonType::Number,
                Scalar::Boolean(_) => JsonType::Boolean,
                Scalar::Nested(_) => JsonType::Nested,
            };
            let value = value.into_text().unwrap_or_default().into_owned();
            self.pairs.push(Pair { json_type, ..Pair::new(&name, value) });
        }
        Ok(())
    }
}

/// Refuses a JSON value that cannot be what the parameter `ours` takes.
fn check_type(pair: &Pair, ours: &str) -> Result<(), Refusal> {
    let is_id = ["transaction_id", "click_id", "event_name", "at_event_id"].contains(&ours);
    match pair.json_type {
        JsonType::Nested if is_id || ConversionClaim::PARAMETERS.contains(&ours) => {
            Err(Refusal::nested(&pair.name))
        }
        JsonType::Boolean if is_id => Err(Refusal::boolean(&pair.name, &pair.value)),
        _ => Ok(()),
    }
}

/// Reads parameters under misspelt names that leave the conversion valid. Those of a program that requires
/// signatures are only flagged: what they say is not signed.
#[cold]
fn read_misspelt(parameters: &mut Parameters, program: &PreparedProgram) {
    parameters.read_misspelt(|parameters| {
        let claim = ConversionClaim::of(parameters, &program.status_aliases);
        program.conversion_key_id.is_none() && claim.validate(&ClaimNames::PARAMETERS).is_ok()
    });
}

/// Reads the body: a form or a JSON object. If the media type does not say which, as from clients that name
/// none, its first character does. It also does if a form begins with a brace, which no form does: `curl -d`
/// sends JSON as a form.
async fn read_given(
    request: &HttpRequest,
    payload: &mut Payload,
    bodies: &BodyBudget,
) -> Result<Given, Refusal> {
    let mut given = Given::default();
    if *request.method() != Method::POST {
        return Ok(given);
    }
    let (body, _permit) = bodies.read(request, payload, MAX_BODY_BYTES).await?;
    if body.is_empty() {
        return Ok(given);
    }
    let body = body::decode(request, body, MAX_BODY_BYTES)?;
    let body = body::without_byte_order_mark(&body);
    let media_type = body::media_type(request);
    let looks_like_json = body.trim_ascii_start().starts_with(b"{");
    let is_json = match &*media_type {
        FORM if looks_like_json => {
            given.repairs.insert(Repairs::MEDIA_TYPE);
            true
        }
        FORM => false,
        "" | "text/plain" => looks_like_json,
        other if is_json_type(other) => true,
        _ => {
            return Err(Refusal::UnsupportedMediaType(
                "the body's Content-Type must be application/x-www-form-urlencoded or application/json",
            ));
        }
    };
    if is_json {
        let text = body::json_text(body);
        if matches!(text, Cow::Owned(_)) {
            given.repairs.insert(Repairs::NOT_UTF8);
        }
        given.read_json(&text)?;
    } else {
        given.read_form(body);
    }
    Ok(given)
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Whether the media type is that of JSON (RFC 8259), or of a format based on it (RFC 6839).
fn is_json_type(media_type: &str) -> bool {
    matches!(media_type, "application/json" | "text/json") || media_type.ends_with("+json")
}
