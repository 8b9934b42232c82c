//! An item of a batch: one event, as a client describes it in JSON.

use std::borrow::Cow;
use std::fmt;

use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use jiff::{SignedDuration, Timestamp};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::client::address::TruncatedAddress;
use crate::domain::client::privacy::refuses_consent;
use crate::domain::program::Alias;
use crate::domain::request::json::{Name, Number, Scalar, members};
use crate::domain::{
    ClaimNames, Client, ConversionClaim, Pair, Parameters, Refusal, Repairs, Rules,
    TrackingRequest, TrafficFlags, optional_reference, referrer_text, truncate_header_text,
};

/// How old an event may be, by the client's clock.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far the client's clock may be ahead of ours.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// Members of an item. Its `parameters` must not use these names.
const RESERVED: [&str; 2] = ["checksum", "customerId"];

const KNOWN: &str = "programId, eventType, eventId, occurredAt, checksum, customerId, parameters, \
    clickId, impressionId, transactionId, eventName, status, amount, currency, sig, userAgent and \
    referrer";

/// The members as raw JSON. Null counts as absent.
#[derive(Debug, Default)]
struct RawItem<'a> {
    program_id: Option<&'a RawValue>,
    event_type: Option<&'a RawValue>,
    event_id: Option<&'a RawValue>,
    occurred_at: Option<&'a RawValue>,
    checksum: Option<&'a RawValue>,
    customer_id: Option<&'a RawValue>,
    parameters: Option<&'a RawValue>,
    click_id: Option<&'a RawValue>,
    impression_id: Option<&'a RawValue>,
    transaction_id: Option<&'a RawValue>,
    event_name: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    amount: Option<&'a RawValue>,
    currency: Option<&'a RawValue>,
    sig: Option<&'a RawValue>,
    user_agent: Option<&'a RawValue>,
    referrer: Option<&'a RawValue>,
}

impl<'a> RawItem<'a> {
    /// The field for the member `name`; none if there is no such member.
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a RawValue>> {
        Some(match name {
            "programId" => &mut self.program_id,
            "eventType" => &mut self.event_type,
            "eventId" => &mut self.event_id,
            "occurredAt" => &mut self.occurred_at,
            "checksum" => &mut self.checksum,
            "customerId" => &mut self.customer_id,
            "parameters" => &mut self.parameters,
            "clickId" => &mut self.click_id,
            "impressionId" => &mut self.impression_id,
            "transactionId" => &mut self.transaction_id,
            "eventName" => &mut self.event_name,
            "status" => &mut self.status,
            "amount" => &mut self.amount,
            "currency" => &mut self.currency,
            "sig" => &mut self.sig,
            "userAgent" => &mut self.user_agent,
            "referrer" => &mut self.referrer,
            _ => return None,
        })
    }
}

/// A value of a batch: an item, or why it is not one.
#[derive(Debug)]
pub struct ReadItem<'a> {
    read: Result<RawItem<'a>, ItemProblem>,
    /// Whether it has U+FFFD where the sender's text is not Unicode.
    is_repaired: bool,
}

/// Why a value is not an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ItemProblem {
    #[error("an item must be a JSON object")]
    NotAnObject,
    #[error("`{0}` is given twice, with different values; give it once")]
    GivenTwice(String),
    #[error("{} is not a member of an item; known are {KNOWN}", Refusal::shown(.0))]
    Unknown(String),
    #[error("line {line} is not JSON: {problem}")]
    NotJson { line: usize, problem: String },
}

impl ReadItem<'_> {
    /// What cannot be read in the line with this number. `error` counts columns from `column` on.
    pub(super) fn not_json(line: usize, column: usize, error: &serde_json::Error) -> Self {
        // Without the position, whose line would be 1.
        let text = error.to_string();
        let problem = text.split(" at line ").next().unwrap_or_default();
        let problem = format!("{problem} at column {}", column + error.column());
        Self { read: Err(ItemProblem::NotJson { line, problem }), is_repaired: false }
    }

    pub(super) fn repaired_if(self, is_repaired: bool) -> Self {
        Self { is_repaired, ..self }
    }

    /// Whether it is a JSON object, valid as an item or not.
    pub(super) fn is_object(&self) -> bool {
        !matches!(self.read, Err(ItemProblem::NotAnObject | ItemProblem::NotJson { .. }))
    }

    #[cfg(test)]
    pub(super) fn is_repaired(&self) -> bool {
        self.is_repaired
    }
}

impl<'de> Deserialize<'de> for ReadItem<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = deserializer.deserialize_any(ItemVisitor)?;
        Ok(Self { read, is_repaired: false })
    }
}

/// Reads every value to its end, valid or not, so that the next one can be read.
struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Result<RawItem<'de>, ItemProblem>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut item = RawItem::default();
        let mut problem = None;
        while let Some(Name(name)) = map.next_key()? {
            let value: Option<&RawValue> = map.next_value()?;
            match item.slot(&name) {
                Some(Some(first)) => {
                    if value.is_none_or(|value| value.get() != first.get()) {
                        problem = Some(ItemProblem::GivenTwice(name.into_owned()));
                    }
                }
                Some(slot) => *slot = value,
                // Otherwise a misspelt member would be lost silently.
                None => problem = Some(ItemProblem::Unknown(name.into_owned())),
            }
        }
        Ok(problem.map_or(Ok(item), Err))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err(ItemProblem::NotAnObject))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Err(ItemProblem::NotAnObject))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Err(ItemProblem::NotAnObject))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Err(ItemProblem::NotAnObject))
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Err(ItemProblem::NotAnObject))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Err(ItemProblem::NotAnObject))
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Err(ItemProblem::NotAnObject))
    }
}

/// An item of a batch, before it is known whether its program exists.
#[derive(Debug)]
pub struct BatchItem<'a> {
    raw: RawItem<'a>,
    /// The program.
    pub program_id: ProgramId,
    /// What happened.
    pub event_type: EventType,
    /// Whether it has U+FFFD where the sender's text is not Unicode.
    is_repaired: bool,
}

/// The texts of an item's claim, unescaped if need be.
#[derive(Debug, Default)]
struct ClaimTexts<'a> {
    click_id: Cow<'a, str>,
    event_name: Cow<'a, str>,
    transaction_id: Cow<'a, str>,
    status: Cow<'a, str>,
    amount: Cow<'a, str>,
    amount_is_number: bool,
    currency: Cow<'a, str>,
    event_id: Cow<'a, str>,
    signature: Cow<'a, str>,
}

impl<'a> BatchItem<'a> {
    /// Reads an item's program and event type. [`Self::to_request`] reads the rest.
    pub fn of(read: ReadItem<'a>) -> Result<Self, Refusal> {
        let raw = read.read.map_err(|problem| match problem {
            ItemProblem::NotJson { .. } => Refusal::InvalidBody(problem.to_string()),
            _ => Refusal::invalid_parameters(&problem.to_string()),
        })?;
        let program_id = text("programId", raw.program_id)?;
        let event_type = event_type(&text("eventType", raw.event_type)?)?;
        let program_id = ProgramId::parse(&program_id)
            .map_err(|_| Refusal::InvalidProgramId(program_id.into_owned()))?;
        Ok(Self { raw, program_id, event_type, is_repaired: read.is_repaired })
    }

    /// Turns the item into a request from `client` (unless it names another client), received at
    /// `received_at`. If `tcf_vendor_id` is given, consent must include it. `status_aliases` are the program's;
    /// `authorize` decides whether a conversion may be recorded.
    pub fn to_request(
        &self,
        client: &Client<'a>,
        tcf_vendor_id: Option<u16>,
        received_at: Timestamp,
        status_aliases: &[Alias],
        authorize: impl FnOnce(&ConversionClaim<'_>) -> Result<(), Refusal>,
    ) -> Result<TrackingRequest<'a>, Refusal> {
        let texts = self.claim_texts()?;
        let mut repairs = Repairs::default();
        if self.is_repaired {
            repairs.insert(Repairs::NOT_UTF8);
            // It decides which conversion this is. The other members that do are exact anyway.
            if texts.event_name.contains(char::REPLACEMENT_CHARACTER) {
                return Err(Refusal::invalid("eventName", &texts.event_name, "Unicode"));
            }
        }
        let claim = ConversionClaim { status_aliases, ..texts.claim() };
        let mut parameters = self.parameters(&claim, repairs)?;
        let (conversion, click_id) = if self.event_type == EventType::Conversion {
            let valid = claim.validate(&ClaimNames::MEMBERS)?;
            parameters.repairs.insert(valid.repairs);
            authorize(&claim)?;
            (Some(Box::new(valid.conversion)), valid.click_id)
        } else if let Some(member) = self.conversion_member() {
            let problem = format!("`{member}` needs the `eventType` conversion");
            return Err(Refusal::invalid_parameters(&problem));
        } else {
            (None, optional_reference(claim.click_id, &mut parameters.repairs))
        };
        let impression_id = text("impressionId", self.raw.impression_id)?;
        let impression_id = optional_reference(&impression_id, &mut parameters.repairs);
        let mut client = self.client(client, &mut parameters.repairs);
        if refuses_consent(&parameters, tcf_vendor_id) {
            client.objects_to_tracking = true;
            client.visitor_id.clear();
        }
        Ok(TrackingRequest {
            program_id: self.program_id.clone(),
            event_type: self.event_type,
            parameters,
            client,
            impression_id,
            click_id,
            conversion,
            occurred_at: self.occurred_at(received_at)?,
            received_at,
        })
    }

    fn claim_texts(&self) -> Result<ClaimTexts<'a>, Refusal> {
        let raw = &self.raw;
        let (click_id, event_id) = (text("clickId", raw.click_id)?, text("eventId", raw.event_id)?);
        if self.event_type != EventType::Conversion {
            return Ok(ClaimTexts { click_id, event_id, ..ClaimTexts::default() });
        }
        Ok(ClaimTexts {
            click_id,
            event_id,
            event_name: text("eventName", raw.event_name)?,
            transaction_id: text("transactionId", raw.transaction_id)?,
            status: text("status", raw.status)?,
            amount: text("amount", raw.amount)?,
            amount_is_number: raw.amount.is_some_and(|amount| !amount.get().starts_with('"')),
            currency: text("currency", raw.currency)?,
            signature: text("sig", raw.sig)?,
        })
    }

    /// A member that only a conversion has, if one is given.
    fn conversion_member(&self) -> Option<&'static str> {
        let raw = &self.raw;
        let members = [
            ("transactionId", raw.transaction_id),
            ("eventName", raw.event_name),
            ("status", raw.status),
            ("amount", raw.amount),
            ("currency", raw.currency),
            ("sig", raw.sig),
        ];
        let is_given = |value: &RawValue| value.get() != r#""""#;
        members.iter().find(|(_, value)| value.is_some_and(is_given)).map(|(name, _)| *name)
    }

    fn parameters(
        &self,
        claim: &ConversionClaim<'_>,
        repairs: Repairs,
    ) -> Result<Parameters, Refusal> {
        let mut parameters = Parameters { repairs, ..Parameters::default() };
        let mut add = |name: &str, value: Cow<'_, str>| match &*value {
            "" => Ok(()),
            _ => parameters.add(Pair::new(name, value.into_owned()), Rules::ITEM),
        };
        add("checksum", text("checksum", self.raw.checksum)?)?;
        add("customerId", integer_text("customerId", self.raw.customer_id)?)?;
        parameters.add_event_id("eventId", claim.event_id.to_owned(), true, Rules::ITEM)?;
        let carried = match self.raw.parameters.map(RawValue::get) {
            None | Some(r#""""#) => return Ok(parameters),
            Some(json) if json.starts_with('{') => members(json)
                .map_err(|error| Refusal::invalid_parameters(&format!("`parameters`: {error}")))?,
            Some(json) => {
                if !is_empty_array(json) {
                    parameters.repairs.insert(Repairs::WRONG_TYPE);
                }
                return Ok(parameters);
            }
        };
        for (name, value) in carried {
            let is_member = self.event_type == EventType::Conversion
                && ConversionClaim::PARAMETERS.contains(&&*name);
            if is_member || RESERVED.contains(&&*name) || name == "at_event_id" {
                return Err(Refusal::invalid_parameters(&format!(
                    "`parameters` has `{name}`, which is a member of the item itself"
                )));
            }
            if matches!(value, Scalar::Nested(_)) {
                parameters.repairs.insert(Repairs::NESTED_VALUE);
            }
            let value = value.into_text().unwrap_or_default().into_owned();
            parameters.add(Pair::new(&name, value), Rules::ITEM)?;
        }
        // The item has members for what counts.
        parameters.read_misspelt(|_| false);
        Ok(parameters)
    }

    /// The event's client: the sender, unless the item names a user agent. Then the client is another one,
    /// whose address and visitor id are unknown.
    fn client(&self, sender: &Client<'a>, repairs: &mut Repairs) -> Client<'a> {
        let mut client = sender.clone();
        if let Some(user_agent) = description("userAgent", self.raw.user_agent, repairs) {
            client.user_agent = truncate_header_text(user_agent);
            client.traffic_flags = TrafficFlags::of_user_agent(&client.user_agent);
            client.address = TruncatedAddress::default();
            client.visitor_id.clear();
        }
        if let Some(referrer) = description("referrer", self.raw.referrer, repairs) {
            client.referrer = referrer_text(referrer);
        }
        client
    }

    fn occurred_at(&self, received_at: Timestamp) -> Result<Timestamp, Refusal> {
        let text = text("occurredAt", self.raw.occurred_at)?;
        if text.is_empty() {
            return Ok(received_at);
        }
        let occurred_at = moment(&text).ok_or_else(|| {
            let accepted = "RFC 3339, as 2026-01-02T03:04:05Z is, or milliseconds since 1970";
            Refusal::invalid("occurredAt", &text, accepted)
        })?;
        let age = received_at.duration_since(occurred_at);
        if age > MAX_AGE || age < -MAX_AHEAD {
            let accepted = "at most 7 days ago and 5 minutes ahead, in RFC 3339 or milliseconds \
                            since 1970";
            return Err(Refusal::invalid("occurredAt", &text, accepted));
        }
        Ok(occurred_at)
    }
}

/// The event type that an item names, in upper or lower case.
fn event_type(name: &str) -> Result<EventType, Refusal> {
    let types = [
        ("event", EventType::Event),
        ("impression", EventType::Impression),
        ("click", EventType::Click),
        ("conversion", EventType::Conversion),
        ("", EventType::Event),
    ];
    let known = types.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, event_type)| *event_type).ok_or_else(|| {
        Refusal::invalid("eventType", name, "event, impression, click or conversion")
    })
}

/// PHP writes an empty object like this.
fn is_empty_array(json: &str) -> bool {
    json.strip_prefix('[').is_some_and(|rest| rest.trim_ascii_start() == "]")
}

/// A moment in milliseconds since 1970, whose fraction is dropped (as clocks with a higher resolution have it), or
/// in RFC 3339.
fn moment(text: &str) -> Option<Timestamp> {
    if text.starts_with(|first: char| first.is_ascii_digit())
        && let Some(milliseconds) = Number::parse(text)
    {
        return Timestamp::from_millisecond(milliseconds.truncated()?).ok();
    }
    text.parse().ok()
}

impl ClaimTexts<'_> {
    fn claim(&self) -> ConversionClaim<'_> {
        ConversionClaim {
            click_id: &self.click_id,
            event_name: &self.event_name,
            transaction_id: &self.transaction_id,
            status: &self.status,
            status_aliases: &[],
            amount: &self.amount,
            amount_is_number: self.amount_is_number,
            currency: &self.currency,
            event_id: &self.event_id,
            signature: &self.signature,
        }
    }
}

/// The text of a member, which may be a number; empty if it is absent.
fn text<'a>(member: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, Refusal> {
    let Some(value) = value else { return Ok(Cow::Borrowed("")) };
    match Scalar::of(value) {
        Ok(Scalar::Text(text)) => Ok(text),
        Ok(Scalar::Number(text)) => Ok(Cow::Borrowed(text)),
        Ok(Scalar::Null) => Ok(Cow::Borrowed("")),
        Ok(Scalar::Boolean(_) | Scalar::Nested(_)) | Err(_) => {
            Err(Refusal::invalid(member, value.get(), "a text or a number"))
        }
    }
}

/// The text of a member that only describes the event; none if it is absent. One of another type is dropped, and
/// leaves an empty text: what the sender meant is not known.
fn description<'a>(
    member: &str,
    value: Option<&'a RawValue>,
    repairs: &mut Repairs,
) -> Option<Cow<'a, str>> {
    let value = value?;
    let text = text(member, Some(value)).unwrap_or_else(|_| {
        repairs.insert(Repairs::WRONG_TYPE);
        Cow::Borrowed("")
    });
    (!text.is_empty() || value.get() != r#""""#).then_some(text)
}

/// As [`text`]; an integer may be written as any JSON number, such as `9124.0`.
fn integer_text<'a>(member: &str, value: Option<&'a RawValue>) -> Result<Cow<'a, str>, Refusal> {
    let text = text(member, value)?;
    let is_number = value.is_some_and(|value| !value.get().starts_with('"'));
    if is_number && text.contains(['.', 'e', 'E']) {
        let integer = Number::parse(&text).and_then(|number| number.scaled(0));
        if let Some((integer, true)) = integer {
            return Ok(Cow::Owned(integer.to_string()));
        }
    }
    Ok(text)
}
