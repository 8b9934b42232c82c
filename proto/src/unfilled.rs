//! Recognizes the macros of ad platforms that nobody filled, and texts that differ only in what nobody sees, where
//! an id is expected.
//!
//! A macro that is taken for an id makes one event of all that have it. An id that is taken for a macro is lost. So
//! the signs of a macro decide alone only where no id has them; otherwise the name between them decides, too.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use uuid::Uuid;

/// What opens and closes a macro on the platforms that we know of, and the name in between.
const DELIMITERS: [(&str, &str, Name); 32] = [
    ("{{", "}}", Name::Anything),
    ("${", "}", Name::Anything),
    ("#{", "}", Name::Anything),
    ("{", "}", Name::Anything),
    ("%%", "%%", Name::Anything),
    ("[%", "%]", Name::Anything),
    ("<%", "%>", Name::Anything),
    ("<?", "?>", Name::Anything),
    ("[[", "]]", Name::Word),
    ("[", "]", Name::Word),
    ("<", ">", Name::Word),
    ("%", "%", Name::Word),
    ("%", "!", Name::Word),
    ("%%", "!", Name::Word),
    ("#", "#", Name::Word),
    ("*|", "|*", Name::Word),
    ("__", "__", Name::UpperCase),
    ("$", "$", Name::Letters),
    ("$", "", Name::Letters),
    (":", "", Name::Letters),
    ("@@", "@@", Name::Letters),
    ("@", "@", Name::Letters),
    ("~", "~", Name::Letters),
    ("!", "!", Name::Letters),
    ("_", "_", Name::OneCase),
    // Cut off.
    ("{", "", Name::Letters),
    ("{{", "", Name::Letters),
    ("${", "", Name::Letters),
    ("#{", "", Name::Letters),
    ("{{", "}", Name::Letters),
    ("", "}", Name::Letters),
    ("", "}}", Name::Letters),
];

/// What a script, a spreadsheet or a database writes if it has no value.
const NO_VALUE: [&str; 13] = [
    "null",
    "(null)",
    "undefined",
    "[object object]",
    "none",
    "nil",
    "nan",
    "n/a",
    "na",
    "true",
    "false",
    "-",
    "0",
];

/// What instructions for copying begin with: `INSERT_TRANSACTION_ID_HERE`.
const PLACEHOLDER_VERBS: [&str; 8] =
    ["insert", "enter", "put", "add", "paste", "fill", "replace", "your"];

/// Characters that HTML escapes, as in a link that a page shows.
const HTML_ESCAPES: [(&str, &str); 14] = [
    ("&#123;", "{"),
    ("&#x7b;", "{"),
    ("&lcub;", "{"),
    ("&lbrace;", "{"),
    ("&#125;", "}"),
    ("&#x7d;", "}"),
    ("&rcub;", "}"),
    ("&rbrace;", "}"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&#91;", "["),
    ("&#93;", "]"),
    ("&#36;", "$"),
    ("&#37;", "%"),
];

/// How the name of a macro may look.
#[derive(Clone, Copy)]
enum Name {
    Anything,
    /// A letter or underscore, then letters, digits and signs that join words.
    Word,
    /// As a word, without lower case.
    UpperCase,
    /// ASCII letters and signs that join words, at least two: the signs around it could be part of an id.
    Letters,
    /// As letters, all of them in upper case or all in lower case: base64url has the signs around it.
    OneCase,
}

/// Whether `text` is nothing but an unfilled macro ([`is_macro`]), or what a script writes for a missing value
/// (`null`, `undefined`, `None`, `NaN`, `0`, …).
pub fn is_unfilled(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    // Nearly every id begins and ends with a letter or a digit. The letters are those with which a word of
    // `NO_VALUE` begins, and with which a placeholder ends; the digit is 0.
    let may_be = !first.is_ascii_alphanumeric()
        || !last.is_ascii_alphanumeric()
        || matches!(first | 0x20, b'n' | b'u' | b't' | b'f' | b'0')
        || last | 0x20 == b'e';
    may_be && (is_missing(text) || is_macro(text))
}

#[cold]
fn is_missing(text: &str) -> bool {
    let text = visible(text);
    NO_VALUE.iter().any(|none| none.eq_ignore_ascii_case(text))
}

/// Whether `text` is nothing but an unfilled macro: `{txid}`, `${X}`, `{{x}}`, `[X]`, `%%X%%`, `INSERT_X_HERE`, …,
/// also percent-encoded, escaped for HTML, or with a brace cut off.
#[cold]
pub fn is_macro(text: &str) -> bool {
    let text = visible(text);
    is_delimited(text)
        || is_placeholder(text)
        || text.contains(['%', '&']) && is_delimited(visible(&unescaped(text)))
}

/// Whether `text`, as it stands in a query, is a macro whose first letters look like an escape: `%%CACHEBUSTER%%`,
/// `%ecid!`.
pub fn is_percent_macro(text: &str) -> bool {
    let has_end = text.ends_with(['%', '!']);
    has_end && text.starts_with('%') && is_delimited(text)
}

/// `text` without blanks and other characters that nobody sees at its ends: control characters, byte-order marks,
/// and spaces of all widths.
pub fn visible(text: &str) -> &str {
    text.trim_matches(is_invisible)
}

fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{2064}'
                | '\u{feff}'
        )
}

fn is_delimited(text: &str) -> bool {
    DELIMITERS.iter().any(|(open, close, name)| {
        text.strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
            .is_some_and(|inner| name.matches(inner))
    })
}

fn is_placeholder(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let mut words = text.split(['_', '-', ' ']);
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    words.next().is_some_and(|first| PLACEHOLDER_VERBS.contains(&first))
        && words.next_back() == Some("here")
        && words.all(is_word)
}

/// The text with escapes that were made once too often undone: `%7B`, `%u007B` (JavaScript's `escape`) and
/// `&#123;`.
fn unescaped(text: &str) -> Cow<'_, str> {
    if text.contains('&') {
        let text = text.to_ascii_lowercase();
        let replace = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        return HTML_ESCAPES.iter().fold(text, replace).into();
    }
    let text = text.replace("%u00", "%").replace("%U00", "%");
    percent_decode_str(&text).decode_utf8_lossy().into_owned().into()
}

impl Name {
    fn matches(self, name: &str) -> bool {
        let is_word = || {
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:|@ ".contains(c))
        };
        let is_letters = || {
            name.len() >= 2
                && name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name.bytes().all(|byte| byte.is_ascii_alphabetic() || b"_-.".contains(&byte))
        };
        let has_no = |is: fn(&u8) -> bool| !name.as_bytes().iter().any(is);
        match self {
            // `{019b7ca9-…}` is a way to write a UUID, which is an id.
            Self::Anything => Uuid::try_parse(name).is_err(),
            Self::Word => is_word(),
            Self::UpperCase => is_word() && has_no(u8::is_ascii_lowercase),
            Self::Letters => is_letters(),
            Self::OneCase => {
                is_letters() && (has_no(u8::is_ascii_lowercase) || has_no(u8::is_ascii_uppercase))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            "%5BCLICKID%5D",
            "%24%7BID%7D",
            "%25%25X%25%25",
            "__CLICKID__",
            "[%tp_id%]",
            "<CLICK_ID>",
            "%txid%",
            "#reqid#",
            "*|MC_ID|*",
            " {txid} ",
            "\u{feff}{txid}",
            "{0}",
            "{}",
            "${}",
            "{}x{}",
            "{transaction id}",
            "#{txid}",
            "$txid",
            "$txid$",
            "@txid@",
            "@@txid@@",
            "~txid~",
            "!txid!",
            "%txid!",
            "%%txid!",
            "%ecid!",
            "%s!",
            ":txid",
            "<?=txid?>",
            "<?= $txid ?>",
            "{txid",
            "txid}",
            "{{txid",
            "{{txid}",
            "txid}}",
            "${txid",
            "_txid_",
            "_TXID_",
            "INSERT_TXID_HERE",
            "insert-transaction-id-here",
            "Your_Click_Id_Here",
            "&#123;txid&#125;",
            "&#x7B;txid&#x7D;",
            "&lbrace;txid&rbrace;",
            "&lt;txid&gt;",
            "%u007Btxid%u007D",
            "%u007btxid%u007d",
        ] {
            assert!(is_macro(text) && is_unfilled(text), "{text}");
        }
        for text in [
            "null",
            "NULL",
            "undefined",
            "(null)",
            "[object Object]",
            "None",
            "nil",
            "NaN",
            "N/A",
            "na",
            "TRUE",
            "false",
            "-",
            "0",
            " 0\n",
        ] {
            assert!(is_unfilled(text), "{text}");
        }
        for text in [
            "",
            " ",
            "t-1",
            "{",
            "}",
            "[]",
            "[1001]",
            "{019b7ca9-8f2e-7707-8707-070707070707}",
            "#1001",
            "#1001#",
            "$1001",
            "$a1",
            "@a",
            "@user",
            "~",
            "_a1_",
            "_aB_",
            "__abc__",
            "_x",
            ":1",
            ":a",
            "!",
            "{a1",
            "00",
            "0.0",
            "--",
            "nullable",
            "nana",
            "truest",
            "unknown",
            "n",
            "x{txid}",
            "{txid}x",
            "order-{txid}",
            "50%",
            "here",
            "order_1_here",
            "insert_1_here",
            "inserthere",
            "<1>",
            "üñ",
            "\u{fffd}",
            "%ff",
            "a&b",
        ] {
            assert!(!is_unfilled(text), "{text}");
        }
    }

    #[test]
    fn recognizes_macros_that_look_like_escapes() {
        for text in ["%%CACHEBUSTER%%", "%ecid!", "%ad_id%", "%%ecid!"] {
            assert!(is_percent_macro(text), "{text}");
        }
        for text in ["%7Bx%7D", "%41%42", "%C3%A9!", "100%", "%%", "%", "%41!", "x%ecid!", "{x}"] {
            assert!(!is_percent_macro(text), "{text}");
        }
    }

    #[test]
    fn trims_what_nobody_sees() {
        for text in [
            "o1",
            "o1 ",
            " o1",
            "o1\r\n",
            "\to1",
            "o1\0",
            "\u{feff}o1",
            "\u{200b}o1\u{a0}",
            "o1\u{85}",
        ] {
            assert_eq!(visible(text), "o1", "{text:?}");
        }
        assert_eq!(visible("\0\u{200b} "), "");
        assert_eq!(visible("o 1"), "o 1");
    }

    proptest! {
        #[test]
        fn takes_no_id_for_a_macro(
            number in 1_u64..,
            id: [u8; 16],
            base64 in "[A-Za-z0-9_-]{22}",
            padded in "[A-Za-z0-9+/]{22}==",
            hex in "[0-9a-f]{16,64}",
            order in "[A-Z]{0,3}[-_#]?[0-9]{1,12}",
        ) {
            let uuid = Uuid::from_bytes(id);
            let ids = [
                number.to_string(),
                format!("-{number}"),
                uuid.to_string(),
                uuid.simple().to_string(),
                uuid.braced().to_string(),
                base64,
                padded,
                hex.to_uppercase(),
                hex,
            ];
            for id in ids {
                prop_assert!(!is_unfilled(&id), "{}", id);
            }
            prop_assert!(order == "0" || !is_unfilled(&order), "{}", order);
        }

        #[test]
        fn whatever_it_is_may_be_asked(text: String) {
            let _ = (is_unfilled(&text), is_percent_macro(&text), visible(&text));
        }
    }
}
