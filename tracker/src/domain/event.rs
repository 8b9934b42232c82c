//! The event that is recorded, and its description in responses.

use std::collections::BTreeMap;
use std::sync::Arc;

use adtrack_proto::ProgramId;
use adtrack_proto::event::{ConversionFields, EventType, InvalidReason, RequestFields};

use super::refusal::Refusal;
use super::request::message_id;
use super::{
    Conversion, MessageId, PreparedProgram, Repairs, TrackingRequest, check_program_match,
};

/// The parameters that are recorded if the client objects to tracking.
const NO_PARAMETERS: &BTreeMap<String, String> = &BTreeMap::new();

/// The event of a tracking request whose program exists and whose `checksum` and `customerId`, if given, are
/// the program's.
#[derive(Debug)]
pub struct TrackedEvent<'a> {
    /// The event's id.
    pub message_id: MessageId,
    /// Whether the program is valid, else why not.
    pub validity_outcome: Result<(), InvalidReason>,
    pub(super) request: &'a TrackingRequest<'a>,
    pub(super) program: Arc<PreparedProgram>,
    repairs: Repairs,
}

impl<'a> TrackedEvent<'a> {
    /// Validates `request` against `program`. `random` makes the message id unguessable.
    pub fn new(
        request: &'a TrackingRequest<'a>,
        program: Arc<PreparedProgram>,
        random: u128,
    ) -> Result<Self, Refusal> {
        let mut repairs = check_program_match(&request.parameters, &program)?;
        repairs.insert(request.parameters.repairs);
        let validity_outcome = program.validity.at(request.received_at);
        Ok(Self {
            message_id: message_id(request, random),
            validity_outcome,
            request,
            program,
            repairs,
        })
    }

    /// The event as it is recorded: protobuf `TrackingEvent`, received at `received_at_ms` as the journal sees it.
    pub fn to_protobuf(&self, received_at_ms: u64) -> Vec<u8> {
        let request = self.request;
        let client = &request.client;
        let parameters = &request.parameters;
        let with_flags = |traffic_flags: &[&str]| {
            self.program.event_fields.encode_event(&RequestFields {
                user_agent: &client.user_agent,
                is_valid: self.validity_outcome.is_ok(),
                message_id: &self.message_id,
                event_type: request.event_type,
                occurred_at_ms: request.occurred_at.as_millisecond(),
                received_at_ms: i64::try_from(received_at_ms).unwrap_or(i64::MAX),
                visitor_id: &client.visitor_id,
                click_id: &request.click_id,
                impression_id: &request.impression_id,
                referrer: &client.referrer,
                client_ip: client.address.as_str(),
                traffic_flags,
                parameters: if client.objects_to_tracking {
                    NO_PARAMETERS
                } else {
                    &parameters.carried
                },
                conversion: request.conversion.as_deref().map(Conversion::fields),
                invalid_reason: self.validity_outcome.err(),
                client_event_id: parameters.event_id.as_deref().unwrap_or_default(),
                host: &client.host,
            })
        };
        let mut traffic_flags = client.traffic_flags;
        if !self.repairs.is_empty() {
            traffic_flags.insert(self.repairs.traffic_flags());
        }
        traffic_flags.with_names(with_flags)
    }

    /// When the request was received, in milliseconds since the Unix epoch.
    pub fn received_at_ms(&self) -> u64 {
        u64::try_from(self.request.received_at.as_millisecond()).unwrap_or(0)
    }

    /// The event as JSON for the client.
    pub fn to_json(&self) -> String {
        let user_agent = &self.request.client.user_agent;
        let (fields, last_fields) = self.program.response_fields();
        let length = user_agent.len() + fields.len() + last_fields.len() + 100;
        let mut json = String::with_capacity(length);
        json.push_str(r#"{"userAgent":"#);
        push_json_text(&mut json, user_agent);
        json.push(',');
        json.push_str(fields);
        json.push_str(r#","messageId":""#);
        json.push_str(&self.message_id);
        json.push_str(if self.validity_outcome.is_ok() {
            r#"","valid":true"#
        } else {
            r#"","valid":false"#
        });
        json.push_str(last_fields);
        json
    }

    /// What was repaired in the request.
    pub fn repairs(&self) -> Repairs {
        self.repairs
    }

    /// Whether a repeat of the event would have the same id: it is a hash of what the client sent.
    pub fn has_shared_id(&self) -> bool {
        // The digit of a UUID that is its version.
        self.message_id.as_bytes().get(14) == Some(&b'8')
    }

    /// Counts a recorded conversion in its program.
    pub fn count_conversion(&self) {
        if self.request.conversion.is_some() {
            self.program.requests.count_conversion();
        }
    }

    /// The request's event type.
    pub fn event_type(&self) -> EventType {
        self.request.event_type
    }

    /// Whether the event has no visitor id.
    pub fn is_anonymous(&self) -> bool {
        self.request.client.visitor_id.is_empty()
    }

    /// The request's program.
    pub fn program_id(&self) -> &ProgramId {
        &self.request.program_id
    }
}

/// Appends a JSON string. Fast if there is nothing to escape, as in most texts.
fn push_json_text(json: &mut String, text: &str) {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // A fold does not stop early, so that the compiler can check many bytes at a time.
    if !text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        json.push_str(&serde_json::Value::from(text).to_string());
    }
}

impl Conversion {
    fn fields(&self) -> ConversionFields<'_> {
        ConversionFields {
            transaction_id: &self.transaction_id,
            amount_micros: self.amount_micros,
            currency: &self.currency,
            event_name: &self.event_name,
            status: &self.status,
        }
    }
}

#[cfg(test)]
mod tests {
    use adtrack_proto::Version;
    use adtrack_proto::event::TrackingEvent;
    use adtrack_proto::program::CoreData;
    use prost::Message;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Client, Parameters, Rules};

    fn event(valid: bool) -> TrackedEvent<'static> {
        let json = format!(
            r#"{{"programId":"212313","programName":"p\"2","checksum":"124","customerId":-9124,
            "customerName":"C\u00fc","valid":{valid}}}"#
        );
        let CoreData::Program(program) = CoreData::from_json(json.as_bytes()).unwrap() else {
            panic!("a program")
        };
        let request = TrackingRequest {
            program_id: ProgramId::parse("212313").unwrap(),
            event_type: EventType::Event,
            parameters: Parameters::parse("checksum=124&a=1&a=2", Rules::EVENT).unwrap(),
            client: Client {
                user_agent: "quote \" back \\ control \u{1} <script>".into(),
                referrer: "https://r.example/".into(),
                host: "t.example".into(),
                ..Client::default()
            },
            impression_id: String::new(),
            click_id: String::new(),
            conversion: None,
            occurred_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            received_at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        };
        let program = PreparedProgram::new(*program, Version::zero());
        TrackedEvent::new(
            Box::leak(Box::new(request)),
            Arc::new(program),
            u128::from_le_bytes([7; 16]),
        )
        .unwrap()
    }

    #[test]
    fn describes_the_event_in_json_with_members_in_order() {
        let event = event(true);
        let expected = concat!(
            r#"{"userAgent":"quote \" back \\ control \u0001 <script>","programId":"212313","#,
            r#""programName":"p\"2","checksum":"124","customerId":-9124,"customerName":"Cü","#,
            r#""messageId":"019b7ca9-8f2e-7707-8707-070707070707","valid":true,"#,
            r#""customerIdText":"-9124"}"#
        );
        assert_eq!(event.to_json(), expected);
        assert_eq!(Uuid::try_parse(&event.message_id).unwrap().get_version_num(), 7);
        serde_json::from_str::<serde_json::Value>(&event.to_json()).unwrap();
    }

    #[test]
    fn records_fields_of_program_and_request() {
        let event =
            TrackingEvent::decode(&*event(false).to_protobuf(event(false).received_at_ms()))
                .unwrap();
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
            traffic_flags: vec!["parameters_cut".into()],
            ..TrackingEvent::default()
        };
        assert_eq!(event, expected);
    }
}
