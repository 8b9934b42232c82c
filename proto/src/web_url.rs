//! What a URL must be that people are sent to.

use url::Url;

/// The longest URL of a program or a link, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// Whether a URL may hold macros, such as `{click_id}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Macros {
    /// Behind the authority: in path, query and fragment.
    Allowed,
    /// Nowhere.
    Refused,
}

/// Reads `text` as a URL that browsers (by the URL standard, `url.spec.whatwg.org`) and everybody
/// else (by RFC 3986) read alike: http or https, a host, no user info. Macros stand only behind the
/// authority, so that no parameter of a request can choose the host.
///
/// The authority is what stands between `//` and the first `/`, `?` or `#` **as written**: macros are
/// filled in the text, not in what the parser made of it.
pub fn parse(text: &str, macros: Macros) -> Result<Url, String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!("has {} bytes; at most {MAX_URL_BYTES} are accepted", text.len()));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("holds a control character, white space or a backslash".to_owned());
    }
    let parsed = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(format!("has the scheme `{}`; http and https are accepted", parsed.scheme()));
    }
    let (authority, rest) = split_at_authority(text).ok_or("has no `//` behind its scheme")?;
    if authority.is_empty() {
        return Err("has no host".to_owned());
    }
    if authority.contains('@') {
        return Err("holds user information, which is not accepted".to_owned());
    }
    if authority.contains(['{', '}']) {
        return Err("has a macro outside path, query and fragment".to_owned());
    }
    if authority.contains('%') {
        return Err("has a percent-encoded host, which is not accepted".to_owned());
    }
    if macros == Macros::Refused && rest.contains(['{', '}']) {
        return Err("holds a macro; only `landingUrl` takes macros".to_owned());
    }
    Ok(parsed)
}

/// The authority of an http or https URL as it is written, and what follows it; none where the text
/// does not begin with a scheme and `//`. Only of a text that [`parse`] takes are they what a browser
/// takes them for.
pub fn split_at_authority(text: &str) -> Option<(&str, &str)> {
    let behind = |scheme: &str| {
        let (begin, rest) = text.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = behind("https://").or_else(|| behind("http://"))?;
    Some(rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_url_is_taken_with_macros_behind_the_authority() {
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
    fn what_a_browser_may_read_otherwise_is_refused() {
        for text in [
            // A browser takes what stands before the second colon for the host.
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
