//! Freezes the wire formats: a failing test here means that a deployed peer would no longer understand
//! us. Regenerating a golden file is a decision, never a fix.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashMap};

use adtrack_proto::aliases::{CONVERSION_PARAMETERS, STATUSES};
use adtrack_proto::event::{
    ConversionFields, EventType, InvalidReason, ProgramFields, RequestFields, TrackingEvent,
};
use adtrack_proto::program::{CoreData, InvalidCoreData, Program, Update, Validity};
use adtrack_proto::store_script::Call;
use adtrack_proto::unfilled::{is_macro, visible};
use adtrack_proto::{ProgramId, Version};
use proptest::prelude::*;
use prost::Message;

fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn full_event() -> TrackingEvent {
    TrackingEvent {
        program_id: "212313".into(),
        checksum: "124".into(),
        customer_id: 9124,
        user_agent: "Mozilla/5.0 (ü)".into(),
        program_name: "program2".into(),
        customer_name: "Customer2".into(),
        is_valid: true,
        message_id: "019a9c3e-7d0f-7a51-8f6e-0123456789ab".into(),
        event_type: EventType::Conversion.into(),
        occurred_at_ms: 1_763_712_000_000,
        visitor_id: "v".into(),
        click_id: "c".into(),
        referrer: "https://example.com/".into(),
        client_ip: "192.0.2.0".into(),
        traffic_flags: vec!["bot".into(), "prefetch".into()],
        parameters: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "".into())]),
        transaction_id: "t".into(),
        amount_micros: -1_500_000,
        currency: "EUR".into(),
        invalid_reason: "program_ended".into(),
        received_at_ms: 1_763_712_000_001,
        client_event_id: "e".into(),
        impression_id: "i".into(),
        event_name: "sale".into(),
        status: "approved".into(),
        is_test: true,
        host: "t.example".into(),
    }
}

/// What the table, the archive and hashed ids have: a name that changes changes them.
#[test]
fn names_on_the_wire_stay() {
    for (event_type, name) in [
        (EventType::Unspecified, "unspecified"),
        (EventType::Event, "event"),
        (EventType::Impression, "impression"),
        (EventType::Click, "click"),
        (EventType::Conversion, "conversion"),
    ] {
        assert_eq!(event_type.name(), name);
    }
    for (reason, name) in [
        (InvalidReason::ProgramDisabled, "program_disabled"),
        (InvalidReason::ProgramNotStarted, "program_not_started"),
        (InvalidReason::ProgramEnded, "program_ended"),
    ] {
        assert_eq!(reason.as_str(), name);
    }
}

#[test]
fn the_fields_of_a_program_decode_as_an_event() {
    let expected = TrackingEvent {
        program_id: "212313".into(),
        checksum: "124".into(),
        customer_id: 9124,
        program_name: "program2".into(),
        customer_name: "Customer2".into(),
        is_test: true,
        ..TrackingEvent::default()
    };
    assert_eq!(ProgramFields::of(&full_program()).to_event(), expected);
}

#[test]
fn event_has_its_golden_bytes() {
    assert_eq!(hex(&full_event().encode_to_vec()), golden("tracking_event.hex").trim());
    let read = TrackingEvent::decode(&*unhex(&golden("tracking_event.hex"))).unwrap();
    assert_eq!(read, full_event());
}

/// The reference's message has fields 1 to 8, with an int32 customer id, and never sets is_valid.
#[derive(Clone, PartialEq, Message)]
struct ReferenceEvent {
    #[prost(string, tag = "1")]
    programid: String,
    #[prost(string, tag = "2")]
    checksum: String,
    #[prost(int32, tag = "3")]
    customerid: i32,
    #[prost(string, tag = "4")]
    useragent: String,
    #[prost(string, tag = "5")]
    programname: String,
    #[prost(string, tag = "6")]
    customername: String,
    #[prost(bool, tag = "7")]
    is_valid: bool,
    #[prost(string, tag = "8")]
    messageid: String,
}

#[test]
fn reads_an_event_of_the_reference() {
    let event = TrackingEvent::decode(&*unhex(&golden("reference_event.hex"))).unwrap();
    assert_eq!(event.program_id, "212313");
    assert_eq!(event.customer_id, -7);
    assert_eq!(event.message_id, "b0ad9d40-9d62-4bd5-a4b6-6cdc0fa2d1a5");
    assert_eq!(event.event_type(), EventType::Unspecified);
    assert!(!event.is_valid);
}

#[test]
fn the_reference_reads_our_event() {
    let read = ReferenceEvent::decode(&*full_event().encode_to_vec()).unwrap();
    assert_eq!((read.programid.as_str(), read.customerid), ("212313", 9124));
    assert!(read.is_valid);
    assert_eq!(read.messageid, full_event().message_id);
}

fn full_program() -> Program {
    Program {
        program_id: ProgramId::parse("212313").unwrap(),
        program_name: "program2".into(),
        checksum: "124".into(),
        customer_id: 9124,
        customer_name: "Customer2".into(),
        validity: Validity {
            valid: true,
            from: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            until: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        },
        landing_url: Some("https://shop.example/p/2?c={click_id}".into()),
        fallback_url: Some("https://shop.example/".into()),
        allowed_hosts: vec!["shop.example".into()],
        conversion_key_id: Some("network-1".into()),
        parameter_aliases: BTreeMap::from([("payout".into(), "amount".into())]),
        status_aliases: BTreeMap::from([("1".into(), "approved".into())]),
        test: true,
    }
}

fn update(core_data: CoreData) -> Update {
    Update { version: "1.495903382714".parse().unwrap(), core_data }
}

#[test]
fn update_has_its_golden_json_and_hash() {
    for (name, core_data) in [
        ("program", CoreData::Program(Box::new(full_program()))),
        ("tombstone", CoreData::Deleted(ProgramId::parse("212313").unwrap())),
    ] {
        let update = update(core_data);
        assert_eq!(update.to_json(), golden(&format!("{name}.json")).trim(), "{name}");
        let hash: String =
            update.to_hash().iter().map(|(field, value)| format!("{field} {value}\n")).collect();
        assert_eq!(hash, golden(&format!("{name}.hash")), "{name}");
    }
}

#[test]
fn calls_the_script_with_version_channel_message_expiry_and_fields() {
    let deleted = update(CoreData::Deleted(ProgramId::parse("p").unwrap()));
    let call = Call::new(&deleted, "channel");
    assert_eq!(call.key, "program:{p}");
    assert_eq!(call.arguments[..4], ["1", "495903382714", "channel", &deleted.to_json()]);
    assert_eq!(call.arguments[4], "34560000");
    assert_eq!(call.arguments[5..7], ["version", "1.495903382714"]);

    let program = update(CoreData::Program(Box::new(full_program())));
    let call = Call::new(&program, "channel");
    assert_eq!((call.key.as_str(), call.arguments[4].as_str()), ("program:{212313}", "0"));
    let fields: Vec<_> =
        program.to_hash().into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    assert_eq!(call.arguments[5..], fields);
}

#[test]
fn reads_core_data_of_the_reference() {
    let json = r#"{"userAgent":"Mozilla/5.0","programId":"212313","programName":"program2",
        "checksum":"124","customerId":"9124","customerName":"Customer2",
        "messageId":"06bc2944-886c-4e56-907c-fa248c8af023","valid":true}"#;
    let CoreData::Program(program) = CoreData::from_json(json.as_bytes()).unwrap() else {
        panic!("a program")
    };
    let expected = Program {
        validity: Validity { valid: true, from: None, until: None },
        landing_url: None,
        fallback_url: None,
        allowed_hosts: Vec::new(),
        conversion_key_id: None,
        parameter_aliases: BTreeMap::new(),
        status_aliases: BTreeMap::new(),
        test: false,
        ..full_program()
    };
    assert_eq!(*program, expected);
}

#[test]
fn tombstone_needs_only_its_id() {
    let read = CoreData::from_json(br#"{"programId":"p","deleted":true}"#).unwrap();
    assert_eq!(read, CoreData::Deleted(ProgramId::parse("p").unwrap()));
}

/// `full_program` as JSON, with one member set to `value`.
fn with(member: &str, value: serde_json::Value) -> Vec<u8> {
    let program = CoreData::Program(Box::new(full_program()));
    let mut json: serde_json::Value = serde_json::from_str(&program.to_json()).unwrap();
    json[member] = value;
    json.to_string().into_bytes()
}

#[test]
fn names_a_missing_required_member() {
    for member in ["programId", "programName", "checksum", "customerId", "customerName", "valid"] {
        let error = CoreData::from_json(&with(member, serde_json::Value::Null)).unwrap_err();
        assert_eq!(error, InvalidCoreData::Missing(member));
    }
}

#[test]
fn names_an_invalid_member() {
    let long = "x".repeat(513);
    let long_url = format!("https://e.example/{}", "x".repeat(2_048));
    for (member, value) in [
        ("programId", "a b"),
        ("programName", long.as_str()),
        ("validFrom", "yesterday"),
        ("validFrom", "2028-01-01T00:00:00Z"),
        ("validUntil", "2026-13-01T00:00:00Z"),
        ("landingUrl", "shop.example"),
        ("landingUrl", "javascript:alert(1)"),
        ("landingUrl", "https://{host}/"),
        ("landingUrl", "https://{a}.example/"),
        ("landingUrl", "https://user:pw@shop.example/"),
        ("landingUrl", "https:shop.example/"),
        ("landingUrl", "https:{host}://shop.example/"),
        ("fallbackUrl", "https:evil.example://shop.example/"),
        ("landingUrl", "https://shop.example\\@evil.example/"),
        ("landingUrl", "https://shop.example/\tx"),
        ("landingUrl", long_url.as_str()),
        ("fallbackUrl", "https://shop.example/{click_id}"),
        ("customerId", "12x"),
        ("customerId", "+12"),
        ("customerId", "9223372036854775808"),
    ] {
        let error = CoreData::from_json(&with(member, value.into())).unwrap_err();
        let named = if value.starts_with("2028") { "validUntil" } else { member };
        assert!(error.to_string().contains(&format!("`{named}`")), "{member}={value}: {error}");
    }
    let error = CoreData::from_json(&with("allowedHosts", serde_json::json!(["http://x"])));
    assert!(error.unwrap_err().to_string().contains("`allowedHosts`"));
}

#[test]
fn rejects_anything_but_a_json_object() {
    for json in ["", "null", "[]", r#"["212313","n"]"#, "{", "\"x\"", "{} x", "\u{0}", "\u{feff}{}"]
    {
        let error = CoreData::from_json(json.as_bytes()).unwrap_err();
        assert!(
            matches!(
                error,
                InvalidCoreData::Malformed { .. } | InvalidCoreData::Missing("programId")
            ),
            "{json:?}: {error:?}"
        );
    }
    assert!(CoreData::from_json(&[0xff, 0xfe]).is_err());
}

/// `member`s of a stored program that are refused when they are entered.
const WRONG_NAMES: [(&str, &str, &str); 8] = [
    ("parameterAliases", r#"{"amount":"payout"}"#, r#"as in {"payout":"amount"}"#),
    ("parameterAliases", r#"{"s1":"clickId"}"#, r#"did you mean "click_id"?"#),
    ("statusAliases", r#"{"1":"Approved"}"#, r#"did you mean "approved"?"#),
    ("statusAliases", r#"{"pending":"approved"}"#, r#"cannot mean "approved""#),
    ("statusAliases", r#"{" ok ":"approved"}"#, "has blanks"),
    ("parameterAliases", r#"{"{payout}":"amount"}"#, "is a macro that nobody filled"),
    ("landingUrl", r#""https://shop.example/?c={clickid}""#, "{click_id} is; it has no click id"),
    ("landingUrl", r#""https://shop.example/?c={{click_id}}""#, "it has no click id"),
];

#[test]
fn refuses_names_that_are_not_ours_when_they_are_entered() {
    for (member, value, problem) in WRONG_NAMES {
        let json = with(member, serde_json::from_str(value).unwrap());
        let error = CoreData::from_json(&json).unwrap_err().to_string();
        assert!(error.contains(&format!("`{member}`")) && error.contains(problem), "{error}");

        // A tracker that refused what is in Redis would lose every event of the program.
        let mut stored: serde_json::Value = serde_json::from_slice(&json).unwrap();
        stored["version"] = "1.5".into();
        let stored = Update::from_json(stored.to_string().as_bytes()).unwrap();
        let hash = values(&stored.to_hash().into_iter().collect());
        assert_eq!(Update::from_hash(hash), Ok(Some(stored)));
    }
}

#[test]
fn refuses_an_alias_that_is_given_twice() {
    for member in ["parameterAliases", "statusAliases"] {
        let json = String::from_utf8(with(member, "@".into())).unwrap();
        let json = json.replace(r#""@""#, r#"{"1":"approved","1":"pending"}"#);
        let error = CoreData::from_json(json.as_bytes()).unwrap_err().to_string();
        let problem = r#"the alias "1" is given twice, for "approved" and "pending"; give it once"#;
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn reads_a_record_with_a_byte_order_mark() {
    let json = CoreData::Program(Box::new(full_program())).to_json();
    let marked = format!("\u{feff}{json}");
    assert_eq!(CoreData::from_json(marked.as_bytes()), CoreData::from_json(json.as_bytes()));
}

#[test]
fn update_needs_a_version() {
    let json = CoreData::Program(Box::new(full_program())).to_json();
    assert_eq!(Update::from_json(json.as_bytes()), Err(InvalidCoreData::Missing("version")));
}

/// The hash as Redis responds to `HMGET`.
fn values(hash: &HashMap<&str, String>) -> Vec<Option<String>> {
    Update::HASH_FIELDS.iter().map(|field| hash.get(field).cloned()).collect()
}

#[test]
fn empty_hash_is_no_program_and_an_incomplete_one_is_an_error() {
    assert_eq!(Update::from_hash(vec![None; Update::HASH_FIELDS.len()]), Ok(None));
    let incomplete = values(&HashMap::from([("programId", "p".to_owned())]));
    assert_eq!(Update::from_hash(incomplete), Err(InvalidCoreData::Missing("version")));
}

#[test]
fn sample_programs_are_valid_core_data() {
    for update in adtrack_proto::samples::updates() {
        assert_eq!(Update::from_json(update.to_json().as_bytes()), Ok(update));
    }
}

/// One of `names`.
fn select(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(names).prop_map(str::to_owned)
}

/// A name or a value that a network may have.
fn networks_text(pattern: &'static str) -> impl Strategy<Value = String> {
    let is_plain = |text: &String| visible(text) == text && !is_macro(text);
    pattern.prop_filter("has blanks around it or is a macro", is_plain)
}

fn any_program() -> impl Strategy<Value = Program> {
    let text = || "\\PC{0,40}";
    let time = || {
        // Whole seconds of this century.
        proptest::option::of(
            (946_684_800_i64..4_102_444_800)
                .prop_map(|second| jiff::Timestamp::from_second(second).unwrap()),
        )
    };
    let url =
        || proptest::option::of("https?://[a-z]{1,9}\\.example(/[a-z{}]{0,9})?(\\?[a-z=&]{0,9})?");
    (
        ("[A-Za-z0-9._~-]{1,128}", text(), text(), any::<i64>(), text(), any::<bool>()),
        (time(), time(), url(), any::<bool>()),
        proptest::collection::vec("[a-z0-9.-]{1,20}", 0..4),
        (
            proptest::option::of("\\PC{1,16}"),
            proptest::collection::btree_map(
                networks_text("\\PC{1,16}"),
                select(&CONVERSION_PARAMETERS),
                0..3,
            ),
            proptest::collection::btree_map(
                networks_text("[a-z0-9\u{fc} ]{1,16}"),
                select(&STATUSES),
                0..3,
            ),
        ),
    )
        .prop_map(
            |(
                (id, name, checksum, customer_id, customer, valid),
                (a, b, url, test),
                hosts,
                (conversion_key_id, parameter_aliases, status_aliases),
            )| {
                let (from, until) = match (a, b) {
                    (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
                    other => other,
                };
                Program {
                    program_id: ProgramId::parse(&id).unwrap(),
                    program_name: name,
                    checksum,
                    customer_id,
                    customer_name: customer,
                    validity: Validity { valid, from, until },
                    fallback_url: url.as_deref().map(|url| url.replace(['{', '}'], "_")),
                    landing_url: url,
                    allowed_hosts: hosts,
                    conversion_key_id,
                    parameter_aliases,
                    status_aliases,
                    test,
                }
            },
        )
}

fn any_update() -> impl Strategy<Value = Update> {
    (any_program(), any::<bool>(), any::<u64>(), "[1-9][0-9]{0,60}").prop_map(
        |(program, deleted, epoch, sequence)| Update {
            version: Version::new(epoch, &sequence).unwrap(),
            core_data: if deleted {
                CoreData::Deleted(program.program_id)
            } else {
                CoreData::Program(Box::new(program))
            },
        },
    )
}

proptest! {
    #[test]
    fn updates_round_trip(update in any_update()) {
        prop_assert_eq!(&Update::from_json(update.to_json().as_bytes()).unwrap(), &update);
        prop_assert_eq!(
            &CoreData::from_json(update.core_data.to_json().as_bytes()).unwrap(),
            &update.core_data
        );
        let hash = values(&update.to_hash().into_iter().collect());
        prop_assert_eq!(Update::from_hash(hash).unwrap(), Some(update));
    }

    #[test]
    fn event_encoded_in_two_parts_decodes_as_one(
        program in any_program(),
        texts in proptest::array::uniform14("\\PC{0,40}"),
        traffic_flags in proptest::collection::vec("[a-z]{1,9}", 0..3),
        amount_micros in any::<i64>(),
        is_conversion in any::<bool>(),
        parameters in proptest::collection::btree_map("\\PC{0,8}", "\\PC{0,200}", 0..6),
        occurred_at_ms in any::<i64>(),
        received_at_ms in any::<i64>(),
        is_valid in any::<bool>(),
        invalid_reason in proptest::option::of(Just(InvalidReason::ProgramEnded)),
    ) {
        let [user_agent, message_id, referrer, host, visitor_id, click_id, impression_id,
            client_ip, client_event_id, transaction_id, currency, event_name, status, _] = texts;
        let flags: Vec<&str> = traffic_flags.iter().map(String::as_str).collect();
        let request = RequestFields {
            user_agent: &user_agent,
            is_valid,
            message_id: &message_id,
            event_type: EventType::Event,
            occurred_at_ms,
            received_at_ms,
            visitor_id: &visitor_id,
            click_id: &click_id,
            impression_id: &impression_id,
            referrer: &referrer,
            client_ip: &client_ip,
            traffic_flags: &flags,
            parameters: &parameters,
            conversion: is_conversion.then_some(ConversionFields {
                transaction_id: &transaction_id,
                amount_micros,
                currency: &currency,
                event_name: &event_name,
                status: &status,
            }),
            invalid_reason,
            client_event_id: &client_event_id,
            host: &host,
        };
        let bytes = ProgramFields::of(&program).encode_event(&request);
        let if_conversion = |text: String| if is_conversion { text } else { String::new() };
        let whole = TrackingEvent {
            program_id: program.program_id.to_string(),
            checksum: program.checksum.clone(),
            customer_id: program.customer_id,
            program_name: program.program_name.clone(),
            customer_name: program.customer_name.clone(),
            is_test: program.test,
            user_agent,
            is_valid,
            message_id,
            event_type: EventType::Event.into(),
            occurred_at_ms,
            received_at_ms,
            visitor_id,
            click_id,
            impression_id,
            referrer,
            client_ip,
            traffic_flags,
            parameters,
            transaction_id: if_conversion(transaction_id),
            amount_micros: if is_conversion { amount_micros } else { 0 },
            currency: if_conversion(currency),
            event_name: if_conversion(event_name),
            status: if_conversion(status),
            invalid_reason: invalid_reason.map_or(String::new(), |reason| reason.as_str().into()),
            client_event_id,
            host,
        };
        prop_assert_eq!(TrackingEvent::decode(&*bytes).unwrap(), whole);
    }

    #[test]
    fn readers_never_panic_on_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = TrackingEvent::decode(&*bytes);
        let _ = CoreData::from_json(&bytes);
        let _ = Update::from_json(&bytes);
    }
}
