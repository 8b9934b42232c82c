//! The TOML parser's messages in the words of a scenario's author, who does not know Rust's types.

/// What the parser calls what it expected, and what an author calls it.
const EXPECTED: [(&str, &str); 12] = [
    ("a sequence", "a list"),
    ("a map", "a table"),
    ("a string", "a text in quotes"),
    ("a boolean", "true or false"),
    ("f64", "a number"),
    ("i64", "an integer"),
    ("u16", "an integer"),
    ("u32", "an integer"),
    ("u64", "an integer"),
    ("string or table", "a text in quotes"),
    ("variant identifier", "a text in quotes"),
    ("an option", "a value"),
];

/// Says what was expected and what was found, in one line.
pub(super) fn explain(message: &str) -> String {
    let line = message.replace('\n', "; ");
    if let Some(rest) = line.strip_prefix("invalid type: ")
        && let Some((found, expected)) = rest.split_once(", expected ")
    {
        return format!("expected {}, not {}", expected_in_words(expected), found_in_words(found));
    }
    for prefix in ["unknown variant ", "unknown field "] {
        if let Some(rest) = line.strip_prefix(prefix)
            && let Some((found, expected)) = rest.split_once(", ")
        {
            return format!("{found} is not known; {expected}");
        }
    }
    match line.strip_prefix("missing field ") {
        Some(name) => format!("{name} is missing"),
        None => line,
    }
}

fn expected_in_words(expected: &str) -> String {
    if let Some((_, words)) = EXPECTED.iter().find(|(rust, _)| *rust == expected) {
        return (*words).to_owned();
    }
    if expected.starts_with("struct ") {
        return "a table".to_owned();
    }
    if expected.starts_with("enum ") {
        return "a text in quotes".to_owned();
    }
    expected.to_owned()
}

fn found_in_words(found: &str) -> String {
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        other => match other.split_once(' ') {
            Some(("integer", value)) => format!("the integer {value}"),
            Some(("floating", value)) => {
                format!("the number {}", value.trim_start_matches("point "))
            }
            Some(("string", value)) => format!("the text {value}"),
            Some(("boolean", value)) => value.replace('`', ""),
            _ => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_of_lists_tables_and_texts() {
        for (message, expected) in [
            (
                "invalid type: integer `3`, expected a sequence",
                "expected a list, not the integer `3`",
            ),
            ("invalid type: string \"x\", expected f64", "expected a number, not the text \"x\""),
            ("invalid type: map, expected a string", "expected a text in quotes, not a table"),
            (
                "invalid type: boolean `true`, expected struct Requests",
                "expected a table, not true",
            ),
            ("unknown variant `a`, expected `b` or `c`", "`a` is not known; expected `b` or `c`"),
            ("missing field `kind`", "`kind` is missing"),
            ("a\nb", "a; b"),
        ] {
            assert_eq!(explain(message), expected);
        }
    }
}
