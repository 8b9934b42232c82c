//! The management listener. Must never be public: it shows and changes the tracker's state.

use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};
use adtrack_proto::{ProgramId, samples};
use adtrack_runtime::telemetry;
use serde_json::json;

use super::documents::MANAGEMENT_API;
use super::health;
use super::problem::Problem;
use crate::delivery::Journal;
use crate::domain::Refusal;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::programs::{LocalPrograms, ProgramState, RedisPrograms};
use crate::watchdog::Progress;

/// The management listener's state.
#[derive(Debug, Clone)]
pub struct Management {
    /// L1, to show and to purge.
    pub local: LocalPrograms,
    /// Redis, for the sample programs.
    pub redis: RedisPrograms,
    /// The channel on which sample programs are published.
    pub channel: String,
    /// Whether the sample programs may be loaded.
    pub sample_programs: bool,
    /// For the metrics of the events that wait for delivery.
    pub journal: Journal,
    /// For the health checks.
    pub health: Health,
    /// For the metrics of background tasks.
    pub progress: Progress,
    /// The tracker's metrics.
    pub metrics: Arc<Metrics>,
}

/// Registers the routes.
pub fn configure(config: &mut web::ServiceConfig, management: web::Data<Management>) {
    config
        .app_data(management)
        .service(resource("/metrics", "GET", web::get().to(metrics)))
        .service(resource("/cache/fill", "POST", web::post().to(fill)))
        .service(resource("/cache/purge", "POST", web::post().to(purge)))
        .service(resource("/cache/{programId}", "GET", web::get().to(get_cached)))
        .service(resource("/health/live", "GET", web::get().to(health::live_process)))
        .service(resource("/health/ready", "GET", web::get().to(ready)))
        .service(resource("/openapi.yaml", "GET", web::get().to(description)))
        .default_service(web::to(|| async { Problem::NotFound.to_response() }));
}

/// A resource at `path` that allows one method.
fn resource(path: &str, allowed: &'static str, route: Route) -> Resource {
    let refuse = move || async move { Problem::MethodNotAllowed(allowed).to_response() };
    web::resource(path).route(route).default_service(web::to(refuse))
}

async fn metrics(management: web::Data<Management>) -> HttpResponse {
    let metrics = &management.metrics;
    let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    metrics.programs.local_entries.set(gauge(management.local.len()));
    metrics.delivery.journal_bytes.set(gauge(management.journal.used_bytes()));
    metrics.delivery.journal_oldest_seconds.set(management.journal.oldest_age().as_secs_f64());
    metrics.delivery.journal_capacity.set(gauge(management.journal.capacity_bytes()));
    for (task, is_stalled) in management.progress.tasks_stalled() {
        metrics.task.stalled.with_label_values(&[task]).set(i64::from(is_stalled));
    }
    let dropped = &metrics.task.dropped_log_lines;
    dropped.inc_by(telemetry::dropped_lines().saturating_sub(dropped.get()));
    match metrics.render() {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

async fn description(request: HttpRequest) -> HttpResponse {
    MANAGEMENT_API.response(&request)
}

async fn ready(management: web::Data<Management>) -> HttpResponse {
    health::ready(&management.health)
}

/// Stores the sample programs in Redis and publishes them, as redis-updater does with an update.
async fn fill(management: web::Data<Management>) -> HttpResponse {
    if !management.sample_programs {
        return Problem::NotFound.to_response();
    }
    let updates = samples::updates();
    let programs = updates.len();
    match management.redis.store(updates, &management.channel).await {
        Ok(()) => HttpResponse::Ok().json(json!({"programs": programs})),
        Err(error) => {
            tracing::warn!(%error, "the sample programs cannot be loaded");
            Problem::from(Refusal::CoreDataUnavailable).to_response()
        }
    }
}

async fn purge(management: web::Data<Management>) -> HttpResponse {
    management.local.purge();
    HttpResponse::NoContent().finish()
}

/// What L1 holds for a program.
async fn get_cached(id: web::Path<String>, management: web::Data<Management>) -> HttpResponse {
    let id = id.into_inner();
    let Ok(id) = ProgramId::parse(&id) else {
        return Problem::from(Refusal::InvalidProgramId(id)).to_response();
    };
    let Some(cached) = management.local.get(&id) else {
        return Problem::from(Refusal::ProgramNotFound).to_response();
    };
    let (state, value) = match &cached.state {
        ProgramState::Program(prepared) => ("program", prepared.to_json(id)),
        ProgramState::Deleted(_) => ("deleted", serde_json::Value::Null),
        ProgramState::Absent => ("absent", serde_json::Value::Null),
    };
    HttpResponse::Ok().json(json!({
        "state": state,
        "value": value,
        "version": cached.state.version().map(ToString::to_string),
        "ageSeconds": cached.at.elapsed().as_secs_f64(),
        "fresh": management.local.is_fresh(&cached, Instant::now()),
    }))
}
