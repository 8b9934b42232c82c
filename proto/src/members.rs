//! The members of a core-data record, each declared once. The JSON form, the Redis hash, the columns of
//! a CSV file and the table in docs/CORE_DATA.md follow from this declaration. `program_json`
//! checks the values; it does not compile until it handles every member.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::program::InvalidCoreData;

/// A member of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its name in JSON, in the hash, and as a CSV column.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// Whether a program must have it.
    pub required: bool,
    /// What it means and which values are accepted, in Markdown.
    pub description: &'static str,
}

/// The kind of a member's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A 64-bit integer, or the same as a string.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    List,
    /// An object whose values are strings.
    Pairs,
}

// The columns: name, field of `RawRecord`, kind with the field's type, whether it is required, description.
macro_rules! members {
    ($($name:literal: $field:ident, $kind:ident<$type:ty>, $required:literal, $description:literal;)*) => {
        /// The members that adtrack reads, in the order in which it writes them.
        pub const MEMBERS: [Member; [$($name),*].len()] = [$(Member {
            name: $name,
            kind: Kind::$kind,
            required: $required,
            description: $description,
        }),*];

        /// The fields of a program's hash in Redis.
        pub(crate) const HASH_FIELDS: [&str; MEMBERS.len() + 1] = ["version", $($name),*];

        /// A record before validation, from JSON or from a hash. All members are optional here;
        /// validation reports a missing one by name. `null` counts as absent, and unknown members are
        /// ignored.
        #[derive(Debug, Default, Serialize, Deserialize)]
        pub(crate) struct RawRecord {
            $(
                #[serde(rename = $name, skip_serializing_if = "Option::is_none")]
                pub(crate) $field: Option<$type>,
            )*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub(crate) version: Option<String>,
        }

        impl RawRecord {
            /// The hash's fields and values.
            pub(crate) fn into_hash(self) -> Vec<(&'static str, String)> {
                let Self { version, $($field),* } = self;
                let fields = [
                    ("version", version),
                    $(($name, $field.map(|value| value.to_text()))),*
                ];
                fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
            }

            /// Reads the values of [`HASH_FIELDS`], in their order.
            pub(crate) fn from_hash(
                values: impl IntoIterator<Item = Option<String>>,
            ) -> Result<Self, InvalidCoreData> {
                let mut values = values.into_iter();
                let mut next = || values.next().flatten();
                Ok(Self {
                    version: next(),
                    $($field: from_text($name, next())?),*
                })
            }
        }
    };
}

members! {
    "programId": program_id, Text<String>, true,
        "1 to 128 characters of `A-Z a-z 0-9 . _ ~ -`";
    "programName": program_name, Text<String>, true, "up to 512 bytes";
    "checksum": checksum, Text<String>, true,
        "up to 512 bytes; what a tracking link may carry to show that it was made for the program";
    "customerId": customer_id, Integer<CustomerId>, true,
        "a 64-bit integer, or the same as a string";
    "customerName": customer_name, Text<String>, true, "up to 512 bytes";
    "valid": valid, Boolean<bool>, true, "false: disabled";
    "validFrom": valid_from, Text<String>, false, "RFC 3339: the moment from which it runs";
    "validUntil": valid_until, Text<String>, false,
        "RFC 3339: the moment from which it no longer runs";
    "landingUrl": landing_url, Text<String>, false,
        "where a click goes: http or https, up to 2,048 bytes; macros only after the host ([CLICKS.md](CLICKS.md))";
    "fallbackUrl": fallback_url, Text<String>, false,
        "where a click goes if the program does not run or has no landing page: http or https, up to 2,048 bytes";
    "allowedHosts": allowed_hosts, List<Vec<String>>, false,
        "up to 100 host names that a click's `url` may lead to";
    "conversionKeyId": conversion_key_id, Text<String>, false,
        "the key that conversions must be signed with: an id of up to 64 bytes, never the secret";
    "parameterAliases": parameter_aliases, Pairs<Aliases>, false,
        "an object of up to 20 entries that map a network's names of conversion parameters to adtrack's, such as `{\"payout\":\"amount\"}`";
    "statusAliases": status_aliases, Pairs<Aliases>, false,
        "an object of up to 50 entries that map a network's values of `status` to `pending`, `approved`, `rejected` or `refunded`, such as `{\"1\":\"approved\"}`; case does not matter";
    "test": test, Boolean<bool>, false, "true for smoke and load tests: its events are marked";
    "deleted": deleted, Boolean<bool>, false, "true deletes the program; members other than `programId` are ignored";
}

/// Why a text in the hash is not a member's value.
#[derive(Debug, thiserror::Error)]
enum InvalidText {
    #[error("{0:?} is neither true nor false")]
    Boolean(String),
    #[error("{0:?} is not a 64-bit integer")]
    Integer(String),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// A value that the hash holds as text.
trait HashValue: Sized {
    fn to_text(&self) -> String;
    fn parse(text: String) -> Result<Self, InvalidText>;
}

fn from_text<T: HashValue>(
    member: &'static str,
    text: Option<String>,
) -> Result<Option<T>, InvalidCoreData> {
    let invalid =
        |error: InvalidText| InvalidCoreData::Member { member, problem: error.to_string() };
    text.map(T::parse).transpose().map_err(invalid)
}

impl HashValue for String {
    fn to_text(&self) -> String {
        self.clone()
    }

    fn parse(text: String) -> Result<Self, InvalidText> {
        Ok(text)
    }
}

impl HashValue for bool {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn parse(text: String) -> Result<Self, InvalidText> {
        text.parse().map_err(|_| InvalidText::Boolean(text))
    }
}

impl HashValue for Vec<String> {
    fn to_text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    fn parse(text: String) -> Result<Self, InvalidText> {
        Ok(serde_json::from_str(&text)?)
    }
}

/// The entries of an object of aliases.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Aliases(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Aliases {
    /// Refuses a name that is given twice: one of its meanings would be lost.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Aliases;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of aliases")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((theirs, ours)) = map.next_entry::<String, String>()? {
                    if let Some(other) = entries.insert(theirs.clone(), ours.clone()) {
                        let problem = format!(
                            "the alias {theirs:?} is given twice, for {other:?} and {ours:?}; give it once"
                        );
                        return Err(serde::de::Error::custom(problem));
                    }
                }
                Ok(Aliases(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl HashValue for Aliases {
    fn to_text(&self) -> String {
        serde_json::json!(self).to_string()
    }

    fn parse(text: String) -> Result<Self, InvalidText> {
        Ok(serde_json::from_str(&text)?)
    }
}

/// An integer, or the same as a string: the reference's sample has `"customerId":"9124"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct CustomerId(pub(crate) i64);

impl CustomerId {
    /// Accepts digits with an optional minus sign; `i64::from_str` would accept a plus sign, too.
    fn from_text(text: &str) -> Option<Self> {
        if text.starts_with('+') { None } else { text.parse().ok().map(Self) }
    }
}

impl HashValue for CustomerId {
    fn to_text(&self) -> String {
        self.0.to_string()
    }

    fn parse(text: String) -> Result<Self, InvalidText> {
        Self::from_text(&text).ok_or(InvalidText::Integer(text))
    }
}

impl<'de> Deserialize<'de> for CustomerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerOrText;
        impl Visitor<'_> for IntegerOrText {
            type Value = CustomerId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`customerId` as a 64-bit integer, or the same as a string")
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(CustomerId(value))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
                i64::try_from(value)
                    .map(CustomerId)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                CustomerId::from_text(text)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(IntegerOrText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_lists_every_member() {
        let row = |member: &Member| {
            let requirement = if member.required { "required" } else { "optional" };
            format!("| `{}` | {requirement} | {} |\n", member.name, member.description)
        };
        let table: String = MEMBERS.iter().map(row).collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CORE_DATA.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains(&table), "docs/CORE_DATA.md should have the rows\n{table}");
    }
}
