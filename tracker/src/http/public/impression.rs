//! `GET /impression/{programId}`: an image tag or a page script requests it when an ad is shown. Records
//! the impression and responds with a pixel.

use actix_web::{HttpRequest, HttpResponse};
use adtrack_proto::event::EventType;

use super::endpoint::Recording;
use super::pixel::pixel;
use super::state::Public;
use super::tracking_request::tracking_request;
use super::validation;
use crate::domain::{Refusal, Rules};
use crate::track::{EventSink, Programs};

pub(super) async fn impression<P: Programs, S: EventSink>(
    request: &HttpRequest,
    id: &str,
    recording: Recording,
    public: &Public<P, S>,
) -> Result<HttpResponse, Refusal> {
    let tracking =
        tracking_request(request, id, EventType::Impression, Rules::EVENT, &public.visitors)?;
    let event = public.tracker.look_up_and_validate(&tracking).await?;
    if recording.is_validation() {
        return Ok(validation::response(&event, None));
    }
    if recording.is_on() {
        public.record(&event)?;
    }
    let mut response = pixel();
    public.report_repairs(&event, recording, &mut response);
    if recording.is_on() {
        public.add_event_id(&event.message_id, &tracking.client, &mut response);
    }
    Ok(response)
}
