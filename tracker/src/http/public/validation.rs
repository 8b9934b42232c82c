//! Responses that say what would be recorded, instead of recording it: `/validate`, and every path of an endpoint
//! behind it.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use adtrack_proto::event::TrackingEvent;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::domain::{Destination, Refusal, TrackedEvent};
use crate::http::problem::Problem;

/// Describes an event that would be recorded. A click leads to the destination, or to the fallback page if
/// that is nowhere.
pub(super) fn response(
    event: &TrackedEvent<'_>,
    click: Option<(&Destination, Option<&str>)>,
) -> HttpResponse {
    let mut description = description(event);
    let (status, location) = match click {
        None => (200, None),
        Some((Destination::Page(page), _)) => (302, Some(page.as_str())),
        Some((Destination::Nowhere, Some(page))) => (302, Some(page)),
        Some((Destination::Nowhere, None)) => (204, None),
        Some((Destination::Gone(_), _)) => (410, None),
    };
    description["accepted"] = json!(true);
    description["status"] = json!(status);
    if let Some(location) = location {
        description["location"] = json!(location);
    }
    respond(&description)
}

/// Describes why nothing would be recorded.
pub(super) fn refusal_response(refusal: Refusal) -> HttpResponse {
    let problem = Problem::from(refusal);
    respond(&json!({
        "accepted": false,
        "status": problem.status().as_u16(),
        "problem": problem.to_json(),
    }))
}

fn respond(description: &Value) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(description.to_string())
}

/// The row of an event, and what was repaired.
pub(super) fn description(event: &TrackedEvent<'_>) -> Value {
    let repairs = event.repairs();
    // What a consumer of the stream would read.
    let row =
        TrackingEvent::decode(&*event.to_protobuf(event.received_at_ms())).unwrap_or_default();
    let mut description = json!({ "event": attributes(&row) });
    if !repairs.is_empty() {
        description["repaired"] = json!(repairs.header());
    }
    description
}

/// The attributes that the event's row has in DynamoDB. Without a place where they could be forgotten: a new
/// field of the event does not compile here.
fn attributes(event: &TrackingEvent) -> Value {
    let event_type = event.event_type().name();
    let TrackingEvent {
        program_id,
        checksum,
        customer_id,
        user_agent,
        program_name,
        customer_name,
        is_valid,
        message_id,
        event_type: _,
        occurred_at_ms,
        visitor_id,
        click_id,
        referrer,
        client_ip,
        traffic_flags,
        parameters,
        transaction_id,
        amount_micros,
        currency,
        invalid_reason,
        received_at_ms,
        client_event_id,
        impression_id,
        event_name,
        status,
        is_test,
        host,
    } = event;
    let mut row = Map::from_iter([
        ("message_id".to_owned(), json!(message_id)),
        ("event_type".to_owned(), json!(event_type)),
        ("program_id".to_owned(), json!(program_id)),
        ("program_name".to_owned(), json!(program_name)),
        ("checksum".to_owned(), json!(checksum)),
        ("customer_id".to_owned(), json!(customer_id)),
        ("customer_name".to_owned(), json!(customer_name)),
        ("user_agent".to_owned(), json!(user_agent)),
        ("is_valid".to_owned(), json!(is_valid)),
        ("occurred_at".to_owned(), json!(occurred_at_ms)),
        ("received_at".to_owned(), json!(received_at_ms)),
    ]);
    let texts = [
        ("visitor_id", visitor_id),
        ("click_id", click_id),
        ("impression_id", impression_id),
        ("referrer", referrer),
        ("client_ip", client_ip),
        ("host", host),
        ("transaction_id", transaction_id),
        ("event_name", event_name),
        ("status", status),
        ("currency", currency),
        ("invalid_reason", invalid_reason),
        ("client_event_id", client_event_id),
    ];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    row.extend(texts.map(|(name, text)| (name.to_owned(), json!(text))));
    if !traffic_flags.is_empty() {
        row.insert("traffic_flags".to_owned(), json!(traffic_flags));
    }
    if !parameters.is_empty() {
        row.insert("parameters".to_owned(), json!(parameters));
    }
    if *amount_micros != 0 {
        row.insert("amount_micros".to_owned(), json!(amount_micros));
    }
    if *is_test {
        row.insert("is_test".to_owned(), json!(true));
    }
    Value::Object(row)
}
