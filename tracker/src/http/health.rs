//! Health checks, on both listeners.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;

use crate::health::Health;

/// `GET /health/check`: what a load balancer acts on.
pub(in crate::http) fn check(health: &Health) -> HttpResponse {
    if health.serves() {
        HttpResponse::Ok().json(json!({"status": "ok"}))
    } else {
        let reason = if health.is_draining() { "draining" } else { "starting" };
        HttpResponse::ServiceUnavailable().json(json!({"status": reason}))
    }
}

/// `GET /health/live`: the process serves.
pub(in crate::http) fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /health/live` for operators: and which process that is.
pub(in crate::http) async fn live_process() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok", "processId": std::process::id()}))
}

/// `GET /health/ready`: what needs a person.
pub(in crate::http) fn ready(health: &Health) -> HttpResponse {
    let problems = health.problems();
    let (status, text) = if problems.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    HttpResponse::build(status).json(json!({"status": text, "reasons": problems}))
}
