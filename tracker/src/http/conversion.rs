//! Conversions: postbacks of networks, and pixels on an advertiser's pages.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use clap::Args;
use jiff::Timestamp;

use super::body;
use super::client::client;
use super::pixel::pixel;
use super::problem::Problem;
use super::tracking::{Public, parse_program_id, send_elsewhere};
use crate::domain::json::members;
use crate::domain::{
    Answer, Claim, Parameters, PreparedProgram, Refusal, Rules, TrackingRequest, event_reference,
    pairs,
};
use crate::keys::Keys;
use crate::track::{EventSink, Programs, Tracker};

pub(super) const PATH: &str = "/conversion/";
const PIXEL_SUFFIX: &str = ".gif";
/// The largest body, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Of log lines that say the same.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Settings of conversions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Conversions")]
pub struct ConversionSettings {
    /// File of the keys that conversions are signed with: a line `id = base64 of a secret` for each,
    /// the id being the `conversionKeyId` of programs, the secret having 32 bytes or more. Unset:
    /// conversions of programs that name a key get 503.
    #[arg(long, env, value_parser = Keys::from_file)]
    pub conversion_keys_file: Option<Keys>,
}

/// Who checks the signatures of conversions.
#[derive(Debug, Default)]
pub struct ConversionGuard {
    keys: Keys,
    /// When a key was last missed in the log.
    missed: Mutex<Option<Instant>>,
}

impl ConversionGuard {
    /// By the keys that the settings name.
    pub fn new(settings: &ConversionSettings) -> Self {
        let keys = settings.conversion_keys_file.clone().unwrap_or_default();
        Self { keys, missed: Mutex::default() }
    }

    /// Whether what `claim` says may be recorded for `program`.
    pub(super) fn authorize(
        &self,
        claim: &Claim<'_>,
        program_id: &ProgramId,
        program: &PreparedProgram,
    ) -> Result<(), Refusal> {
        let Some(key_id) = &program.conversion_key_id else { return Ok(()) };
        let Some(secret) = self.keys.get(key_id) else {
            self.log_missing(program_id, key_id);
            return Err(Refusal::ConversionKeyUnavailable);
        };
        claim.authorize(program_id, secret)
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
                "conversions are refused: CONVERSION_KEYS_FILE has no key by the program's \
                 conversionKeyId; add it, or correct the program"
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
    let record = match *request.method() {
        Method::GET | Method::POST => true,
        Method::HEAD => false,
        _ => return Problem::MethodNotAllowed("GET, HEAD, POST").to_response(),
    };
    let begun = Instant::now();
    let id = request.uri().path().strip_prefix(PATH).unwrap_or_default();
    let (id, is_pixel) = match id.strip_suffix(PIXEL_SUFFIX) {
        Some(id) => (id, true),
        None => (id, false),
    };
    let outcome = answer(request, payload, public, id, record).await;
    match &outcome {
        Ok(_) if record => public.metrics.requests_accepted.inc(),
        Ok(_) => {}
        Err(refusal) => public.metrics.refused(refusal),
    }
    let mut response = match outcome {
        outcome if is_pixel => pixel(outcome.map(drop).map_err(Problem::from)),
        Ok(json) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header((CACHE_CONTROL, "no-store"))
            .body(json),
        Err(refusal) => Problem::from(refusal).to_response(),
    };
    public.metrics.request_seconds.observe(begun.elapsed().as_secs_f64());
    send_elsewhere(public, &mut response);
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
    id: &str,
    record: bool,
) -> Result<String, Refusal> {
    let program_id = parse_program_id(id).ok_or(Refusal::InvalidProgramId)?;
    let received_at = Timestamp::now();
    let given = given(request, payload).await?;
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
    let request = TrackingRequest {
        program_id,
        event_type: EventType::Conversion,
        parameters,
        client: client(request),
        impression_id: String::new(),
        click_id,
        conversion: Some(Box::new(conversion)),
        occurred_at: received_at,
        received_at,
    };
    let answer: Answer<'_> = Tracker::<P, S>::answer(&request, program)?;
    if record {
        public.tracker.record(&answer)?;
    }
    Ok(answer.to_json())
}

/// Names and values of the query and the body, as given.
async fn given(
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<Vec<(String, String)>, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let mut given = pairs(query).collect::<Result<Vec<_>, _>>()?;
    if *request.method() != Method::POST {
        return Ok(given);
    }
    let body = body::read(request, payload, MAX_BODY_BYTES).await?;
    if body.is_empty() {
        return Ok(given);
    }
    let body = body::decoded(request, body, MAX_BODY_BYTES)?;
    let text = str::from_utf8(&body)
        .map_err(|error| Refusal::InvalidBody(format!("the body is not UTF-8: {error}")))?;
    match body::media_type(request).as_str() {
        "application/x-www-form-urlencoded" => {
            for pair in pairs(text.trim_end_matches(['\r', '\n'])) {
                given.push(pair?);
            }
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
