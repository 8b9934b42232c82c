//! Core data as JSON (stream and channel) and as a Redis hash. Both have the same members, so both
//! go through one raw form; what a value must be is checked in one place, [`validate`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::program::{
    CoreData, InvalidCoreData, MAX_ALIASES, MAX_ALLOWED_HOSTS, MAX_PARAMETER_NAME_BYTES,
    MAX_TEXT_BYTES, Program, Update, Validity,
};
use crate::web_url::{self, Macros};
use crate::{ProgramId, Version};

/// The fields of a program's hash in Redis.
pub(crate) const HASH_FIELDS: [&str; 16] = [
    "version",
    "programId",
    "programName",
    "checksum",
    "customerId",
    "customerName",
    "valid",
    "validFrom",
    "validUntil",
    "landingUrl",
    "fallbackUrl",
    "allowedHosts",
    "conversionKeyId",
    "parameterAliases",
    "test",
    "deleted",
];

/// The members as they stand in JSON. All optional: which are required is said by [`validate`],
/// whose errors name the member. `null` counts as absent; unknown members are ignored.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProgram {
    #[serde(skip_serializing_if = "Option::is_none")]
    program_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "customer_id")]
    customer_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    landing_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_hosts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversion_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_aliases: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// An integer, or the same as a string: the reference's sample has `"customerId":"9124"`.
fn customer_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct IntegerOrText;
    impl Visitor<'_> for IntegerOrText {
        type Value = Option<i64>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("`customerId` as a 64-bit integer, or the same as a string")
        }
        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok(Some(value))
        }
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
            let value = i64::try_from(value)
                .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
            Ok(Some(value))
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            parse_integer(text)
                .map(Some)
                .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(IntegerOrText)
}

/// Digits with an optional minus; `i64::from_str` would take a plus too.
fn parse_integer(text: &str) -> Option<i64> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}

pub(crate) fn core_data_from_json(json: &[u8]) -> Result<CoreData, InvalidCoreData> {
    validate(raw_from_json(json)?)
}

pub(crate) fn update_from_json(json: &[u8]) -> Result<Update, InvalidCoreData> {
    versioned(raw_from_json(json)?)
}

fn raw_from_json(json: &[u8]) -> Result<RawProgram, InvalidCoreData> {
    // serde's derived structs accept an array of the members' values too; a record is an object.
    if json.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        let problem = "expected a JSON object".to_owned();
        return Err(InvalidCoreData::Malformed { problem, line: 1, column: 1 });
    }
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let problem = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        InvalidCoreData::Malformed { problem, line, column }
    })
}

fn versioned(mut raw: RawProgram) -> Result<Update, InvalidCoreData> {
    let version = raw.version.take().ok_or(InvalidCoreData::Missing("version"))?;
    let version: Version = version.parse().map_err(|error| invalid("version", error))?;
    Ok(Update { version, core_data: validate(raw)? })
}

fn validate(raw: RawProgram) -> Result<CoreData, InvalidCoreData> {
    let program_id = raw.program_id.ok_or(InvalidCoreData::Missing("programId"))?;
    let program_id = ProgramId::parse(&program_id).map_err(|error| invalid("programId", error))?;
    if raw.deleted == Some(true) {
        return Ok(CoreData::Deleted(program_id));
    }
    let program = Program {
        program_id,
        program_name: text("programName", raw.program_name)?,
        checksum: text("checksum", raw.checksum)?,
        customer_id: raw.customer_id.ok_or(InvalidCoreData::Missing("customerId"))?,
        customer_name: text("customerName", raw.customer_name)?,
        validity: Validity {
            valid: raw.valid.ok_or(InvalidCoreData::Missing("valid"))?,
            from: timestamp("validFrom", raw.valid_from)?,
            until: timestamp("validUntil", raw.valid_until)?,
        },
        landing_url: url("landingUrl", raw.landing_url, Macros::Allowed)?,
        fallback_url: url("fallbackUrl", raw.fallback_url, Macros::Refused)?,
        allowed_hosts: hosts(raw.allowed_hosts.unwrap_or_default())?,
        conversion_key_id: key_id(raw.conversion_key_id)?,
        parameter_aliases: aliases(raw.parameter_aliases.unwrap_or_default())?,
        test: raw.test.unwrap_or(false),
    };
    if let (Some(from), Some(until)) = (program.validity.from, program.validity.until)
        && from > until
    {
        return Err(invalid("validUntil", "is before `validFrom`"));
    }
    Ok(CoreData::Program(Box::new(program)))
}

fn invalid(member: &'static str, problem: impl std::fmt::Display) -> InvalidCoreData {
    InvalidCoreData::Member { member, problem: problem.to_string() }
}

fn text(member: &'static str, value: Option<String>) -> Result<String, InvalidCoreData> {
    let value = value.ok_or(InvalidCoreData::Missing(member))?;
    if value.len() > MAX_TEXT_BYTES {
        let problem = format!("has {} bytes; at most {MAX_TEXT_BYTES} are accepted", value.len());
        return Err(invalid(member, problem));
    }
    Ok(value)
}

fn timestamp(
    member: &'static str,
    value: Option<String>,
) -> Result<Option<Timestamp>, InvalidCoreData> {
    value
        .map(|text| {
            text.parse().map_err(|_| {
                invalid(member, format!("{text:?} is not RFC 3339, as 2026-01-01T00:00:00Z is"))
            })
        })
        .transpose()
}

fn url(
    member: &'static str,
    value: Option<String>,
    macros: Macros,
) -> Result<Option<String>, InvalidCoreData> {
    value
        .map(|text| web_url::parse(&text, macros).map(|_| text))
        .transpose()
        .map_err(|problem| invalid(member, problem))
}

fn hosts(hosts: Vec<String>) -> Result<Vec<String>, InvalidCoreData> {
    let member = "allowedHosts";
    if hosts.len() > MAX_ALLOWED_HOSTS {
        let problem =
            format!("has {} hosts; at most {MAX_ALLOWED_HOSTS} are accepted", hosts.len());
        return Err(invalid(member, problem));
    }
    for host in &hosts {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
            let problem = format!("{host:?} is not a host name (ASCII, without scheme and port)");
            return Err(invalid(member, problem));
        }
    }
    Ok(hosts)
}

fn key_id(id: Option<String>) -> Result<Option<String>, InvalidCoreData> {
    if id.as_ref().is_some_and(|id| !(1..=MAX_PARAMETER_NAME_BYTES).contains(&id.len())) {
        let problem = format!("has 1 to {MAX_PARAMETER_NAME_BYTES} bytes");
        return Err(invalid("conversionKeyId", problem));
    }
    Ok(id)
}

fn aliases(aliases: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidCoreData> {
    let member = "parameterAliases";
    if aliases.len() > MAX_ALIASES {
        let problem = format!("has {} aliases; at most {MAX_ALIASES} are accepted", aliases.len());
        return Err(invalid(member, problem));
    }
    for name in aliases.iter().flat_map(|(theirs, ours)| [theirs, ours]) {
        if !(1..=MAX_PARAMETER_NAME_BYTES).contains(&name.len()) {
            let problem = format!(
                "{name:?} is no name of a parameter: 1 to {MAX_PARAMETER_NAME_BYTES} bytes"
            );
            return Err(invalid(member, problem));
        }
    }
    Ok(aliases)
}

fn raw_of(core_data: &CoreData, version: Option<&Version>) -> RawProgram {
    let version = version.map(Version::to_string);
    match core_data {
        CoreData::Deleted(program_id) => RawProgram {
            program_id: Some(program_id.to_string()),
            deleted: Some(true),
            version,
            ..RawProgram::default()
        },
        CoreData::Program(program) => RawProgram {
            program_id: Some(program.program_id.to_string()),
            program_name: Some(program.program_name.clone()),
            checksum: Some(program.checksum.clone()),
            customer_id: Some(program.customer_id),
            customer_name: Some(program.customer_name.clone()),
            valid: Some(program.validity.valid),
            valid_from: program.validity.from.map(|at| at.to_string()),
            valid_until: program.validity.until.map(|at| at.to_string()),
            landing_url: program.landing_url.clone(),
            fallback_url: program.fallback_url.clone(),
            allowed_hosts: Some(program.allowed_hosts.clone()).filter(|hosts| !hosts.is_empty()),
            conversion_key_id: program.conversion_key_id.clone(),
            parameter_aliases: Some(program.parameter_aliases.clone())
                .filter(|aliases| !aliases.is_empty()),
            test: program.test.then_some(true),
            deleted: None,
            version,
        },
    }
}

pub(crate) fn to_json(core_data: &CoreData, version: Option<&Version>) -> String {
    #[expect(clippy::expect_used, reason = "strings, numbers and booleans always serialise")]
    serde_json::to_string(&raw_of(core_data, version)).expect("core data serialises")
}

pub(crate) fn to_hash(update: &Update) -> Vec<(&'static str, String)> {
    let raw = raw_of(&update.core_data, Some(&update.version));
    let values = [
        raw.version,
        raw.program_id,
        raw.program_name,
        raw.checksum,
        raw.customer_id.map(|id| id.to_string()),
        raw.customer_name,
        raw.valid.map(|valid| valid.to_string()),
        raw.valid_from,
        raw.valid_until,
        raw.landing_url,
        raw.fallback_url,
        raw.allowed_hosts.map(|hosts| serde_json::json!(hosts).to_string()),
        raw.conversion_key_id,
        raw.parameter_aliases.map(|aliases| serde_json::json!(aliases).to_string()),
        raw.test.map(|test| test.to_string()),
        raw.deleted.map(|deleted| deleted.to_string()),
    ];
    HASH_FIELDS.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect()
}

pub(crate) fn update_from_hash(
    values: impl IntoIterator<Item = Option<String>>,
) -> Result<Update, InvalidCoreData> {
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    let boolean = |member: &'static str, value: Option<String>| {
        value
            .map(|text| {
                text.parse()
                    .map_err(|_| invalid(member, format!("{text:?} is neither true nor false")))
            })
            .transpose()
    };
    // In the order of HASH_FIELDS.
    versioned(RawProgram {
        version: next(),
        program_id: next(),
        program_name: next(),
        checksum: next(),
        customer_id: next()
            .map(|text| {
                parse_integer(&text)
                    .ok_or_else(|| invalid("customerId", format!("{text:?} is no 64-bit integer")))
            })
            .transpose()?,
        customer_name: next(),
        valid: boolean("valid", next())?,
        valid_from: next(),
        valid_until: next(),
        landing_url: next(),
        fallback_url: next(),
        allowed_hosts: next()
            .map(|text| serde_json::from_str(&text).map_err(|error| invalid("allowedHosts", error)))
            .transpose()?,
        conversion_key_id: next(),
        parameter_aliases: next()
            .map(|text| {
                serde_json::from_str(&text).map_err(|error| invalid("parameterAliases", error))
            })
            .transpose()?,
        test: boolean("test", next())?,
        deleted: boolean("deleted", next())?,
    })
}
