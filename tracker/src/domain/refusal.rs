//! Why a tracking request is refused.

use strum::{EnumDiscriminants, IntoStaticStr, VariantArray};

use super::limits::{MAX_ALL_HEADERS_BYTES, MAX_NAME_BYTES};

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
    /// A parameter contradicts the program's core data; the text names it and shows both.
    #[error("{0}")]
    ParameterMismatch(String),
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
    UrlNotAllowed(String),
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

    /// The parameter `name` is `came`, but the program's core data has `expected`. Responses show that anyway.
    pub(super) fn mismatch(name: &str, came: &str, expected: &str) -> Self {
        Self::ParameterMismatch(format!(
            "`{name}` does not belong to this program: not a valid combination of parameters; got {}, the \
             program's is {}",
            Self::shown(came),
            Self::shown(expected),
        ))
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

    /// The parameter `name`, which counts, is inside another JSON value, at `path`.
    pub fn misplaced(name: &str, path: &str) -> Self {
        Self::invalid_parameters(&format!(
            "`{name}` is inside another value of the JSON object, at {}; put it at the top, next to the others",
            Self::shown(path)
        ))
    }

    /// A value as a refusal shows it: in quotes and cut. What a page or a terminal could interpret, and what
    /// nobody sees, such as a no-break space, is escaped.
    pub(super) fn shown(value: &str) -> String {
        let mut shown = String::from('"');
        let mut left = value.chars();
        for character in left.by_ref().take(SHOWN_CHARACTERS) {
            match character {
                '<' | '>' | '&' | '"' | '\'' | '`' | '\\' => {
                    shown.extend(character.escape_unicode());
                }
                _ => shown.extend(character.escape_debug()),
            }
        }
        if left.as_str().is_empty() {
            shown.push('"');
        } else {
            shown.push_str("…\"");
            shown.push_str(&format!(" ({} bytes)", value.len()));
        }
        shown
    }

    /// The parameter or member that the refusal is about, if it names one.
    pub fn parameter(&self) -> Option<String> {
        let is_of_name = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
        let text = match self {
            Self::InvalidParameters(text) | Self::ParameterMismatch(text) => text.as_str(),
            Self::UrlNotAllowed(_) => "`url`",
            Self::InvalidSignature => "`sig`",
            _ => return None,
        };
        // Every text names it first, between backticks; no value is shown with one.
        let name = text.split('`').nth(1)?;
        Some(name.chars().filter(is_of_name).take(MAX_NAME_BYTES).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_came() {
        for (value, shown) in [
            ("", "\"\""),
            ("49,90 x", "\"49,90 x\""),
            ("€49", "\"€49\""),
            ("５ Straße", "\"５ Straße\""),
            ("49\u{a0}90", "\"49\\u{a0}90\""),
            ("a\nb\0\u{7f}\u{202e}", "\"a\\nb\\0\\u{7f}\\u{202e}\""),
            ("<b>&\"'`\\", "\"\\u{3c}b\\u{3e}\\u{26}\\u{22}\\u{27}\\u{60}\\u{5c}\""),
            (&"ü".repeat(41), &format!("\"{}…\" (82 bytes)", "ü".repeat(40))),
        ] {
            assert_eq!(Refusal::shown(value), shown);
        }
        assert!(Refusal::shown(&"\u{10ffff}".repeat(1_000)).len() < 500);
    }

    #[test]
    fn names_the_parameter() {
        let of = |refusal: Refusal| refusal.parameter();
        assert_eq!(of(Refusal::invalid("currency", "`x`", "y")).as_deref(), Some("currency"));
        assert_eq!(of(Refusal::mismatch("checksum", "a", "b")).as_deref(), Some("checksum"));
        assert_eq!(of(Refusal::invalid("a\r\nb: c", "", "")).as_deref(), Some("abc"));
        assert_eq!(of(Refusal::invalid_parameters("no name")), None);
        assert_eq!(of(Refusal::Overloaded), None);
    }
}
