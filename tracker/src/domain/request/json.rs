//! Flat JSON objects whose values become parameters, as text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member of a flat object: its name, and its value as text.
pub type Member<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Why a text is not a flat JSON object. Says where, and shows none of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObject {
    /// It is not a JSON object.
    #[error("{0}")]
    Malformed(String),
    /// A value is an object or an array.
    #[error("a value is an object or an array; expected a text, a number, true or false")]
    Nested,
}

/// The members of a JSON object, in order, without those that are null.
pub fn members(json: &str) -> Result<Vec<Member<'_>>, InvalidObject> {
    if !json.trim_ascii_start().starts_with('{') {
        return Err(InvalidObject::Malformed("expected a JSON object".to_owned()));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = deserializer.deserialize_map(Members).and_then(|members| {
        deserializer.end()?;
        Ok(members)
    });
    let raw = read.map_err(|error| InvalidObject::Malformed(format!("not JSON: {error}")))?;
    let mut members = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        if let Some(value) = scalar(value)? {
            members.push((name.0, value));
        }
    }
    Ok(members)
}

/// A value as text; `None` for null. A number keeps its digits as given.
pub fn scalar(value: &RawValue) -> Result<Option<Cow<'_, str>>, InvalidObject> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'{' | b'[') => Err(InvalidObject::Nested),
        Some(b'n') => Ok(None),
        Some(b'"') if json.contains('\\') => serde_json::from_str(json)
            .map(|text: String| Some(Cow::Owned(text)))
            .map_err(|error| InvalidObject::Malformed(format!("not JSON: {error}"))),
        Some(b'"') => Ok(Some(Cow::Borrowed(json.trim_matches('"')))),
        _ => Ok(Some(Cow::Borrowed(json))),
    }
}

/// A member's name, borrowed if it has no escapes.
#[derive(Debug)]
pub struct Name<'a>(pub Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Name<'de>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_members_as_given() {
        let json =
            r#" {"a":"x","b":49.90,"c":-1e3,"d":true,"e":null,"ü":"\"\u00fc\n","a":"","":0}"#;
        let members: Vec<_> = members(json).unwrap();
        let members: Vec<_> = members.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            members,
            [
                ("a", "x"),
                ("b", "49.90"),
                ("c", "-1e3"),
                ("d", "true"),
                ("ü", "\"ü\n"),
                ("a", ""),
                ("", "0"),
            ]
        );
    }

    #[test]
    fn reports_where_json_is_not_a_flat_object() {
        for (json, problem) in [
            ("", "expected a JSON object"),
            ("[1]", "expected a JSON object"),
            ("{\n\"a\":1,}", "not JSON: trailing comma at line 2 column 7"),
            ("{\"a\":1} x", "not JSON: trailing characters at line 1 column 9"),
            ("{\"a\":\"\\ud800\"}", "not JSON: "),
            ("{\"a\":{}}", "a value is an object or an array"),
            ("{\"a\":[]}", "a value is an object or an array"),
        ] {
            let error = members(json).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{json}: {error}");
        }
    }
}
