//! Why a tracking request is refused.

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::limits::{MAX_ALL_HEADERS_BYTES, MAX_QUERY_BYTES};

/// Why a request is refused. Its event is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(name(RefusalCode), vis(), derive(IntoStaticStr, VariantArray))]
#[strum_discriminants(strum(serialize_all = "snake_case"))]
pub enum Refusal {
    /// The id in the path is not a valid program id.
    #[error("the program id must have 1 to 128 characters of A-Z a-z 0-9 . _ ~ -")]
    InvalidProgramId,
    /// The query breaks a limit; the text says which.
    #[error("{0}")]
    InvalidParameters(String),
    /// The query is too long.
    #[error("the query is longer than {MAX_QUERY_BYTES} bytes")]
    UriTooLong,
    /// The headers together are too long.
    #[error("the request's headers are longer than {MAX_ALL_HEADERS_BYTES} bytes")]
    HeadersTooLarge,
    /// A parameter contradicts the program's core data.
    #[error("`{0}` does not belong to this program: not a valid combination of parameters")]
    ParameterMismatch(&'static str),
    /// The program requires signatures, and this one is missing or wrong.
    #[error("the program requires a signature, and `sig` is not the signature of this conversion")]
    InvalidSignature,
    /// The program requires signatures with a key that this tracker does not have.
    #[error("the signature cannot be checked at the moment; try again")]
    ConversionKeyUnavailable,
    /// The body cannot be read; the text says why and where.
    #[error("{0}")]
    InvalidBody(String),
    /// The body or the batch is too large; the text names the limit.
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The endpoint does not accept the body's media type or encoding; the text says what it accepts.
    #[error("{0}")]
    UnsupportedMediaType(&'static str),
    /// The link names a page that is not allowed; the text says why.
    #[error("`url` is not allowed: {0}")]
    UrlNotAllowed(&'static str),
    /// Core data has no such program.
    #[error("there is no such program")]
    ProgramNotFound,
    /// Core data cannot be read now, so nobody knows whether there is such a program.
    #[error("core data cannot be read at the moment; try again")]
    CoreDataUnavailable,
    /// Too many accepted events wait for delivery.
    #[error("too many events wait for delivery; try again")]
    Overloaded,
    /// The client's address makes more requests than RATE_LIMIT admits.
    #[error("too many requests from this address; try again")]
    RateLimited,
    /// The process is shutting down.
    #[error("this instance is shutting down; try again")]
    Draining,
}

impl Refusal {
    /// The query or an item of a batch breaks the rule that `problem` states.
    pub(super) fn invalid_parameters(problem: &str) -> Self {
        Self::InvalidParameters(problem.to_owned())
    }

    /// The codes of all refusals.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        RefusalCode::VARIANTS.iter().map(<&'static str>::from)
    }

    /// The stable code in responses and metrics.
    pub fn code(&self) -> &'static str {
        RefusalCode::from(self).into()
    }

    /// The position of [`Self::code`] in [`Self::codes`].
    pub fn index(&self) -> usize {
        RefusalCode::from(self) as usize
    }
}
