//! Whether parameters match the program that the request names.

use crate::domain::{Parameters, PreparedProgram, Refusal};

/// Checks that `checksum` and `customerId`, if given, are those of the program.
pub fn check_program_match(
    parameters: &Parameters,
    program: &PreparedProgram,
) -> Result<(), Refusal> {
    if parameters.checksum.as_deref().is_some_and(|checksum| checksum != &*program.checksum) {
        return Err(Refusal::ParameterMismatch("checksum"));
    }
    let is_customer = |text: &String| text.parse() == Ok(program.customer_id);
    if parameters.customer_id.as_ref().is_some_and(|text| !is_customer(text)) {
        return Err(Refusal::ParameterMismatch("customerId"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use adtrack_proto::Version;
    use adtrack_proto::program::CoreData;

    use super::*;
    use crate::domain::Rules;

    fn check(query: &str) -> Result<(), Refusal> {
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
            assert_eq!(check(query), Ok(()), "{query}");
        }
        for (query, parameter) in [
            ("checksum=125", "checksum"),
            ("checksum=124&customerId=1", "customerId"),
            ("customerId=x", "customerId"),
        ] {
            assert_eq!(check(query), Err(Refusal::ParameterMismatch(parameter)), "{query}");
        }
    }
}
