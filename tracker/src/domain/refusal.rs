//! Why a tracking request is refused.

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::limits::MAX_ALL_HEADERS_BYTES;

/// Why a request is refused. Its event is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(name(RefusalCode), vis(), derive(IntoStaticStr, VariantArray))]
#[strum_discriminants(strum(serialize_all = "snake_case"))]
pub enum Refusal {
    /// The id in the path is not a valid program id.
    #[error("`programId` must be 1 to 128 characters of A-Z a-z 0-9 . _ ~ -; got {}", Self::shown(.0))]
    InvalidProgramId(String),
    /// A parameter or member that counts is not valid; the text names it, what came and what is accepted.
    #[error("{0}")]
    InvalidParameters(String),
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

/// How much of a value a refusal shows, in characters.
const SHOWN_CHARACTERS: usize = 40;

impl Refusal {
    /// The parameter `name` has the value `came`, which is not `accepted`.
    pub(super) fn invalid(name: &str, came: &str, accepted: &str) -> Self {
        Self::InvalidParameters(format!("`{name}` must be {accepted}; got {}", Self::shown(came)))
    }

    /// The parameter `name` has a JSON object or array as its value, but counts.
    pub fn nested(name: &str) -> Self {
        Self::invalid_parameters(&format!(
            "`{name}` must be a text or a number; got an object or an array"
        ))
    }

    /// The parameter `name` is `true` or `false` in JSON, but an id.
    pub fn boolean(name: &str, value: &str) -> Self {
        Self::invalid_parameters(&format!("`{name}` must be a text or a number; got {value}"))
    }

    /// A value as a refusal shows it: in quotes, cut, and without characters that a page or a terminal could
    /// interpret.
    pub(super) fn shown(value: &str) -> String {
        let is_plain = |c: char| (c == ' ' || c.is_ascii_graphic()) && !"<>&\"'`\\".contains(c);
        let shown = value.chars().take(SHOWN_CHARACTERS);
        let shown: String = shown.map(|c| if is_plain(c) { c } else { '?' }).collect();
        if shown.len() < value.chars().count() {
            format!("\"{shown}…\" ({} bytes)", value.len())
        } else {
            format!("\"{shown}\"")
        }
    }

    /// The query or an item of a batch breaks the rule that `problem` states.
    pub(super) fn invalid_parameters(problem: &str) -> Self {
        Self::InvalidParameters(problem.to_owned())
    }

    /// Whether the same request may be accepted later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::ConversionKeyUnavailable
                | Self::CoreDataUnavailable
                | Self::Overloaded
                | Self::RateLimited
                | Self::Draining
        )
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
