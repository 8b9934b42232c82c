//! `GET /impression/{programId}`: what an image tag or a page script asks when an ad was shown.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;

use super::pixel::{ENDING, pixel, problem_pixel};
use super::rate_limits::LimitedPath;
use super::tracking::{Public, is_recorded, tracking_request};
use crate::domain::{Refusal, Rules};
use crate::track::{EventSink, Programs};

pub(super) const PATH: &str = "/impression/";

/// `GET /impression/{programId}` and `GET /impression/{programId}.gif`: records, and answers with a
/// pixel, whatever happens. `HEAD` answers without recording.
pub(super) async fn impression<P: Programs, S: EventSink>(
    request: &HttpRequest,
    public: &Public<P, S>,
) -> HttpResponse {
    let record = match is_recorded(request) {
        Ok(record) => record,
        Err(problem) => return problem_pixel(&problem),
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
    public.check_rate(request, LimitedPath::Impression)?;
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
        public.name_event(&answer.message_id, &tracking.client, &mut response);
    }
    Ok(response)
}
