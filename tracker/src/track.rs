//! The use case: look up → validate → accept; and the ports that it needs.

use std::sync::Arc;

use adtrack_proto::ProgramId;

use crate::domain::program::{RequestCount, RequestCounter};
use crate::domain::{PreparedProgram, Refusal, TrackedEvent, TrackingRequest};

/// The port by which programs are looked up.
pub trait Programs {
    /// The program `id`; none if core data has no such program.
    fn find(
        &self,
        id: &ProgramId,
    ) -> impl Future<Output = Result<Option<Arc<PreparedProgram>>, CoreDataUnavailable>>;
}

/// The port by which it is known how many requests programs had.
pub trait RequestCounts {
    /// The requests on the program `id` that were accepted so far; none if it is not in memory.
    fn request_count(&self, id: &ProgramId) -> Option<RequestCount>;
}

/// Core data cannot be read now, so nobody knows whether the program exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreDataUnavailable;

/// The port for accepted events. It delivers what it takes, at the latest after a restart.
pub trait EventSink {
    /// Stores the event. Once this returns, the event survives the end of the process.
    fn accept(&self, event: &AcceptedEvent) -> Result<(), NotAccepted>;

    /// The earliest time that an event received at `now_ms` may have, in milliseconds since the Unix epoch: later than
    /// `now_ms` if the clock stepped back.
    fn earliest_ms(&self, now_ms: u64) -> u64;
}

/// An event on its way to the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedEvent {
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub accepted_at: u64,
    /// Protobuf `TrackingEvent`.
    pub bytes: Vec<u8>,
}

/// Why the sink does not take an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// It is full, or cannot store the event.
    Full,
    /// It is closed: the process is shutting down.
    Closed,
}

/// Validates tracking requests and records their events.
#[derive(Debug, Clone)]
pub struct Tracker<P, S> {
    programs: P,
    sink: S,
}

impl<P: Programs, S: EventSink> Tracker<P, S> {
    /// Looks programs up in `programs`, and gives events to `sink`.
    pub fn new(programs: P, sink: S) -> Self {
        Self { programs, sink }
    }

    /// Looks up the program `id`.
    pub async fn program(&self, id: &ProgramId) -> Result<Arc<PreparedProgram>, Refusal> {
        let found = self.programs.find(id).await;
        found
            .map_err(|CoreDataUnavailable| Refusal::CoreDataUnavailable)?
            .ok_or(Refusal::ProgramNotFound)
    }

    /// Looks up the program of `request` and returns the event, if the program exists and the parameters
    /// match it. Records nothing.
    pub async fn look_up_and_validate<'a>(
        &self,
        request: &'a TrackingRequest<'a>,
    ) -> Result<TrackedEvent<'a>, Refusal> {
        let program = self.program(&request.program_id).await?;
        Self::validate(request, program)
    }

    /// Validates `request` against the program that it names, which the caller has looked up.
    pub fn validate<'a>(
        request: &'a TrackingRequest<'a>,
        program: Arc<PreparedProgram>,
    ) -> Result<TrackedEvent<'a>, Refusal> {
        let random = rand::random::<u128>();
        if RequestCounter::is_sampled(random) {
            count_sampled(request, &program);
        }
        TrackedEvent::new(request, program, random)
    }

    /// Records the event. It is accepted if, and only if, this succeeds.
    pub fn record(&self, event: &TrackedEvent<'_>) -> Result<(), Refusal> {
        let received_at_ms = event.received_at_ms();
        let accepted_at = received_at_ms.max(self.sink.earliest_ms(received_at_ms));
        let event = AcceptedEvent { accepted_at, bytes: event.to_protobuf(accepted_at) };
        self.sink.accept(&event).map_err(|reason| match reason {
            NotAccepted::Full => Refusal::Overloaded,
            NotAccepted::Closed => Refusal::Draining,
        })
    }
}

/// Counts a request in its program. Conversions are all counted, when they are recorded.
#[cold]
fn count_sampled(request: &TrackingRequest<'_>, program: &PreparedProgram) {
    if request.conversion.is_none() {
        program.requests.count_sampled_event();
    }
}
