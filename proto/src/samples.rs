//! The sample programs of the local stack: the three of the AWS reference, and one for each reason why an
//! event is not valid.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::program::{CoreData, Program, Update, Validity};
use crate::{ProgramId, Version};

const RUNS: Validity = Validity { valid: true, from: None, until: None };

/// Updates that store the reference's sample programs 212312 to 212314, and `disabled`, `not-started` and
/// `ended`.
pub fn updates() -> Vec<Update> {
    let far_future = Timestamp::from_second(4_102_444_800).ok(); // 2100-01-01
    let past = Timestamp::from_second(1_577_836_800).ok(); // 2020-01-01
    let programs = [
        sample("212312", 1),
        sample("212313", 2),
        sample("212314", 3),
        Program { validity: Validity { valid: false, ..RUNS }, ..sample("disabled", 4) },
        Program { validity: Validity { from: far_future, ..RUNS }, ..sample("not-started", 5) },
        Program { validity: Validity { until: past, ..RUNS }, ..sample("ended", 6) },
    ];
    programs
        .into_iter()
        .map(|program| Update {
            version: Version::zero(),
            core_data: CoreData::Program(Box::new(program)),
        })
        .collect()
}

fn sample(program_id: &str, number: i64) -> Program {
    #[expect(clippy::expect_used, reason = "the ids above are valid")]
    let program_id = ProgramId::parse(program_id).expect("a sample's id is valid");
    Program {
        program_id,
        program_name: format!("program{number}"),
        checksum: (122 + number).to_string(),
        customer_id: 9_122 + number,
        customer_name: format!("Customer{number}"),
        validity: RUNS,
        landing_url: Some(format!("https://shop.example/p/{number}")),
        fallback_url: Some("https://shop.example/".to_owned()),
        allowed_hosts: vec!["shop.example".to_owned()],
        conversion_key_id: None,
        parameter_aliases: BTreeMap::new(),
        status_aliases: BTreeMap::new(),
        test: false,
    }
}
