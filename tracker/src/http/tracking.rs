//! The public listener.

use std::sync::Arc;

use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HOST, HeaderName, REFERER, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, web};
use adtrack_proto::ProgramId;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::health;
use super::problem::Problem;
use crate::domain::{Answer, Parameters, Refusal, TrackingRequest, cut, host_name};
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
}

/// The routes.
pub fn configure<P, S>(config: &mut web::ServiceConfig, public: web::Data<Public<P, S>>)
where
    P: Programs + 'static,
    S: EventSink + 'static,
{
    config
        .app_data(web::Data::new(public.health.clone()))
        .app_data(public)
        .service(web::resource("/event/{programId:.*}").to(event::<P, S>))
        .configure(health::configure)
        .service(web::resource("/health/check").to(health::check))
        .service(web::resource("/health/live").to(health::live))
        .default_service(web::to(|| async { Problem::NotFound.to_response() }));
}

/// `GET /event/{programId}`: validates, records, answers. `HEAD` answers without recording.
async fn event<P: Programs, S: EventSink>(
    request: HttpRequest,
    public: web::Data<Public<P, S>>,
) -> HttpResponse {
    let record = match *request.method() {
        Method::GET => true,
        Method::HEAD => false,
        _ => return Problem::MethodNotAllowed("GET, HEAD").to_response(),
    };
    let timer = public.metrics.request_seconds.start_timer();
    let outcome = answer(&request, &public.tracker, record).await;
    timer.observe_duration();
    let mut response = match outcome {
        Ok(answer) => {
            if record {
                public.metrics.requests_accepted.inc();
            }
            HttpResponse::Ok()
                .content_type("application/json")
                .insert_header((CACHE_CONTROL, "no-store"))
                .body(answer.to_json())
        }
        Err(refusal) => {
            public.metrics.refused(&refusal);
            Problem::from(refusal).to_response()
        }
    };
    if public.health.is_draining() {
        // Sends clients with open connections elsewhere.
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    tracker: &Tracker<P, S>,
    record: bool,
) -> Result<Answer, Refusal> {
    let request = tracking_request(request)?;
    if record { tracker.track(request).await } else { tracker.inspect(request).await }
}

/// What a tracking request says, or why it is none.
pub fn tracking_request(request: &HttpRequest) -> Result<TrackingRequest, Refusal> {
    let uri = request.uri();
    let id = uri.path().strip_prefix(EVENT_PATH).unwrap_or_default();
    let id = percent_decode_str(id).decode_utf8().map_err(|_| Refusal::InvalidProgramId)?;
    let header =
        |name: HeaderName| request.headers().get(name).map_or(&b""[..], |value| value.as_bytes());
    Ok(TrackingRequest {
        program_id: ProgramId::parse(&id).map_err(|_| Refusal::InvalidProgramId)?,
        parameters: Parameters::parse(uri.query().unwrap_or_default())?,
        user_agent: cut(header(USER_AGENT)),
        referrer: cut(header(REFERER)),
        host: host_name(&String::from_utf8_lossy(header(HOST))),
        received_at: Timestamp::now(),
    })
}
