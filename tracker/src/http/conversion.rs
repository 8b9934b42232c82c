//! Conversions: postbacks of networks, and pixels on an advertiser's pages.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use clap::Args;
use jiff::Timestamp;

use super::body::{self, Bodies};
use super::click_settings::{signing_keys, signing_keys_text};
use super::client::client;
use super::pixel::{ENDING, pixel, problem_pixel};
use super::problem::Problem;
use super::rate_limits::LimitedPath;
use super::tracking::{Public, json, parse_program_id};
use crate::domain::json::members;
use crate::domain::{
    Answer, Claim, Parameters, PreparedProgram, Refusal, Rules, SigningKeys, TrackingRequest,
    event_reference, form_pairs, pairs,
};
use crate::track::{EventSink, Programs, Tracker};

pub(super) const PATH: &str = "/conversion/";
/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Of log lines that say the same.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Settings of conversions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Conversions")]
pub struct ConversionSettings {
    /// File with the keys of signed conversions: lines `id=secret`, the id being the `conversionKeyId`
    /// of programs, the secret of 32 bytes or more in base64. Read at the start. Unset: conversions of
    /// programs that name a key get 503.
    #[arg(long, env, value_name = "CONVERSION_KEYS_FILE", value_parser = signing_keys)]
    pub conversion_keys_file: Option<SigningKeys>,
    /// What CONVERSION_KEYS_FILE would hold, in its place: for containers that get secrets as variables.
    #[arg(long, env, hide_env_values = true, value_name = "CONVERSION_KEYS", value_parser = signing_keys_text, conflicts_with = "conversion_keys_file")]
    pub conversion_keys: Option<SigningKeys>,
}

/// Who checks the signatures of conversions.
#[derive(Debug, Default)]
pub struct ConversionGuard {
    keys: SigningKeys,
    /// When a key was last missed in the log.
    missed: Mutex<Option<Instant>>,
}

impl ConversionGuard {
    /// By the keys that the settings name.
    pub fn new(settings: &ConversionSettings) -> Self {
        let keys = settings.conversion_keys_file.as_ref().or(settings.conversion_keys.as_ref());
        Self { keys: keys.cloned().unwrap_or_default(), missed: Mutex::default() }
    }

    /// Whether what `claim` says may be recorded for `program`.
    pub(super) fn authorize(
        &self,
        claim: &Claim<'_>,
        program_id: &ProgramId,
        program: &PreparedProgram,
    ) -> Result<(), Refusal> {
        let Some(key_id) = &program.conversion_key_id else { return Ok(()) };
        let outcome = claim.authorize(program_id, key_id, &self.keys);
        if outcome == Err(Refusal::ConversionKeyUnavailable) {
            self.log_missing(program_id, key_id);
        }
        outcome
    }

    /// Networks try again for hours: a line now and then is enough.
    fn log_missing(&self, program_id: &ProgramId, key_id: &str) {
        let now = Instant::now();
        let mut missed = self.missed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if missed.is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL) {
            *missed = Some(now);
            tracing::error!(
                program = program_id.as_str(),
                key = key_id,
                "conversions are refused: CONVERSION_KEYS_FILE or CONVERSION_KEYS has no key by the \
                 program's conversionKeyId; add it, or correct the program"
            );
        }
    }
}

/// `GET|POST /conversion/{programId}`: a postback, answered in JSON; with `.gif`, a pixel. `HEAD`
/// answers without recording.
pub(super) async fn conversion<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
) -> HttpResponse {
    let id = request.path().strip_prefix(PATH).unwrap_or_default();
    let (id, is_pixel) = match id.strip_suffix(ENDING) {
        Some(id) => (id, true),
        None => (id, false),
    };
    let refuse = |problem: Problem| {
        if is_pixel { problem_pixel(&problem) } else { problem.to_response() }
    };
    let record = match *request.method() {
        Method::GET | Method::POST => true,
        Method::HEAD => false,
        _ => return refuse(Problem::MethodNotAllowed("GET, HEAD, POST")),
    };
    let begun = Instant::now();
    let mut response = match answer(request, payload, public, id, is_pixel, record).await {
        Ok(response) => response,
        Err(refusal) => refuse(public.refused(refusal)),
    };
    public.answered(begun, &mut response);
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
    id: &str,
    is_pixel: bool,
    record: bool,
) -> Result<HttpResponse, Refusal> {
    public.check_rate(request, LimitedPath::Conversion)?;
    let program_id = parse_program_id(id).ok_or(Refusal::InvalidProgramId)?;
    let received_at = Timestamp::now();
    let given = given(request, payload, &public.bodies).await?;
    let program = public.tracker.program(&program_id).await?;

    let mut parameters = Parameters::default();
    for (name, value) in given {
        let name = program.parameter_of(&name).map_or(name, str::to_owned);
        parameters.add(name, value, Rules::CONVERSION)?;
    }
    let claim = Claim::of(&parameters);
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
    let answer: Answer<'_> = Tracker::<P, S>::answer(&tracking, program)?;
    let mut response = if is_pixel { pixel() } else { json(&answer) };
    if record {
        public.record(&answer)?;
        if is_pixel {
            public.name_event(&answer.message_id, &tracking.client, &mut response);
        } else {
            public.visitors.remember(&tracking.client, response.headers_mut());
        }
    }
    Ok(response)
}

/// Names and values of the query and the body, as given.
async fn given(
    request: &HttpRequest,
    payload: &mut Payload,
    bodies: &Bodies,
) -> Result<Vec<(String, String)>, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let mut given = pairs(query)?;
    if *request.method() != Method::POST {
        return Ok(given);
    }
    let (body, _share) = bodies.read(request, payload, MAX_BODY_BYTES).await?;
    if body.is_empty() {
        return Ok(given);
    }
    let body = body::decoded(request, body, MAX_BODY_BYTES)?;
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
                "the body's Content-Type is application/x-www-form-urlencoded or application/json",
            ));
        }
    }
    Ok(given)
}
