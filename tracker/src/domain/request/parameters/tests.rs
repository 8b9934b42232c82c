use super::*;
use crate::domain::request::pairs::{form_text, pairs};

/// As those of clicks.
const CLICK: Rules = Rules {
    for_endpoint: &["url", "impression_id"],
    exact: &["url"],
    misspellable: &["url", "impression_id"],
    never_strands: true,
};
const OWN: Rules = Rules {
    for_endpoint: &["amount", "currency", "transaction_id"],
    exact: &["amount", "currency", "transaction_id"],
    misspellable: &["amount", "currency", "transaction_id"],
    never_strands: false,
};

fn event(query: &str) -> Parameters {
    Parameters::parse(query, Rules::EVENT).unwrap()
}

fn carried(parameters: &Parameters) -> Vec<(&str, &str)> {
    parameters.carried.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn carries_all_names_but_reserved_ones() {
    let parameters = event("a=1&checksum=124&b=x+y%26z&customerId=9124&c&&d=");
    assert_eq!(parameters.checksum.as_deref(), Some("124"));
    assert_eq!(parameters.customer_id.as_deref(), Some("9124"));
    assert_eq!(carried(&parameters), [("a", "1"), ("b", "x y&z"), ("c", ""), ("d", "")]);
    assert!(parameters.repairs.is_empty());
    assert_eq!(event(""), Parameters::default());
}

#[test]
fn enforces_limits_exactly() {
    let many = |count: usize| (0..count).map(|n| format!("p{n}=v")).collect::<Vec<_>>().join("&");
    let name = |length: usize| format!("{}=v", "n".repeat(length));
    let value = |length: usize| format!("n={}", "%C3%BC".repeat(length / 2));
    for rules in [Rules::EVENT, CLICK] {
        for query in [many(20) + "&checksum=1&customerId=2", name(64), value(512)] {
            let parameters = Parameters::parse(&query, rules).unwrap();
            assert!(parameters.repairs.is_empty(), "{query}");
        }
        for (query, repair, count) in [
            (many(21), Repairs::TOO_MANY_PARAMETERS, 20),
            (name(65), Repairs::NAME_LENGTH, 0),
            (value(514), Repairs::VALUE_TOO_LONG, 1),
            ("=v".into(), Repairs::NAME_LENGTH, 0),
            ("a=1&a=2".into(), Repairs::REPEATED_NAME, 1),
            ("checksum=1&checksum=1".into(), Repairs::REPEATED_NAME, 0),
            ("at_new=1".into(), Repairs::RESERVED_NAME, 0),
            ("&".repeat(MAX_QUERY_BYTES + 1), Repairs::QUERY_TOO_LONG, 0),
        ] {
            let parameters = Parameters::parse(&query, rules).unwrap();
            assert_eq!(parameters.repairs, repair, "{query}");
            assert_eq!(parameters.carried.len(), count, "{query}");
            let lengths = parameters.carried.values().map(String::len);
            assert!(lengths.max().unwrap_or_default() <= MAX_VALUE_BYTES);
        }
    }
    assert_eq!(carried(&event("a=1&a=2")), [("a", "1")]);
    assert!(event(&"&".repeat(MAX_QUERY_BYTES)).repairs.is_empty());
}

#[test]
fn repairs_what_is_not_a_clean_url() {
    let and = |first: Repairs, second: Repairs| {
        let mut both = first;
        both.insert(second);
        both
    };
    let literal = Repairs::INVALID_ESCAPE;
    for (query, name, value, repairs) in [
        ("cb=%%CACHEBUSTER%%", "cb", "%%CACHEBUSTER%%", literal),
        ("x=%ecid!", "x", "%ecid!", literal),
        ("x=%ad_id%", "x", "%ad_id%", literal),
        ("x=%ecid", "x", "\u{fffd}id", Repairs::NOT_UTF8),
        ("city=M%FCnchen", "city", "M\u{fffd}nchen", Repairs::NOT_UTF8),
        ("M%FC=1", "M\u{fffd}", "1", Repairs::NOT_UTF8),
        ("x=100%", "x", "100%", literal),
        ("x=%zz%ff", "x", "%zz\u{fffd}", and(literal, Repairs::NOT_UTF8)),
        ("amp;x=1", "x", "1", Repairs::ESCAPED_AMPERSAND),
        ("amp;amp;x=1", "x", "1", Repairs::ESCAPED_AMPERSAND),
        ("amp%3Bx=1", "x", "1", Repairs::ESCAPED_AMPERSAND),
        ("%23038;x=1", "x", "1", Repairs::ESCAPED_AMPERSAND),
        ("x={macro}", "x", "{macro}", Repairs::default()),
        ("x=%C3%BC+%F0%9F%8E%89", "x", "ü 🎉", Repairs::default()),
    ] {
        for rules in [Rules::EVENT, CLICK] {
            let parameters = Parameters::parse(query, rules).unwrap();
            assert_eq!(carried(&parameters), [(name, value)], "{query}");
            assert_eq!(parameters.repairs, repairs, "{query}");
        }
    }
    assert_eq!(event("a=1&amp;checksum=7").checksum.as_deref(), Some("7"));
}

#[test]
fn empty_counts_as_not_given() {
    let query = "checksum=&customerId=&at_event_id=&amount=&gdpr=&gdpr_consent=";
    let parameters = Parameters::parse(query, OWN).unwrap();
    let expected = Parameters {
        carried: [("gdpr".to_owned(), String::new())].into(),
        ..Parameters::default()
    };
    assert_eq!(parameters, expected);
    // The one that is given counts.
    let query = format!("{query}&checksum=1&customerId=2&at_event_id=3&amount=4&gdpr_consent=5");
    let parameters = Parameters::parse(&query, OWN).unwrap();
    assert_eq!(parameters.checksum.as_deref(), Some("1"));
    assert_eq!(parameters.customer_id.as_deref(), Some("2"));
    assert_eq!(parameters.event_id.as_deref(), Some("3"));
    assert_eq!(parameters.for_endpoint["amount"], "4");
    assert_eq!(parameters.consent.as_deref(), Some("5"));
}

#[test]
fn unfilled_macro_is_no_event_id() {
    for query in ["at_event_id={id}", "at_event_id=%7Bid%7D", "at_event_id=%257Bid%257D"] {
        for rules in [Rules::EVENT, CLICK] {
            let parameters = Parameters::parse(query, rules).unwrap();
            assert_eq!(parameters.event_id, None, "{query}");
            assert!(parameters.event_id_as_sent.is_some(), "{query}");
            assert_eq!(parameters.repairs, Repairs::UNFILLED_MACRO, "{query}");
        }
    }
    let parameters = event("at_event_id={id}&at_event_id=e-1&at_event_id=");
    assert_eq!(parameters.event_id.as_deref(), Some("e-1"));
    assert_eq!(parameters.event_id_as_sent, None);
}

#[test]
fn trims_the_event_id_and_keeps_what_was_signed() {
    let parameters = event("at_event_id=%EF%BB%BFe-1%0A");
    assert_eq!(parameters.event_id.as_deref(), Some("e-1"));
    assert_eq!(parameters.event_id_as_sent.as_deref(), Some("\u{feff}e-1\n"));
    assert_eq!(parameters.repairs, Repairs::TRIMMED);
    assert_eq!(event("at_event_id=%00").event_id, None);
}

#[test]
fn of_two_ids_the_filled_one_counts() {
    for (query, rules, name, value, repairs) in [
        ("url={x}&url=u", CLICK, "url", "u", Repairs::UNFILLED_MACRO),
        ("url=u&url=null", CLICK, "url", "u", Repairs::UNFILLED_MACRO),
        ("url=%20&url=u", CLICK, "url", "u", Repairs::TRIMMED),
        ("url=u&url=u", CLICK, "url", "u", Repairs::REPEATED_NAME),
        ("impression_id=1&impression_id=2", CLICK, "impression_id", "1", Repairs::REPEATED_NAME),
        (
            "transaction_id=:tx&transaction_id=t",
            OWN,
            "transaction_id",
            "t",
            Repairs::UNFILLED_MACRO,
        ),
        ("transaction_id=t&transaction_id=t+", OWN, "transaction_id", "t", Repairs::REPEATED_NAME),
    ] {
        let parameters = Parameters::parse(query, rules).unwrap();
        assert_eq!(parameters.for_endpoint[name], value, "{query}");
        assert_eq!(parameters.repairs, repairs, "{query}");
    }
}

/// Values with their names.
type Named<Name> = Vec<(Name, String)>;

/// What is read of a query in which names are misspelt, and what stays a free parameter.
fn misspelt(query: &str, rules: Rules) -> (Named<&'static str>, Named<String>) {
    let parameters = Parameters::parse(query, rules).unwrap();
    let mut flagged = parameters.repairs;
    flagged.insert(Repairs::MISSPELT_NAME);
    assert_eq!(parameters.repairs, flagged, "{query}");
    assert!(!parameters.has_misspelt());
    (parameters.for_endpoint.into_iter().collect(), parameters.carried.into_iter().collect())
}

#[test]
fn reads_misspelt_names_if_the_right_one_is_not_given() {
    for (query, read) in [
        ("Amount=5", "5"),
        ("AMOUNT=5", "5"),
        ("amount[]=5", "5"),
        ("amount%5B0%5D=5", "5"),
        ("amount%20=5", "5"),
        ("+amount=5", "5"),
        ("?amount=5", "5"),
        ("amount%3D5", "5"),
        ("amount=&Amount=5", "5"),
        ("Amount=5&AMOUNT=5", "5"),
    ] {
        assert_eq!(misspelt(query, OWN).0, [("amount", read.to_owned())], "{query}");
    }
    for (query, read, free) in [
        ("amount=4&Amount=5", Some("4"), 1),
        ("Amount=5&amount=4", Some("4"), 1),
        ("Amount=5&AMOUNT=6", None, 2),
        ("Amount=%ff", None, 1),
        ("Amount=", None, 1),
    ] {
        let (own, carried) = misspelt(query, OWN);
        assert_eq!(own.first().map(|(_, value)| value.as_str()), read, "{query}");
        assert_eq!(carried.len(), free, "{query}");
    }
    for (query, own) in [
        ("transactionId={x}", vec![]),
        ("transactionId=t", vec![("transaction_id", "t".to_owned())]),
        ("transaction_id={x}&transactionId=t", vec![("transaction_id", "t".to_owned())]),
    ] {
        assert_eq!(misspelt(query, OWN).0, own, "{query}");
    }
    // Read only if it turns out to be allowed, and carried as before.
    let (own, carried) = misspelt("Url=u", CLICK);
    assert_eq!((own[0].0, &*carried[0].0), ("URL", "Url"));
    // These only show that a link belongs to the program.
    for query in ["Checksum=1", "customer_id=x", "CUSTOMERID=9124"] {
        let (own, carried) = misspelt(query, OWN);
        assert_eq!((own.len(), carried.len()), (0, 1), "{query}");
    }
    let parameters = event("AT_EVENT_ID=e-1&atEventId=e-1");
    assert_eq!(parameters.event_id.as_deref(), Some("e-1"));
    assert_eq!(event("at_event_id=e-1&AT-EVENT-ID=e-2").event_id.as_deref(), Some("e-1"));
    // Of another endpoint.
    assert!(event("Amount=5&transactionId=t&clickId=c&cs=1&campaign=x&uid=u").repairs.is_empty());
}

#[test]
fn reads_a_misspelt_name_only_if_the_request_stays_valid() {
    let mut parameters = Parameters::default();
    for (name, value) in [("Amount", "5"), ("Currency", "EUR"), ("transactionId", "t")] {
        parameters.add(Pair::new(name, value.to_owned()), OWN).unwrap();
    }
    assert!(parameters.has_misspelt() && parameters.carried.is_empty());
    // An amount needs its currency, which comes later in the query.
    let is_valid = |parameters: &Parameters| {
        let own = &parameters.for_endpoint;
        !own.contains_key("transaction_id")
            && (own.contains_key("currency") || !own.contains_key("amount"))
    };
    parameters.read_misspelt(is_valid);
    assert!(parameters.for_endpoint.keys().eq(&["amount", "currency"]));
    assert_eq!(carried(&parameters), [("transactionId", "t")]);
}

#[test]
fn refuses_what_counts_and_is_not_exact() {
    for query in [
        "checksum=1&checksum=2",
        "customerId=1&customerId=2",
        "at_event_id=1&at_event_id=2",
        "amount=1&amount=2",
        "amount=%ff",
        "transaction_id=1&transaction_id=2",
        "at_event_id=M%FC",
        "at_event_id=a%00b",
        &format!("at_event_id={}", "x".repeat(129)),
    ] {
        let refusal = Parameters::parse(query, OWN).unwrap_err();
        let name = query.split('=').next().unwrap();
        assert_eq!(refusal.code(), "invalid_parameters", "{query}");
        assert!(refusal.to_string().starts_with(&format!("`{name}`")), "{refusal}");
    }
    for query in ["url=a&url=b", "at_event_id=1&at_event_id=2"] {
        let refusal = Parameters::parse(query, CLICK).unwrap_err();
        assert!(refusal.to_string().contains("is given twice"), "{refusal}");
    }
    // A click drops the id instead.
    for query in ["at_event_id=M%FC", &format!("at_event_id={}", "x".repeat(129))] {
        let parameters = Parameters::parse(query, CLICK).unwrap();
        assert_eq!(parameters.event_id, None);
        assert!(!parameters.repairs.is_empty());
    }
}

#[test]
fn reads_a_long_consent_without_carrying_it() {
    for rules in [Rules::EVENT, CLICK] {
        let parse = |length| {
            let query = format!("a=1&gdpr_consent={}", "C".repeat(length));
            Parameters::parse(&query, rules).unwrap()
        };
        for (length, carried, is_read) in
            [(512, 2, true), (513, 1, true), (4_096, 1, true), (4_097, 1, false)]
        {
            let parameters = parse(length);
            assert_eq!(parameters.consent.as_ref().map(String::len), Some(length));
            assert_eq!(parameters.carried.len(), carried, "{length}");
            assert_eq!(parameters.repairs.is_empty(), is_read, "{length}");
        }
    }
    // Which of two counts is not known.
    for second in ["D", &"D".repeat(600)] {
        let parameters = event(&format!("gdpr_consent=C&gdpr_consent={second}"));
        assert_eq!(parameters.consent.as_deref(), Some(""));
    }
}

#[test]
fn takes_every_gdpr_but_0_for_an_objection() {
    for (query, applies) in [
        ("gdpr=0", false),
        ("gdpr=", false),
        ("gdpr=0&gdpr=", false),
        ("gdpr=1", true),
        ("gdpr=0&gdpr=1", true),
        ("gdpr=true", true),
        ("gdpr=$%7BGDPR%7D", true),
        ("gdpr=%ff", true),
        ("amp;gdpr=1", true),
        ("gdpr=%%GDPR%%", true),
        ("GDPR=1", true),
        ("gdpr=0&Gdpr=1", true),
        ("gdpr[]=1", true),
        ("gdpr%5B%5D=1", true),
        ("%20gdpr=1", true),
        ("gdpr%00=1", true),
        ("gdpr%3D1", true),
        ("x=1;gdpr=1", true),
        ("x=1;y=2;GDPR=true;z=3", true),
        ("x=1%3Bgdpr=1", true),
        ("x;gdpr=1", true),
        ("GDPR=0", false),
        ("x=1;gdpr=0", false),
        ("x=1;gdpr", false),
        ("x=gdpr=1", false),
        ("xgdpr=1", false),
    ] {
        assert_eq!(event(query).gdpr_applies, applies, "{query}");
    }
}

#[test]
fn reads_its_parameters_beyond_every_limit() {
    let many: String = (0..MAX_PARAMETERS).map(|n| format!("p{n}=v&")).collect();
    let long = format!("z={}&", "z".repeat(MAX_QUERY_BYTES));
    for before in [many, long, "gdpr=0&".to_owned()] {
        let query = format!("{before}a=1&checksum=7&url=u&gdpr=1&gdpr_consent=C");
        let parameters = Parameters::parse(&query, CLICK).unwrap();
        assert!(!parameters.repairs.is_empty() && parameters.gdpr_applies, "{before}");
        assert_eq!(parameters.consent.as_deref(), Some("C"));
        assert_eq!(parameters.checksum.as_deref(), Some("7"));
        assert_eq!(parameters.for_endpoint["url"], "u");
    }
    // The limit is between them.
    let query = format!("a=1&z={}&b=1&checksum=7", "z".repeat(MAX_QUERY_BYTES - 8));
    let parameters = event(&query);
    assert!(parameters.carried.keys().eq(["a", "z"]), "{:?}", parameters.carried.keys());
}

#[test]
fn does_not_carry_the_endpoints_own_parameters() {
    let long = "u".repeat(6_000);
    let query = format!("url={long}&at_event_id=e-1&x=1");
    let parameters = Parameters::parse(&query, CLICK).unwrap();
    assert_eq!(parameters.for_endpoint["url"], long);
    assert_eq!(parameters.event_id.as_deref(), Some("e-1"));
    assert_eq!(carried(&parameters), [("x", "1")]);
}

#[test]
fn keeps_the_bytes_of_a_destination() {
    for (query, url) in [
        ("url=https://s.example/caf%E9", "https://s.example/caf%E9"),
        ("url=https://s.example/caf%C3%A9%e9", "https://s.example/café%E9"),
    ] {
        assert_eq!(Parameters::parse(query, CLICK).unwrap().for_endpoint["url"], url);
    }
}

#[test]
fn reads_forms_that_are_not_utf8() {
    let mut repairs = Repairs::default();
    let text = form_text(b"a=M\xfc&b=1\r\n");
    let pairs = pairs(&text, OWN, usize::MAX, |_| false, &mut repairs);
    assert_eq!((&*pairs[0].value, pairs[0].is_utf8), ("M\u{fffd}", false));
    assert_eq!(&*pairs[1].value, "1\r\n");
    assert_eq!(repairs, Repairs::NOT_UTF8);
}
