//! The limits of core data: the last value that is accepted, and the first that is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use adtrack_proto::event::InvalidReason;
use adtrack_proto::program::{CoreData, InvalidCoreData, Update};
use adtrack_proto::samples;
use serde_json::{Value, json};

/// A valid program with one member set to `value`.
fn read(member: &str, value: Value) -> Result<CoreData, InvalidCoreData> {
    let mut json = json!({"programId": "p", "programName": "n", "checksum": "1", "customerId": 1,
        "customerName": "c", "valid": true, "validFrom": "2026-01-01T00:00:00Z"});
    json[member] = value;
    CoreData::from_json(json.to_string().as_bytes())
}

#[test]
fn every_limit_is_where_it_is_documented() {
    let url = |bytes: usize| json!(format!("https://e.example/{}", "x".repeat(bytes - 18)));
    let host = |bytes: usize| json!(["h".repeat(bytes)]);
    let hosts = |count: usize| json!(vec!["h.example"; count]);
    let aliases = |count: usize| {
        json!((0..count).map(|n| (format!("a{n}"), "b".to_owned())).collect::<BTreeMap<_, _>>())
    };
    let text = |bytes: usize| json!("t".repeat(bytes));
    let alias = |bytes: usize| json!({"t".repeat(bytes): "amount"});
    let our_name = |bytes: usize| json!({"t": "a".repeat(bytes)});
    for (member, last, first_refused) in [
        ("programName", text(512), text(513)),
        ("checksum", text(512), text(513)),
        ("customerName", text(512), text(513)),
        ("landingUrl", url(2_048), url(2_049)),
        ("fallbackUrl", url(2_048), url(2_049)),
        ("allowedHosts", hosts(100), hosts(101)),
        ("allowedHosts", host(253), host(254)),
        ("conversionKeyId", text(64), text(65)),
        ("conversionKeyId", text(1), text(0)),
        ("parameterAliases", aliases(20), aliases(21)),
        ("parameterAliases", alias(64), alias(65)),
        ("parameterAliases", alias(1), alias(0)),
        ("parameterAliases", our_name(64), our_name(65)),
        ("validUntil", json!("2026-01-01T00:00:00Z"), json!("2025-12-31T23:59:59Z")),
        ("customerId", json!("9223372036854775807"), json!("9223372036854775808")),
        ("customerId", json!(i64::MIN), json!(u64::MAX)),
    ] {
        let accepted = read(member, last);
        let refused = read(member, first_refused);

        assert!(accepted.is_ok(), "{member}: {accepted:?}");
        let error = refused.unwrap_err();
        assert!(error.to_string().contains(&format!("`{member}`")), "{member}: {error}");
    }
}

#[test]
fn refuses_hosts_that_are_not_plain_names() {
    for host in ["", "a b", "h.example:80", "https://h.example", "b\u{fc}cher.example", "{h}"] {
        assert!(read("allowedHosts", json!([host])).is_err(), "{host:?}");
    }
    assert!(read("allowedHosts", json!(["a-b.c-2.example"])).is_ok());
}

#[test]
fn an_error_says_where_the_json_is_malformed() {
    let error = CoreData::from_json(b"{\"programId\":\n \"p\", x}").unwrap_err();
    let InvalidCoreData::Malformed { problem, line, column } = &error else { panic!("{error:?}") };
    assert_eq!((*line, *column), (2, 7), "{error}");
    assert!(!problem.contains("line"), "{problem}");
    assert_eq!(error.to_string().matches("at line 2 column 7").count(), 1, "{error}");

    let error = CoreData::from_json(br#"{"customerId": 1.5}"#).unwrap_err().to_string();
    assert!(error.contains("`customerId` as a 64-bit integer, or the same as a string"), "{error}");
}

#[test]
fn a_hash_with_an_unreadable_field_is_refused_by_its_name() {
    let core_data = read("test", json!(true)).unwrap();
    let update = Update { version: "1.2".parse().unwrap(), core_data };
    for (field, text) in [
        ("valid", "yes"),
        ("test", "1"),
        ("customerId", "+1"),
        ("customerId", "x"),
        ("allowedHosts", "h.example"),
        ("parameterAliases", "[]"),
        ("version", "1"),
    ] {
        let hash: BTreeMap<_, _> = update.to_hash().into_iter().collect();
        let value = |name: &&str| {
            if *name == field { Some(text.to_owned()) } else { hash.get(name).cloned() }
        };
        let error = Update::from_hash(Update::HASH_FIELDS.iter().map(value).collect()).unwrap_err();
        assert!(error.to_string().contains(&format!("`{field}`")), "{field}={text}: {error}");
    }
}

#[test]
fn samples_are_the_references_and_one_for_each_reason() {
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let found: Vec<_> = samples::updates()
        .into_iter()
        .map(|update| {
            let CoreData::Program(program) = update.core_data else { panic!("a program") };
            let at = program.validity.at(now);
            (program.program_id.to_string(), program.checksum, program.customer_id, at)
        })
        .collect();
    let sample =
        |id: &str, number: i64, at| (id.to_owned(), (122 + number).to_string(), 9_122 + number, at);
    assert_eq!(
        found,
        [
            sample("212312", 1, Ok(())),
            sample("212313", 2, Ok(())),
            sample("212314", 3, Ok(())),
            sample("disabled", 4, Err(InvalidReason::ProgramDisabled)),
            sample("not-started", 5, Err(InvalidReason::ProgramNotStarted)),
            sample("ended", 6, Err(InvalidReason::ProgramEnded)),
        ]
    );
}
