//! Checks of URLs that the tracker redirects people to.

use url::Url;

/// The maximum length of a program's or a link's URL in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// Whether a URL may contain macros, such as `{click_id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Macros {
    /// After the authority: in path, query and fragment.
    Allowed,
    /// Nowhere.
    Refused,
}

/// Why a text is not accepted as a URL. Says it with the member or parameter as its subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Longer than [`MAX_URL_BYTES`]: its length.
    #[error("has {0} bytes; at most {MAX_URL_BYTES} are accepted")]
    TooLong(usize),
    /// A character that clients remove or read as another.
    #[error("holds a control character, white space or a backslash")]
    Character,
    /// Not a URL by the URL standard.
    #[error("is not a URL: {0}")]
    Syntax(url::ParseError),
    /// Another scheme than http and https.
    #[error("has the scheme `{0}`; http and https are accepted")]
    Scheme(String),
    /// A scheme that no `//` follows.
    #[error("has no `//` after its scheme")]
    NoAuthority,
    /// An empty authority.
    #[error("has no host")]
    NoHost,
    /// A user name before the host.
    #[error("holds user information, which is not accepted")]
    UserInformation,
    /// A macro in the authority.
    #[error("has a macro outside path, query and fragment")]
    MacroInAuthority,
    /// A percent sign in the authority.
    #[error("has a percent-encoded host, which is not accepted")]
    EncodedHost,
    /// A macro, with [`Macros::Refused`].
    #[error("holds a macro; only `landingUrl` takes macros")]
    Macro,
}

/// Parses a URL, and accepts only what browsers (which follow the URL standard, `url.spec.whatwg.org`)
/// and other clients (which follow RFC 3986) read alike: http or https, with a host, without user
/// information. Macros are allowed only after the authority, so that no parameter of a request can choose
/// the host.
///
/// The authority is what is between `//` and the first `/`, `?` or `#` of the text **as written**,
/// because macros are filled in the text, not in the parsed URL.
pub fn parse(text: &str, macros: Macros) -> Result<Url, InvalidUrl> {
    if text.len() > MAX_URL_BYTES {
        return Err(InvalidUrl::TooLong(text.len()));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(InvalidUrl::Character);
    }
    let parsed = Url::parse(text).map_err(InvalidUrl::Syntax)?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(InvalidUrl::Scheme(parsed.scheme().to_owned()));
    }
    let (authority, rest) = split_at_authority(text).ok_or(InvalidUrl::NoAuthority)?;
    if authority.is_empty() {
        return Err(InvalidUrl::NoHost);
    }
    if authority.contains('@') {
        return Err(InvalidUrl::UserInformation);
    }
    if authority.contains(['{', '}']) {
        return Err(InvalidUrl::MacroInAuthority);
    }
    if authority.contains('%') {
        return Err(InvalidUrl::EncodedHost);
    }
    if macros == Macros::Refused && rest.contains(['{', '}']) {
        return Err(InvalidUrl::Macro);
    }
    Ok(parsed)
}

/// Splits an http or https URL, as written, into its authority and the rest. Returns `None` if the text
/// does not begin with such a scheme and `//`. A browser splits it in the same place only if [`parse`]
/// accepts the text.
pub fn split_at_authority(text: &str) -> Option<(&str, &str)> {
    let after = |scheme: &str| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after("https://").or_else(|| after("http://"))?;
    Some(rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_web_urls_with_macros_after_the_authority() {
        for text in [
            "https://shop.example",
            "HTTPS://Shop.example:8443/a/{b}?c={d}#{e}",
            "http://shop.example?a={b}",
            "https://b\u{fc}cher.example/{x}",
            "http://[::1]:80/#://{x}",
        ] {
            assert!(parse(text, Macros::Allowed).is_ok(), "{text}");
        }
    }

    #[test]
    fn rejects_urls_that_a_browser_may_read_differently() {
        for text in [
            // A browser takes what is before the second colon for the host.
            "https:{host}://shop.example/",
            "https:evil.example://shop.example/",
            "https:/evil.example/://shop.example/",
            "https:evil.example",
            "https:///evil.example",
            "https://%7Bhost%7D/",
            "https://{host}",
            "https://shop.example{x}",
            "https://shop.example:{port}/",
            "https://{user}@shop.example/",
            "https://@shop.example/",
            "https://shop.example\\.evil.example/",
            "https://shop.example\u{ff0f}.evil.example/",
            "//shop.example/",
            "/shop.example",
            "",
            "{url}",
            "{scheme}://shop.example/",
            "ftp://shop.example/",
            "javascript://shop.example/%0aalert(1)",
            " https://shop.example/",
            "https://shop.example/\u{2003}",
            "https://shop.example/\n",
        ] {
            assert!(parse(text, Macros::Allowed).is_err(), "{text}");
        }
    }
}
