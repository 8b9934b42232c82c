//! Finds the parameter that is meant by a name that nobody knows: `Amount`, `amount[]`, `transactionId`.

use adtrack_proto::unfilled::visible;

/// Whether `name` may mean one of `known`. Cheap: nearly all parameters of clean requests are asked, and it is true
/// for hardly any of them. Letters that begin a name are never dropped by [`fold`].
pub(super) fn may_mean_any(name: &str, known: &[&str]) -> bool {
    // The shortest name of ours is `sig`.
    let [first, second, _, ..] = *name.as_bytes() else { return false };
    !first.is_ascii_alphanumeric()
        || !second.is_ascii_alphanumeric()
        || known.iter().any(|known| known.as_bytes().starts_with(&[first | 0x20, second | 0x20]))
}

/// The one of `known` that `name` means.
pub fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut known = known.into_iter().peekable();
    known.peek()?;
    let folded = fold(name);
    known.find(|known| fold(known) == folded)
}

/// A name without what differs between the ways of writing it: case, what joins its words, `[]` or an index
/// behind it, and what is left of a URL around it.
fn fold(name: &str) -> String {
    let mut rest = name;
    loop {
        let trimmed = visible(rest.trim_matches(['+', '?', '&', ';', ' ']));
        let shorter = without_index(trimmed);
        if shorter.len() == rest.len() {
            break;
        }
        rest = shorter;
    }
    rest.chars().filter(|c| !['_', '-'].contains(c)).map(|c| c.to_ascii_lowercase()).collect()
}

/// `amount` of `amount[]` and `amount[0]`.
fn without_index(name: &str) -> &str {
    let before = name.strip_suffix(']').and_then(|open| open.rsplit_once('['));
    match before {
        Some((before, index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: [&str; 4] = ["amount", "transaction_id", "customerId", "sig"];

    #[test]
    fn finds_what_a_name_means() {
        for (name, known) in [
            ("Amount", Some("amount")),
            ("AMOUNT", Some("amount")),
            ("amount[]", Some("amount")),
            ("amount[0]", Some("amount")),
            ("amount[] ", Some("amount")),
            ("?amount", Some("amount")),
            ("+amount", Some("amount")),
            (" amount\0", Some("amount")),
            ("\u{feff}amount", Some("amount")),
            ("&;amount", Some("amount")),
            ("transactionId", Some("transaction_id")),
            ("transaction-ID", Some("transaction_id")),
            ("TRANSACTION_ID[]", Some("transaction_id")),
            ("customer_id", Some("customerId")),
            ("Sig", Some("sig")),
            ("amounts", None),
            ("amount[x]", None),
            ("amount.", None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(meant(name, KNOWN), known, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn the_cheap_test_misses_none(
            known in prop::sample::select(KNOWN.to_vec()),
            upper: [bool; 16],
            join in "[_-]?",
            (before, after) in ("[+? \u{feff}\0]{0,2}", "(\\[[0-9]?\\])?[ \0]?"),
        ) {
            let mut name = before;
            for (position, c) in known.chars().enumerate() {
                match c {
                    '_' => name.push_str(&join),
                    c if upper[position] => name.push(c.to_ascii_uppercase()),
                    c => name.push(c),
                }
            }
            name.push_str(&after);
            prop_assert_eq!(meant(&name, KNOWN), Some(known), "{:?}", name);
            prop_assert!(may_mean_any(&name, &KNOWN), "{:?}", name);
        }
    }
}
