//! Why a scenario cannot be used.

use super::built_in::BUILT_IN;
use super::endpoint::MAX_STEPS;

/// A healthy redis-updater needs far less time for an update.
pub(super) const SECONDS_BETWEEN_UPDATES_OF_A_PROGRAM: f64 = 5.0;

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Its file cannot be read.
    #[error("{name}: {error}; a scenario is one of {}, or a TOML file", BUILT_IN.map(|(name, _)| name).join(", "))]
    File {
        /// The name or path that was given.
        name: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// Its TOML is invalid.
    #[error("{file}:{line}:{column}: {message}")]
    Toml {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong and what is accepted.
        message: String,
    },
    /// Its values do not fit together.
    #[error("{file}: {conflict}")]
    Conflict {
        /// The file.
        file: String,
        /// Which values.
        conflict: Conflict,
    },
}

/// Values of a scenario that do not fit together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// The shares of requests that are not plain ones: their sum.
    #[error("requests: unknown, disabled and mismatching add up to {0}, more than 1")]
    Shares(f64),
    /// No user agent.
    #[error("requests.user_agents is empty; it needs at least one")]
    NoUserAgent,
    /// A batch of nothing: the name of the endpoint.
    #[error("endpoint {0:?} has batch, but no body to repeat")]
    BatchWithoutBody(String),
    /// Two endpoints of one name, which the report could not tell apart.
    #[error("two endpoints are named {0:?}")]
    SameName(String),
    /// A step of a journey that does not follow an earlier one: its name and the other's.
    #[error(
        "endpoint {0:?} needs {1:?} before it, in `after` or further back; no such endpoint is above it in the file"
    )]
    NotBefore(String, String),
    /// A step whose batch or requests without an event have no id that the next could follow.
    #[error(
        "endpoint {0:?} cannot be followed: it needs `recorded`, no `batch`, and another method than HEAD"
    )]
    NotFollowable(String),
    /// More endpoints than a journey may have.
    #[error("a scenario with `after` or `repeat` has up to {MAX_STEPS} endpoints")]
    TooManySteps,
    /// Nothing would be measured.
    #[error("harness.warm_up is as long as all phases, or longer")]
    WarmUp,
    /// No endpoint is ever requested.
    #[error("no endpoint has a weight above 0")]
    NoEndpoint,
    /// The phases are too short or too long.
    #[error("the phases together take 0s or more than 24h")]
    Duration,
    /// No phase has a rate.
    #[error("the phases send nothing: every rate is 0")]
    NoRequests,
    /// A program could have two updates in flight: the rate of updates.
    #[error(
        "core_data.updates_per_second = {0} needs {programs} programs or more, so that two updates of a \
         program are {SECONDS_BETWEEN_UPDATES_OF_A_PROGRAM} s apart",
        programs = (.0 * SECONDS_BETWEEN_UPDATES_OF_A_PROGRAM).ceil()
    )]
    TooManyUpdates(f64),
    /// Programs of the deployment would be changed.
    #[error(
        "programs.ids names existing programs, which the harness does not change: updates_per_second \
         and disabled must be 0"
    )]
    ForeignPrograms,
}
