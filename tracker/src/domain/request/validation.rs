//! Whether parameters match the program that the request names.

use adtrack_proto::unfilled::is_unfilled;

use crate::domain::{Parameters, PreparedProgram, Refusal, Repairs};

/// Checks that `checksum` and `customerId`, if given, are those of the program. An unfilled macro counts as not
/// given. Returns what was repaired.
pub fn check_program_match(
    parameters: &Parameters,
    program: &PreparedProgram,
) -> Result<Repairs, Refusal> {
    let mut repairs = Repairs::default();
    if let Some(checksum) = &parameters.checksum
        && **checksum != *program.checksum
    {
        repairs.insert(mismatch("checksum", checksum, &program.checksum)?);
    }
    if let Some(text) = &parameters.customer_id
        && text.parse() != Ok(program.customer_id)
    {
        repairs.insert(mismatch("customerId", text, &program.customer_id.to_string())?);
    }
    Ok(repairs)
}

#[cold]
fn mismatch(name: &str, came: &str, expected: &str) -> Result<Repairs, Refusal> {
    if is_unfilled(came) {
        return Ok(Repairs::UNFILLED_MACRO);
    }
    Err(Refusal::mismatch(name, came, expected))
}

#[cfg(test)]
mod tests {
    use adtrack_proto::Version;
    use adtrack_proto::program::CoreData;

    use super::*;
    use crate::domain::Rules;

    fn check(query: &str) -> Result<Repairs, Refusal> {
        let json = br#"{"programId":"p","programName":"n","checksum":"124","customerId":9124,
            "customerName":"c","valid":true}"#;
        let CoreData::Program(program) = CoreData::from_json(json).unwrap() else { panic!() };
        let program = PreparedProgram::new(*program, Version::zero());
        check_program_match(&Parameters::parse(query, Rules::EVENT).unwrap(), &program)
    }

    #[test]
    fn refuses_parameters_that_contradict_the_program() {
        for query in [
            "",
            "checksum=124",
            "customerId=9124",
            "customerId=9124&checksum=124&x=1",
            "checksum=&customerId=",
        ] {
            assert_eq!(check(query), Ok(Repairs::default()), "{query}");
        }
        for query in ["checksum={checksum}", "customerId=%7Bid%7D&checksum=124"] {
            assert_eq!(check(query), Ok(Repairs::UNFILLED_MACRO), "{query}");
        }
        for (query, parameter, shown) in [
            ("checksum=125", "checksum", "got \"125\", the program's is \"124\""),
            ("checksum=124&customerId=1", "customerId", "got \"1\", the program's is \"9124\""),
            ("customerId=x", "customerId", "got \"x\""),
            ("customerId={id}&checksum=1", "checksum", "got \"1\""),
        ] {
            let refusal = check(query).unwrap_err();
            assert_eq!(refusal.code(), "parameter_mismatch");
            assert_eq!(refusal.parameter().as_deref(), Some(parameter), "{query}");
            assert!(refusal.to_string().contains(shown), "{refusal}");
        }
    }
}
