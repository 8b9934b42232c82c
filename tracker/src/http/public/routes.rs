//! The route table of the public listener.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};

use super::batch::batch;
use super::click::{self, click};
use super::connection::on_body_announced;
use super::conversion::conversion;
use super::endpoint::{Endpoint, Recording};
use super::event::event;
use super::fault_shares::TrafficKind;
use super::impression::impression;
use super::pixel::{ENDING, problem_pixel};
use super::state::Public;
use super::tracking_request::parse_program_id;
use super::validation;
use crate::domain::Refusal;
use crate::http::documents::{PAGE_SCRIPT, PUBLIC_API};
use crate::http::health;
use crate::http::problem::Problem;
use crate::track::{EventSink, Programs};

/// What a path leads to.
enum Route<'a> {
    /// An endpoint that records events.
    Endpoint(EndpointRoute<'a>),
    /// A resource that can be read.
    Resource(Resource),
    NotFound,
}

/// What a path of an endpoint says.
#[derive(Clone, Copy)]
struct EndpointRoute<'a> {
    endpoint: Endpoint,
    /// The program's id, possibly percent-encoded. Empty for a batch.
    id: &'a str,
    /// Whether every response is a pixel, errors included.
    as_pixel: bool,
    /// Whether the response only describes what would be recorded.
    is_validation: bool,
}

/// What can be read. Reading it records nothing.
enum Resource {
    HealthCheck,
    HealthLive,
    HealthReady,
    PageScript,
    Description,
}

impl<'a> Route<'a> {
    /// Compares a few prefixes: actix-web's router costs about a third of the handler's time.
    fn of(path: &'a str) -> Self {
        match Self::without_validation(path) {
            Self::NotFound => match path.strip_prefix("/validate") {
                Some("") => Self::validation("/events"),
                Some(path) => Self::validation(path),
                None => Self::NotFound,
            },
            route => route,
        }
    }

    fn without_validation(path: &'a str) -> Self {
        if let Some(id) = path.strip_prefix("/event/") {
            return Self::endpoint(Endpoint::Event, id);
        }
        if let Some(id) = path.strip_prefix("/impression/") {
            return Self::pixel(Endpoint::Impression, id.strip_suffix(ENDING).unwrap_or(id));
        }
        if let Some(id) = path.strip_prefix("/click/") {
            return Self::endpoint(Endpoint::Click, id);
        }
        if let Some(id) = path.strip_prefix("/conversion/") {
            return match id.strip_suffix(ENDING) {
                Some(id) => Self::pixel(Endpoint::Conversion, id),
                None => Self::endpoint(Endpoint::Conversion, id),
            };
        }
        match path {
            "/events" => Self::endpoint(Endpoint::Batch, ""),
            "/health/check" => Self::Resource(Resource::HealthCheck),
            "/health/live" => Self::Resource(Resource::HealthLive),
            "/health/ready" => Self::Resource(Resource::HealthReady),
            "/adtrack.js" => Self::Resource(Resource::PageScript),
            "/openapi.yaml" => Self::Resource(Resource::Description),
            _ => Self::NotFound,
        }
    }

    /// The route that describes what `path` would record.
    fn validation(path: &'a str) -> Self {
        match Self::without_validation(path) {
            Self::Endpoint(route) => Self::Endpoint(EndpointRoute { is_validation: true, ..route }),
            Self::Resource(_) | Self::NotFound => Self::NotFound,
        }
    }

    /// Whether the path may lead somewhere without its extra slashes. With one in the middle of its id, it leads
    /// nowhere either way.
    fn may_have_extra_slashes(&self) -> bool {
        match self {
            Self::Endpoint(route) => route.id.starts_with('/') || route.id.ends_with('/'),
            Self::Resource(_) => false,
            Self::NotFound => true,
        }
    }

    fn endpoint(endpoint: Endpoint, id: &'a str) -> Self {
        Self::Endpoint(EndpointRoute { endpoint, id, as_pixel: false, is_validation: false })
    }

    fn pixel(endpoint: Endpoint, id: &'a str) -> Self {
        Self::Endpoint(EndpointRoute { endpoint, id, as_pixel: true, is_validation: false })
    }
}

/// Serves the routes, as actix-web's default service.
pub(super) fn configure<P, S>(config: &mut web::ServiceConfig, public: web::Data<Public<P, S>>)
where
    P: Programs + 'static,
    S: EventSink + 'static,
{
    config.default_service(web::to(move |mut incoming: Incoming| {
        let public = public.clone();
        async move {
            let response = respond(&incoming.request, &mut incoming.payload, &public).await;
            public.visitors.cors_allowed_origins.apply(&incoming.request, response)
        }
    }));
}

/// A request and its body, which handlers read themselves.
struct Incoming {
    request: HttpRequest,
    payload: Payload,
}

impl FromRequest for Incoming {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take() }))
    }
}

async fn respond<P: Programs, S: EventSink>(
    request: &HttpRequest,
    payload: &mut Payload,
    public: &Public<P, S>,
) -> HttpResponse {
    if !matches!(payload, Payload::None) {
        on_body_announced(request);
    }
    let cleaned;
    let mut route = Route::of(request.path());
    if route.may_have_extra_slashes() {
        cleaned = without_extra_slashes(request.path());
        route = Route::of(&cleaned);
    }
    let route = match route {
        Route::Endpoint(route) => route,
        Route::Resource(resource) => return resource_response(request, &resource, public),
        Route::NotFound => return Problem::NotFound.to_response(),
    };
    let EndpointRoute { endpoint, id, as_pixel, is_validation } = route;
    let recording = match endpoint.recording_for(request.method()) {
        Ok(_) if is_validation => Recording::Validation,
        Ok(recording) => recording,
        Err(problem) => return route.problem_response(&problem),
    };
    let started_at = Instant::now();
    let result = match public.check_rate(request, endpoint) {
        Err(refusal) => Err(refusal),
        Ok(()) => match endpoint {
            Endpoint::Event => event(request, id, recording, public).await,
            // Boxed, so that the state of these does not enlarge the future of `/event`.
            Endpoint::Impression => Box::pin(impression(request, id, recording, public)).await,
            Endpoint::Click => Box::pin(click(request, id, recording, public)).await,
            Endpoint::Conversion => {
                Box::pin(conversion(request, payload, id, as_pixel, recording, public)).await
            }
            Endpoint::Batch => Box::pin(batch(request, payload, recording, public)).await,
        },
    };
    let mut response = match result {
        Ok(response) => response,
        Err(refusal) if is_validation && !refusal.is_transient() => {
            validation::refusal_response(refusal)
        }
        Err(refusal) => route.refusal_response(refusal, public),
    };
    public.on_response(endpoint, started_at, &mut response);
    response
}

impl EndpointRoute<'_> {
    fn refusal_response<P, S>(&self, refusal: Refusal, public: &Public<P, S>) -> HttpResponse {
        public.metrics.http.count_refusal(&refusal);
        if let Ok(program_id) = parse_program_id(self.id) {
            let kind = match self.endpoint {
                Endpoint::Conversion => TrafficKind::Conversions,
                Endpoint::Event | Endpoint::Impression | Endpoint::Click | Endpoint::Batch => {
                    TrafficKind::Events
                }
            };
            public.fault_shares.count_refused(&program_id, kind, &refusal);
        }
        match self.endpoint {
            Endpoint::Click => click::refusal_response(refusal, &public.clicks),
            _ => self.problem_response(&refusal.into()),
        }
    }

    fn problem_response(&self, problem: &Problem) -> HttpResponse {
        if self.as_pixel { problem_pixel(problem) } else { problem.to_response() }
    }
}

/// The path with single slashes, and without one at its end. Links are often joined from parts that both have
/// one.
#[cold]
fn without_extra_slashes(path: &str) -> String {
    let mut cleaned = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !cleaned.ends_with('/') {
            cleaned.push(character);
        }
    }
    // `/event/` is the endpoint without an id, not another path.
    let is_without_id =
        matches!(Route::of(&cleaned), Route::Endpoint(route) if route.id.is_empty());
    if cleaned.ends_with('/') && !is_without_id {
        cleaned.pop();
    }
    cleaned
}

/// Responds with the resource, to GET and HEAD only.
fn resource_response<P, S>(
    request: &HttpRequest,
    resource: &Resource,
    public: &Public<P, S>,
) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::MethodNotAllowed("GET, HEAD").to_response();
    }
    match resource {
        Resource::HealthCheck => health::check(&public.health),
        Resource::HealthLive => health::live(),
        Resource::HealthReady => health::ready(&public.health),
        Resource::PageScript => PAGE_SCRIPT.response(request),
        Resource::Description => PUBLIC_API.response(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_extra_slashes() {
        for (path, cleaned) in [
            ("/conversion/212313/", "/conversion/212313"),
            ("//conversion//212313//", "/conversion/212313"),
            ("/events/", "/events"),
            ("//events", "/events"),
            ("/impression/212313.gif/", "/impression/212313.gif"),
            ("/health/check/", "/health/check"),
            ("/event//", "/event/"),
            ("/event/212313/x/", "/event/212313/x"),
            ("//validate//event//212313/", "/validate/event/212313"),
            ("/validate/", "/validate"),
            ("/", ""),
            ("*", "*"),
        ] {
            assert_eq!(without_extra_slashes(path), cleaned, "{path}");
        }
    }
}
