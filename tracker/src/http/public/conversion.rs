//! `GET|POST /conversion/{programId}`: postbacks of networks, and pixels on an advertiser's pages. Records
//! a conversion and responds with JSON or, if the path ends in `.gif`, with a pixel.

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;
use jiff::Timestamp;
use serde_json::Value;

use super::body::{self, BodyBudget, MediaType};
use super::client::client;
use super::endpoint::Recording;
use super::pixel::pixel;
use super::state::Public;
use super::tracking_request::{json, parse_program_id};
use super::validation;
use crate::domain::json::{JsonText, Scalar, members};
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
        event.count_conversion();
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
    /// Of a form or a JSON object.
    pairs: Vec<Pair>,
    /// The names of JSON objects and arrays, with what they hold.
    nested: Vec<(String, Value)>,
    repairs: Repairs,
    /// Why the body may have been meant to say more than was read. If the request says nothing that counts, it
    /// is refused for it: recorded, it would be an empty conversion, another one with each retry.
    doubt: Option<Refusal>,
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
        let counts = !parameters.for_endpoint.is_empty()
            || parameters.event_id.is_some()
            || parameters.event_id_as_sent.is_some();
        if let Some(refusal) = self.doubt
            && !counts
        {
            return Err(refusal);
        }
        check_nested(&self.nested, &parameters, counts, program)?;
        Ok(parameters)
    }

    fn read_form(&mut self, body: &[u8]) {
        let form = body.trim_ascii_end();
        let is_control =
            |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
        if !form.contains(&b'=') || form.iter().any(is_control) {
            let problem = "the body is neither a form nor a JSON object, and nothing else says what to record";
            self.doubt = Some(Refusal::InvalidBody(problem.to_owned()));
        }
        self.pairs =
            pairs(&form_text(form), Rules::CONVERSION, usize::MAX, |_| true, &mut self.repairs);
    }

    fn read_json(&mut self, json: &JsonText<'_>) -> Result<(), Refusal> {
        let members =
            members(json.text()).map_err(|error| Refusal::InvalidBody(error.to_string()))?;
        for (name, value) in members {
            let json_type = match value {
                Scalar::Null | Scalar::Text(_) => JsonType::Text,
                Scalar::Number(_) => JsonType::Number,
                Scalar::Boolean(_) => JsonType::Boolean,
                Scalar::Nested(nested) => {
                    // One that is nested too deep to be read holds nothing that counts.
                    let nested = serde_json::from_str(nested).unwrap_or_default();
                    self.nested.push((name.clone().into_owned(), nested));
                    JsonType::Nested
                }
            };
            let value = value.into_text().unwrap_or_default().into_owned();
            let is_utf8 = !(json.is_repaired() && value.contains(char::REPLACEMENT_CHARACTER));
            self.pairs.push(Pair { json_type, is_utf8, ..Pair::new(&name, value) });
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

/// Refuses a conversion of which something that counts is inside an object or array, where it is not read. Other
/// things may have the same names there, such as the amounts of an order's items: they do not matter if the
/// conversion has its own, nor does what is only a property of one, such as `status`.
fn check_nested(
    nested: &[(String, Value)],
    parameters: &Parameters,
    counts: bool,
    program: &PreparedProgram,
) -> Result<(), Refusal> {
    let is_missing = |name: &str| {
        let ours = program.parameter_of(name).unwrap_or(name);
        let own = || ConversionClaim::PARAMETERS.into_iter().find(|known| *known == ours);
        match ours {
            "at_event_id" if parameters.event_id.is_none() => Some("at_event_id"),
            "transaction_id" | "click_id" | "amount" => {
                own().filter(|known| !parameters.for_endpoint.contains_key(known))
            }
            _ => own().filter(|_| !counts),
        }
    };
    for (name, value) in nested {
        if let Some((name, path)) = find_nested(value, name, &is_missing) {
            return Err(Refusal::misplaced(name, &path));
        }
    }
    Ok(())
}

/// The first member within `value`, which is at `path`, whose name `is_missing` and that is not empty: our name of
/// it, and where it is.
fn find_nested(
    value: &Value,
    path: &str,
    is_missing: &impl Fn(&str) -> Option<&'static str>,
) -> Option<(&'static str, String)> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            let is_given = match value {
                Value::String(text) => !text.is_empty(),
                Value::Number(_) | Value::Bool(_) => true,
                Value::Null | Value::Object(_) | Value::Array(_) => false,
            };
            match is_missing(name) {
                Some(ours) if is_given => Some((ours, path)),
                _ => find_nested(value, &path, is_missing),
            }
        }),
        Value::Array(elements) => elements.iter().enumerate().find_map(|(position, value)| {
            find_nested(value, &format!("{path}[{position}]"), is_missing)
        }),
        _ => None,
    }
}

/// Reads the body: a form or a JSON object, whichever its first characters say. `curl -d` sends JSON as a form, and
/// a GET may have a body, too.
async fn read_given(
    request: &HttpRequest,
    payload: &mut Payload,
    bodies: &BodyBudget,
) -> Result<Given, Refusal> {
    let mut given = Given::default();
    let has_body = !matches!(payload, Payload::None);
    if *request.method() == Method::HEAD || !has_body {
        given.doubt = lost_body(request);
        return Ok(given);
    }
    let (body, _permit) = bodies.read(request, payload, MAX_BODY_BYTES).await?;
    if body.is_empty() {
        return Ok(given);
    }
    let media_type = MediaType::of(request)?;
    let body = body::decode(request, body, MAX_BODY_BYTES)?;
    let is_announced = !body.was_unannounced;
    let body = body::without_byte_order_mark(&body.bytes);
    let is_json = looks_like_json(body) || media_type == MediaType::Json && !looks_like_form(body);
    let is_announced = is_announced
        && match media_type {
            MediaType::Form => !is_json,
            MediaType::Json => is_json,
            MediaType::Unspecific => true,
        };
    if !is_announced {
        given.repairs.insert(Repairs::MEDIA_TYPE);
    }
    if is_json {
        let json = JsonText::of(body);
        if json.is_repaired() {
            given.repairs.insert(Repairs::NOT_UTF8);
        }
        given.read_json(&json)?;
    } else {
        given.read_form(body);
    }
    Ok(given)
}

/// Without a length, a body is not part of its request (RFC 9112, section 6.3), so whatever its sender sent is lost.
fn lost_body(request: &HttpRequest) -> Option<Refusal> {
    let headers = request.headers();
    let has = |name| headers.contains_key(name);
    let is_lost = *request.method() == Method::POST
        && has(CONTENT_TYPE)
        && !has(CONTENT_LENGTH)
        && !has(TRANSFER_ENCODING);
    is_lost.then(|| {
        let problem = "the request has a Content-Type, but neither Content-Length nor Transfer-Encoding, so \
                       no body could be read, and the query has nothing that counts; send Content-Length";
        Refusal::InvalidBody(problem.to_owned())
    })
}

/// Whether the body begins as a JSON object does, or as an array of objects, which is refused then.
fn looks_like_json(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    let in_array = body.strip_prefix(b"[").map(<[u8]>::trim_ascii_start);
    body.starts_with(b"{") || in_array.is_some_and(|body| body.starts_with(b"{"))
}

/// Whether the body begins with a name and an equals sign.
fn looks_like_form(body: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.%+".contains(byte);
    let name_end = body.iter().position(|byte| !is_name(byte));
    name_end.is_some_and(|end| end > 0 && body[end] == b'=')
}
