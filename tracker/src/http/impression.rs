//! `GET /impression/{programId}`: what an image tag or a page script asks when an ad was shown.

use std::time::Instant;

use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;
use uuid::Uuid;

use super::pixel::{EVENT_ID, pixel, problem_pixel};
use super::problem::Problem;
use super::tracking::{Public, tracking_request};
use crate::domain::{Refusal, Rules};
use crate::track::{EventSink, Programs};

pub(super) const PATH: &str = "/impression/";
/// For what takes an address for a picture by its ending alone. An id that ends so itself is asked for
/// with the ending twice.
const ENDING: &str = ".gif";

/// `GET /impression/{programId}` and `GET /impression/{programId}.gif`: records, and answers with a
/// pixel, whatever happens. `HEAD` answers without recording.
pub(super) async fn impression<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
) -> HttpResponse {
    let record = match *request.method() {
        Method::GET => true,
        Method::HEAD => false,
        _ => return problem_pixel(&Problem::MethodNotAllowed("GET, HEAD")),
    };
    let begun = Instant::now();
    let mut response = match answer(request, public, record).await {
        Ok(response) => response,
        Err(refusal) => problem_pixel(&public.refused(refusal)),
    };
    public.answered(begun, &mut response);
    response
}

async fn answer<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
    record: bool,
) -> Result<HttpResponse, Refusal> {
    let id = request.path().strip_prefix(PATH).unwrap_or_default();
    let id = id.strip_suffix(ENDING).unwrap_or(id);
    let tracking =
        tracking_request(request, id, EventType::Impression, Rules::EVENT, &public.visitors)?;
    let answer = public.tracker.inspect(&tracking).await?;
    if record {
        public.record(&answer)?;
    }
    let mut response = pixel();
    if record {
        let headers = response.headers_mut();
        let id = answer.message_id.as_hyphenated();
        if let Ok(id) = HeaderValue::from_str(id.encode_lower(&mut Uuid::encode_buffer())) {
            headers.insert(EVENT_ID, id);
        }
        public.visitors.remember(&tracking.client, headers);
    }
    Ok(response)
}
