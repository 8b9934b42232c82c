//! What an ad client is told, and what is recorded.

use std::sync::Arc;

use adtrack_proto::event::{EventType, InvalidReason, TrackingEvent};
use bytes::Bytes;
use uuid::Uuid;

use super::{PreparedProgram, TrackingRequest, check_combination};
use crate::domain::Refusal;

/// A tracking request on a program that exists, with a valid combination of parameters.
#[derive(Debug)]
pub struct Answer {
    /// The event's id.
    pub message_id: Uuid,
    request: TrackingRequest,
    program: Arc<PreparedProgram>,
    validity: Result<(), InvalidReason>,
}

impl Answer {
    /// Validates `request` against `program`. `random` makes the message id unguessable.
    pub fn new(
        request: TrackingRequest,
        program: Arc<PreparedProgram>,
        random: [u8; 10],
    ) -> Result<Self, Refusal> {
        check_combination(&request.parameters, &program.program)?;
        let validity = program.program.validity_at(request.received_at);
        let milliseconds = since_epoch(&request);
        let message_id =
            uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid();
        Ok(Self { message_id, request, program, validity })
    }

    /// The event as it is recorded: protobuf `TrackingEvent`.
    pub fn to_event(&self) -> Bytes {
        let request = &self.request;
        let milliseconds = request.received_at.as_millisecond();
        let rest = TrackingEvent {
            user_agent: request.user_agent.clone(),
            is_valid: self.validity.is_ok(),
            message_id: self.message_id.to_string(),
            event_type: EventType::Event.into(),
            occurred_at_ms: milliseconds,
            received_at_ms: milliseconds,
            referrer: request.referrer.clone(),
            parameters: request.parameters.carried.clone(),
            invalid_reason: match self.validity {
                Ok(()) => String::new(),
                Err(reason) => reason.as_str().to_owned(),
            },
            host: request.host.clone(),
            ..TrackingEvent::default()
        };
        self.program.event_fields.with(&rest)
    }

    /// When the request was taken, milliseconds since the Unix epoch.
    pub fn received_at_ms(&self) -> u64 {
        since_epoch(&self.request)
    }

    /// The answer's JSON.
    pub fn to_json(&self) -> String {
        format!(
            r#"{{"userAgent":{},{},"messageId":"{}","valid":{}}}"#,
            serde_json::Value::from(self.request.user_agent.as_str()),
            self.program.answer_fields,
            self.message_id,
            self.validity.is_ok(),
        )
    }
}

fn since_epoch(request: &TrackingRequest) -> u64 {
    u64::try_from(request.received_at.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use adtrack_proto::program::CoreData;
    use adtrack_proto::{ProgramId, Version};
    use prost::Message;

    use super::*;
    use crate::domain::Parameters;

    fn answer(valid: bool) -> Answer {
        let json = format!(
            r#"{{"programId":"212313","programName":"p\"2","checksum":"124","customerId":-9124,
            "customerName":"C\u00fc","valid":{valid}}}"#
        );
        let CoreData::Program(program) = CoreData::from_json(json.as_bytes()).unwrap() else {
            panic!("a program")
        };
        let request = TrackingRequest {
            program_id: ProgramId::parse("212313").unwrap(),
            parameters: Parameters::parse("checksum=124&a=1").unwrap(),
            user_agent: "quote \" back \\ control \u{1} <script>".into(),
            referrer: "https://r.example/".into(),
            host: "t.example".into(),
            received_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        };
        let program = PreparedProgram::new(*program, Version::zero());
        Answer::new(request, Arc::new(program), [7; 10]).unwrap()
    }

    #[test]
    fn the_answer_is_json_with_the_members_in_order() {
        let answer = answer(true);
        let expected = concat!(
            r#"{"userAgent":"quote \" back \\ control \u0001 <script>","programId":"212313","#,
            r#""programName":"p\"2","checksum":"124","customerId":-9124,"customerName":"Cü","#,
            r#""messageId":"019b7ca9-8f2e-7707-8707-070707070707","valid":true}"#
        );
        assert_eq!(answer.to_json(), expected);
        assert_eq!(answer.message_id.get_version_num(), 7);
        serde_json::from_str::<serde_json::Value>(&answer.to_json()).unwrap();
    }

    #[test]
    fn the_event_has_what_program_and_request_say() {
        let event = TrackingEvent::decode(answer(false).to_event()).unwrap();
        let expected = TrackingEvent {
            program_id: "212313".into(),
            checksum: "124".into(),
            customer_id: -9124,
            user_agent: "quote \" back \\ control \u{1} <script>".into(),
            program_name: "p\"2".into(),
            customer_name: "Cü".into(),
            is_valid: false,
            message_id: "019b7ca9-8f2e-7707-8707-070707070707".into(),
            event_type: EventType::Event.into(),
            occurred_at_ms: 1_767_323_045_678,
            received_at_ms: 1_767_323_045_678,
            referrer: "https://r.example/".into(),
            parameters: [("a".to_owned(), "1".to_owned())].into(),
            invalid_reason: "program_disabled".into(),
            host: "t.example".into(),
            ..TrackingEvent::default()
        };
        assert_eq!(event, expected);
    }
}
