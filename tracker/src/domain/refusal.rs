//! Why a tracking request is refused.

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::limits::{MAX_HEADERS_BYTES, MAX_QUERY_BYTES};

/// Why a request is refused, and its event not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(name(RefusalCode), vis(), derive(IntoStaticStr, VariantArray))]
#[strum_discriminants(strum(serialize_all = "snake_case"))]
pub enum Refusal {
    /// The id in the path is no program id.
    #[error("the program id has 1 to 128 characters of A-Z a-z 0-9 . _ ~ -")]
    InvalidProgramId,
    /// The query breaks a limit; the text says which.
    #[error("{0}")]
    InvalidParameters(String),
    /// The query is longer than any may be.
    #[error("the query has at most {MAX_QUERY_BYTES} bytes")]
    UriTooLong,
    /// All headers together are longer than they may be.
    #[error("the request's headers have at most {MAX_HEADERS_BYTES} bytes")]
    HeadersTooLarge,
    /// A parameter contradicts the program's core data.
    #[error("`{0}` does not belong to this program: not a valid combination of parameters")]
    ParameterMismatch(&'static str),
    /// The program asks for signatures, and this is not one.
    #[error("the program asks for a signature, and `sig` is not that of this conversion")]
    InvalidSignature,
    /// The program asks for signatures by a key that this tracker does not have.
    #[error("the signature cannot be checked at the moment; try again")]
    ConversionKeyUnavailable,
    /// What is in the body cannot be read; the text says why and where.
    #[error("{0}")]
    InvalidBody(String),
    /// There is more than an endpoint takes; the text says how much that is.
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The body is of another kind than the endpoint takes; the text says which those are.
    #[error("{0}")]
    UnsupportedMediaType(&'static str),
    /// The page that a link names is not followed; the text says why.
    #[error("`url` is not followed: {0}")]
    UrlNotAllowed(&'static str),
    /// Core data knows no such program.
    #[error("there is no such program")]
    ProgramNotFound,
    /// Whether there is such a program cannot be told now.
    #[error("core data cannot be read at the moment; try again")]
    CoreDataUnavailable,
    /// Too many accepted events wait for delivery.
    #[error("too many events wait for delivery; try again")]
    Overloaded,
    /// The client's address makes more requests than RATE_LIMIT admits.
    #[error("there are too many requests from this address; try again")]
    RateLimited,
    /// The process is about to end.
    #[error("this instance is shutting down; try again")]
    Draining,
}

impl Refusal {
    /// The codes of all refusals.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        RefusalCode::VARIANTS.iter().map(<&'static str>::from)
    }

    /// The stable code that clients and metrics know it by.
    pub fn code(&self) -> &'static str {
        RefusalCode::from(self).into()
    }

    /// Its place among [`Refusal::codes`].
    pub fn index(&self) -> usize {
        RefusalCode::from(self) as usize
    }
}
