//! The endpoints that record events.

use actix_web::http::Method;
use clap::ValueEnum;

use crate::http::problem::Problem;

/// An endpoint that records events. Settings name it by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Endpoint {
    /// `/event/{programId}`
    #[value(name = "/event")]
    Event,
    /// `/impression/{programId}`
    #[value(name = "/impression")]
    Impression,
    /// `/click/{programId}`
    #[value(name = "/click")]
    Click,
    /// `/conversion/{programId}`. Not rate-limited by default: partners' servers call it from a few addresses.
    #[value(name = "/conversion")]
    Conversion,
    /// `/events`. Not rate-limited by default, for the same reason.
    #[value(name = "/events")]
    Batch,
}

/// Whether a request's event is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recording {
    On,
    Off,
    /// It is not, and the response describes what would be.
    Validation,
}

impl Recording {
    pub(super) fn is_on(self) -> bool {
        self == Self::On
    }

    pub(super) fn is_validation(self) -> bool {
        self == Self::Validation
    }
}

impl Endpoint {
    /// Whether a request with this method is recorded. HEAD gets the response of GET and records nothing.
    pub(super) fn recording_for(self, method: &Method) -> Result<Recording, Problem> {
        match *method {
            Method::GET if self != Self::Batch => Ok(Recording::On),
            Method::HEAD if self != Self::Batch => Ok(Recording::Off),
            Method::POST if matches!(self, Self::Conversion | Self::Batch) => Ok(Recording::On),
            _ => Err(Problem::MethodNotAllowed(self.methods())),
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Event | Self::Impression | Self::Click => "GET, HEAD",
            Self::Conversion => "GET, HEAD, POST",
            Self::Batch => "POST",
        }
    }
}
