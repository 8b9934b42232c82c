//! `GET /event/{programId}`: records an event and responds with JSON that describes it.

use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;

use super::endpoint::Recording;
use super::state::Public;
use super::tracking_request::{json, tracking_request};
use super::validation;
use crate::domain::{Refusal, Rules};
use crate::track::{EventSink, Programs};

pub(super) async fn event<P: Programs, S: EventSink>(
    request: &HttpRequest,
    id: &str,
    recording: Recording,
    public: &Public<P, S>,
) -> Result<HttpResponse, Refusal> {
    let tracking = tracking_request(request, id, EventType::Event, Rules::EVENT, &public.visitors)?;
    let event = public.tracker.look_up_and_validate(&tracking).await?;
    if recording.is_validation() {
        return Ok(validation::response(&event, None));
    }
    if recording.is_on() {
        public.record(&event)?;
    }
    let mut response = json(&event);
    public.report_repairs(&event, recording, &mut response);
    if recording.is_on() {
        public.visitors.set_cookie(&tracking.client, response.headers_mut());
    }
    Ok(response)
}
