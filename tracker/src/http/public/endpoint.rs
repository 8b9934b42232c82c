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
    /// `/conversion/{programId}`. Partners' servers call it from a few addresses.
    #[value(name = "/conversion")]
    Conversion,
    /// `/events`. Partners' servers call it, too.
    #[value(name = "/events")]
    Batch,
}

impl Endpoint {
    /// Whether a request with this method is recorded. HEAD gets the response of GET and records nothing.
    pub(super) fn records(self, method: &Method) -> Result<bool, Problem> {
        match *method {
            Method::GET if self != Self::Batch => Ok(true),
            Method::HEAD if self != Self::Batch => Ok(false),
            Method::POST if matches!(self, Self::Conversion | Self::Batch) => Ok(true),
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
