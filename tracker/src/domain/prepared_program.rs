//! A program with what every request on it needs already rendered.

use adtrack_proto::Version;
use adtrack_proto::event::ProgramFields;
use adtrack_proto::program::{CoreData, Program};
use serde_json::json;

/// A program as the cache holds it: what is the same for all its requests is rendered once, when
/// it is cached, and copied from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedProgram {
    /// The program.
    pub program: Program,
    /// Its place in the stream's order.
    pub version: Version,
    /// Its part of an event.
    pub event_fields: ProgramFields,
    /// Its part of the answer's JSON: `"programId":…,"customerName":…`.
    pub(super) answer_fields: Box<str>,
}

impl PreparedProgram {
    /// Renders what a request on `program` needs.
    pub fn new(program: Program, version: Version) -> Self {
        let answer_fields = format!(
            r#""programId":{},"programName":{},"checksum":{},"customerId":{},"customerName":{}"#,
            json!(program.program_id.as_str()),
            json!(program.program_name),
            json!(program.checksum),
            program.customer_id,
            json!(program.customer_name),
        );
        Self {
            event_fields: ProgramFields::of(&program),
            answer_fields: answer_fields.into(),
            program,
            version,
        }
    }

    /// The program as core-data JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let json = CoreData::Program(Box::new(self.program.clone())).to_json();
        serde_json::from_str(&json).unwrap_or_default()
    }
}
