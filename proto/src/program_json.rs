//! Converts core data from and to JSON (stream and channel) and Redis hashes. Both have the same members
//! ([`crate::members`]), so both go through one raw form, and [`validate`] checks the values of both.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::aliases::{check_parameter_aliases, check_status_aliases};
use crate::landing_url::macro_mistakes;
use crate::members::{self, Aliases, CustomerId, MEMBERS, RawRecord};
use crate::program::{
    CoreData, InvalidCoreData, MAX_ALIASES, MAX_ALLOWED_HOSTS, MAX_KEY_ID_BYTES,
    MAX_PARAMETER_NAME_BYTES, MAX_STATUS_ALIASES, MAX_STATUS_BYTES, MAX_TEXT_BYTES, Program,
    Update,
};
use crate::validity::Validity;
use crate::web_url::{self, Macros};
use crate::{ProgramId, Version};

impl CoreData {
    /// Reads a record of the core-data stream. Refuses more than what is in Redis may have: aliases and macros
    /// that lose something from every event.
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidCoreData> {
        let core_data = validate(raw_from_json(json)?)?;
        if let Self::Program(program) = &core_data {
            check_names(program)?;
        }
        Ok(core_data)
    }

    /// Writes a record of the core-data stream.
    pub fn to_json(&self) -> String {
        to_json(&raw_of(self, None))
    }
}

impl Update {
    /// The fields of a program's hash in Redis. Reading them by name (`HMGET`) halves what a reader has to
    /// parse, because the response leaves the names out.
    pub const HASH_FIELDS: [&str; MEMBERS.len() + 1] = members::HASH_FIELDS;

    /// Reads a message of the Redis channel.
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidCoreData> {
        update_from_raw(raw_from_json(json)?)
    }

    /// Writes a message of the Redis channel.
    pub fn to_json(&self) -> String {
        to_json(&raw_of(&self.core_data, Some(&self.version)))
    }

    /// Reads the values of [`Self::HASH_FIELDS`], in their order. Returns `None` if all are absent, which
    /// means that Redis does not hold the program.
    pub fn from_hash(values: Vec<Option<String>>) -> Result<Option<Self>, InvalidCoreData> {
        if values.iter().all(Option::is_none) {
            return Ok(None);
        }
        update_from_raw(RawRecord::from_hash(values)?).map(Some)
    }

    /// The hash's fields and values.
    pub fn to_hash(&self) -> Vec<(&'static str, String)> {
        raw_of(&self.core_data, Some(&self.version)).into_hash()
    }
}

/// The member of a record, of a hash and of a message on the Redis channel that names a wrong version. The
/// update replaces that version although it is newer.
pub const REPLACES: &str = "replaces";

/// The version that a record or a message replaces, if it names a valid one.
pub fn replaced_by(json: &[u8]) -> Option<Version> {
    #[derive(serde::Deserialize)]
    struct Replaces {
        replaces: String,
    }
    // Nearly no record has it, so most are not parsed twice.
    let quoted = br#""replaces""#;
    json.windows(quoted.len()).any(|window| window == quoted).then_some(())?;
    serde_json::from_slice::<Replaces>(json).ok()?.replaces.parse().ok()
}

fn to_json(raw: &RawRecord) -> String {
    #[expect(clippy::expect_used, reason = "strings, numbers and booleans always serialize")]
    serde_json::to_string(raw).expect("core data serializes")
}

fn raw_from_json(json: &[u8]) -> Result<RawRecord, InvalidCoreData> {
    // Editors and exports put a byte-order mark in front.
    let json = json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json);
    // serde's derived structs also accept an array of the members' values; a record is an object.
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

fn update_from_raw(mut raw: RawRecord) -> Result<Update, InvalidCoreData> {
    let version = raw.version.take().ok_or(InvalidCoreData::Missing("version"))?;
    let version: Version = version.parse().map_err(|error| invalid("version", error))?;
    Ok(Update { version, core_data: validate(raw)? })
}

fn validate(raw: RawRecord) -> Result<CoreData, InvalidCoreData> {
    // Destructured without `..`, so that this does not compile if a new member is forgotten.
    let RawRecord {
        program_id,
        program_name,
        checksum,
        customer_id,
        customer_name,
        valid,
        valid_from,
        valid_until,
        landing_url,
        fallback_url,
        allowed_hosts,
        conversion_key_id,
        parameter_aliases,
        status_aliases,
        test,
        deleted,
        version: _,
    } = raw;
    let program_id = program_id.ok_or(InvalidCoreData::Missing("programId"))?;
    let program_id = ProgramId::parse(&program_id).map_err(|error| invalid("programId", error))?;
    if deleted == Some(true) {
        return Ok(CoreData::Deleted(program_id));
    }
    let program = Program {
        program_id,
        program_name: text("programName", program_name)?,
        checksum: text("checksum", checksum)?,
        customer_id: customer_id.ok_or(InvalidCoreData::Missing("customerId"))?.0,
        customer_name: text("customerName", customer_name)?,
        validity: Validity {
            valid: valid.ok_or(InvalidCoreData::Missing("valid"))?,
            from: timestamp("validFrom", valid_from)?,
            until: timestamp("validUntil", valid_until)?,
        },
        landing_url: url("landingUrl", landing_url, Macros::Allowed)?,
        fallback_url: url("fallbackUrl", fallback_url, Macros::Refused)?,
        allowed_hosts: hosts(allowed_hosts.unwrap_or_default())?,
        conversion_key_id: key_id(conversion_key_id)?,
        parameter_aliases: aliases(parameter_aliases.unwrap_or_default().0)?,
        status_aliases: statuses(status_aliases.unwrap_or_default().0)?,
        test: test.unwrap_or(false),
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
                let problem =
                    format!("{text:?} is not an RFC 3339 timestamp, such as 2026-01-01T00:00:00Z");
                invalid(member, problem)
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
            let problem = format!("{host:?} is not a host name (ASCII, without scheme or port)");
            return Err(invalid(member, problem));
        }
    }
    Ok(hosts)
}

fn key_id(id: Option<String>) -> Result<Option<String>, InvalidCoreData> {
    if id.as_ref().is_some_and(|id| !(1..=MAX_KEY_ID_BYTES).contains(&id.len())) {
        let problem = format!("must have 1 to {MAX_KEY_ID_BYTES} bytes");
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
                "{name:?} is not a parameter name, which has 1 to {MAX_PARAMETER_NAME_BYTES} bytes"
            );
            return Err(invalid(member, problem));
        }
    }
    Ok(aliases)
}

fn statuses(
    aliases: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, InvalidCoreData> {
    let member = "statusAliases";
    if aliases.len() > MAX_STATUS_ALIASES {
        let count = aliases.len();
        let problem = format!("has {count} aliases; at most {MAX_STATUS_ALIASES} are accepted");
        return Err(invalid(member, problem));
    }
    for status in aliases.iter().flat_map(|(theirs, ours)| [theirs, ours]) {
        if !(1..=MAX_STATUS_BYTES).contains(&status.len()) {
            let problem =
                format!("{status:?} is not a status, which has 1 to {MAX_STATUS_BYTES} bytes");
            return Err(invalid(member, problem));
        }
    }
    Ok(aliases)
}

/// Checks that aliases and macros have names that adtrack knows.
fn check_names(program: &Program) -> Result<(), InvalidCoreData> {
    check_parameter_aliases(&program.parameter_aliases)
        .map_err(|problem| invalid("parameterAliases", problem))?;
    check_status_aliases(&program.status_aliases)
        .map_err(|problem| invalid("statusAliases", problem))?;
    let mistakes = program.landing_url.as_deref().and_then(macro_mistakes);
    match mistakes.filter(|mistakes| mistakes.loses_click_id) {
        Some(mistakes) => Err(invalid("landingUrl", format!("{mistakes}; it has no click id"))),
        None => Ok(()),
    }
}

fn aliases_of(aliases: &BTreeMap<String, String>) -> Option<Aliases> {
    (!aliases.is_empty()).then(|| Aliases(aliases.clone()))
}

fn raw_of(core_data: &CoreData, version: Option<&Version>) -> RawRecord {
    let version = version.map(Version::to_string);
    match core_data {
        CoreData::Deleted(program_id) => RawRecord {
            program_id: Some(program_id.to_string()),
            deleted: Some(true),
            version,
            ..RawRecord::default()
        },
        CoreData::Program(program) => RawRecord {
            program_id: Some(program.program_id.to_string()),
            program_name: Some(program.program_name.clone()),
            checksum: Some(program.checksum.clone()),
            customer_id: Some(CustomerId(program.customer_id)),
            customer_name: Some(program.customer_name.clone()),
            valid: Some(program.validity.valid),
            valid_from: program.validity.from.map(|at| at.to_string()),
            valid_until: program.validity.until.map(|at| at.to_string()),
            landing_url: program.landing_url.clone(),
            fallback_url: program.fallback_url.clone(),
            allowed_hosts: Some(program.allowed_hosts.clone()).filter(|hosts| !hosts.is_empty()),
            conversion_key_id: program.conversion_key_id.clone(),
            parameter_aliases: aliases_of(&program.parameter_aliases),
            status_aliases: aliases_of(&program.status_aliases),
            test: program.test.then_some(true),
            deleted: None,
            version,
        },
    }
}
