//! The public listener's state, and what every endpoint does with it.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::ConnectionType;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};

use super::body::BodyBudget;
use super::click_settings::ClickSettings;
use super::endpoint::{Endpoint, Recording};
use super::fault_shares::{FaultShares, TrafficKind};
use super::pixel::EVENT_ID;
use super::rate_limits::RateLimits;
use super::repair_log::RepairLog;
use super::signatures::ConversionGuard;
use super::visitors::VisitorSettings;
use crate::domain::{Client, MessageId, Refusal, Repairs, TrackedEvent};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::track::{EventSink, Programs, Tracker};

/// The public listener's state.
#[derive(Debug, Clone)]
pub struct Public<P, S> {
    /// Validates and records events.
    pub tracker: Tracker<P, S>,
    /// For the health checks.
    pub health: Health,
    /// Of the whole tracker; the listener updates `http`.
    pub metrics: Arc<Metrics>,
    /// How visitors and clients are recognized, and which pages' scripts may read responses.
    pub visitors: VisitorSettings,
    /// Keys of signed links, and the page for clicks that cannot be recorded.
    pub clicks: ClickSettings,
    /// Checks the signatures of conversions.
    pub conversions: Arc<ConversionGuard>,
    /// Bounds the memory of request bodies.
    pub bodies: Arc<BodyBudget>,
    /// Limits the requests of each client address; none without a limit.
    pub rate_limits: Option<Arc<RateLimits>>,
    /// Logs what was repaired, seldom.
    pub repair_log: Arc<RepairLog>,
    /// Watches which share of a program's requests is repaired or refused.
    pub fault_shares: Arc<FaultShares>,
}

impl<P: Programs, S: EventSink> Public<P, S> {
    /// Records the event and counts it.
    pub(super) fn record(&self, event: &TrackedEvent<'_>) -> Result<(), Refusal> {
        self.tracker.record(event)?;
        self.metrics.http.requests_accepted.inc();
        Ok(())
    }
}

/// The header of a response to a request that was repaired: the event's flags, each with the reasons.
pub(super) const REPAIRED: HeaderName = HeaderName::from_static("adtrack-repaired");

impl<P, S> Public<P, S> {
    /// Says in the response what was repaired, and counts it if the event is recorded.
    #[inline]
    pub(super) fn report_repairs(
        &self,
        event: &TrackedEvent<'_>,
        recording: Recording,
        response: &mut HttpResponse,
    ) {
        if event.repairs().is_empty() {
            return;
        }
        if recording.is_on() {
            self.count_repairs(event);
        }
        add_repairs(event.repairs(), response);
    }

    /// Counts and logs what was repaired in a recorded event.
    #[cold]
    pub(super) fn count_repairs(&self, event: &TrackedEvent<'_>) {
        self.metrics.http.count_repairs(event.repairs());
        self.repair_log.report(event.program_id(), event.repairs());
        self.fault_shares.count_repaired(event.program_id(), TrafficKind::of(event.event_type()));
    }

    /// Refuses a request if its client's address is beyond the rate limit.
    pub(super) fn check_rate(
        &self,
        request: &HttpRequest,
        endpoint: Endpoint,
    ) -> Result<(), Refusal> {
        match &self.rate_limits {
            Some(limits) => limits.check_rate(request, endpoint, &self.visitors),
            None => Ok(()),
        }
    }

    /// Adds the event's id as a header, for responses whose body cannot carry it, and renews the
    /// visitor's cookie.
    pub(super) fn add_event_id(
        &self,
        message_id: &MessageId,
        client: &Client<'_>,
        response: &mut HttpResponse,
    ) {
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(message_id) {
            headers.insert(EVENT_ID, id);
        }
        self.visitors.set_cookie(client, headers);
    }

    /// Observes the duration of a request that started at `started_at`. Closes keep-alive connections
    /// while draining, so that clients reconnect to another instance.
    pub(super) fn on_response(
        &self,
        endpoint: Endpoint,
        started_at: Instant,
        response: &mut HttpResponse,
    ) {
        let histogram = match endpoint {
            Endpoint::Batch => &self.metrics.http.batch_seconds,
            _ => &self.metrics.http.request_seconds,
        };
        histogram.observe(started_at.elapsed().as_secs_f64());
        if self.health.is_draining() {
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
    }
}

/// Adds the header that says what was repaired.
#[cold]
pub(super) fn add_repairs(repairs: Repairs, response: &mut HttpResponse) {
    if let Ok(value) = HeaderValue::from_str(&repairs.header()) {
        response.headers_mut().insert(REPAIRED, value);
    }
}
