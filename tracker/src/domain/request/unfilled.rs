//! Recognizes the macros of ad platforms that nobody filled, where an id is expected.

use percent_encoding::percent_decode_str;
use uuid::Uuid;

/// What opens and closes a macro on the platforms that we know of. The name in between is one word where the
/// signs could also surround an id.
const DELIMITERS: [(&str, &str, Name); 13] = [
    ("{{", "}}", Name::Anything),
    ("${", "}", Name::Anything),
    ("{", "}", Name::Anything),
    ("%%", "%%", Name::Anything),
    ("[%", "%]", Name::Anything),
    ("<%", "%>", Name::Anything),
    ("[[", "]]", Name::Word),
    ("[", "]", Name::Word),
    ("<", ">", Name::Word),
    ("%", "%", Name::Word),
    ("#", "#", Name::Word),
    ("__", "__", Name::UpperCase),
    ("*|", "|*", Name::Word),
];

/// What a script writes if it has no value.
const NO_VALUE: [&str; 4] = ["null", "undefined", "(null)", "[object Object]"];

/// How the name of a macro may look.
#[derive(Clone, Copy)]
enum Name {
    Anything,
    /// A letter or underscore, then letters, digits and signs that join words.
    Word,
    /// As a word, without lower case.
    UpperCase,
}

/// Whether `text` is nothing but an unfilled macro (`{txid}`, `${X}`, `{{x}}`, `[X]`, `%%X%%`, …, also
/// percent-encoded), or what a script writes for a missing value (`null`, `undefined`).
pub fn is_unfilled(text: &str) -> bool {
    // Nearly every id begins with a letter or a digit.
    let may_be = text
        .as_bytes()
        .first()
        .is_some_and(|first| !first.is_ascii_alphanumeric() || matches!(first | 0x20, b'n' | b'u'));
    may_be && is_macro(text)
}

#[cold]
fn is_macro(text: &str) -> bool {
    let text = text.trim();
    if NO_VALUE.iter().any(|none| none.eq_ignore_ascii_case(text)) || is_delimited(text) {
        return true;
    }
    // Encoded once more than it is decoded: `%7Bclick_id%7D`.
    text.contains('%')
        && percent_decode_str(text).decode_utf8().is_ok_and(|text| is_delimited(text.trim()))
}

fn is_delimited(text: &str) -> bool {
    DELIMITERS.iter().any(|(open, close, name)| {
        text.strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
            .is_some_and(|inner| name.matches(inner))
    })
}

impl Name {
    fn matches(self, name: &str) -> bool {
        let is_word = || {
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:|@ ".contains(c))
        };
        match self {
            // `{019b7ca9-…}` is a way to write a UUID, which is an id.
            Self::Anything => !name.is_empty() && Uuid::try_parse(name).is_err(),
            Self::Word => is_word(),
            Self::UpperCase => is_word() && !name.contains(|c: char| c.is_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_macros_of_the_platforms() {
        for text in [
            "{txid}",
            "{click_id}",
            "${AUCTION_PRICE}",
            "{{campaign.id}}",
            "[CLICKID]",
            "%%CACHEBUSTER%%",
            "%7Bclick_id%7D",
            "%257Btxid%257D".replace("%25", "%").as_str(),
            "%5BCLICKID%5D",
            "%24%7BID%7D",
            "%25%25X%25%25",
            "__CLICKID__",
            "[%tp_id%]",
            "<CLICK_ID>",
            "%txid%",
            "#reqid#",
            "*|MC_ID|*",
            "null",
            "NULL",
            "undefined",
            "(null)",
            "[object Object]",
            " {txid} ",
            "{0}",
            "{}x{}",
            "{transaction id}",
        ] {
            assert!(is_unfilled(text), "{text}");
        }
        for text in [
            "",
            "t-1",
            "{",
            "{}",
            "[]",
            "%%%%",
            "[1001]",
            "{019b7ca9-8f2e-7707-8707-070707070707}",
            "#1001",
            "#1001#",
            "__abc__",
            "nullable",
            "unknown",
            "n",
            "x{txid}",
            "{txid}x",
            "order-{txid}",
            "50%",
            "<1>",
            "üñ",
            "\u{fffd}",
            "%ff",
        ] {
            assert!(!is_unfilled(text), "{text}");
        }
    }
}
