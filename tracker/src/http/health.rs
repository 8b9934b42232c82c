//! Health checks, on both listeners.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;

use crate::health::Health;

/// `GET /health/check`: whether a load balancer may send traffic.
pub(in crate::http) fn check(health: &Health) -> HttpResponse {
    if health.serves() {
        HttpResponse::Ok().json(json!({"status": "ok"}))
    } else {
        let reason = if health.is_draining() { "draining" } else { "starting" };
        HttpResponse::ServiceUnavailable().json(json!({"status": reason}))
    }
}

/// `GET /health/live`: 200 as long as the process can respond.
pub(in crate::http) fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

/// `GET /health/live` for operators: also names the process.
pub(in crate::http) async fn live_process() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok", "processId": std::process::id()}))
}

/// `GET /health/ready`: lists the problems that need somebody's attention.
pub(in crate::http) fn ready(health: &Health) -> HttpResponse {
    let problems = health.problems();
    let (status, text) = if problems.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    HttpResponse::build(status).json(json!({"status": text, "reasons": problems}))
}
