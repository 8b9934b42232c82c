//! An endpoint of a scenario, as its TOML table.

use serde::Deserialize;

use super::value::{Count, HeaderText, InvalidValue, Rate, Status};

/// An `[[endpoint]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Name in the report.
    pub name: HeaderText,
    /// HTTP method.
    #[serde(default = "get")]
    pub method: Method,
    /// Path and query; `{programId}`, `{checksum}`, `{customerId}` and `{random}` are replaced.
    pub path: Path,
    /// How often it is requested, in proportion to the other endpoints.
    #[serde(default = "one")]
    pub weight: Rate,
    /// Expected statuses for a program that exists.
    #[serde(default = "ok")]
    pub expect: Vec<Status>,
    /// Expected statuses for an unknown program.
    #[serde(default = "not_found")]
    pub expect_unknown: Vec<Status>,
    /// Expected statuses for a disabled program; if empty, those of `expect`.
    #[serde(default)]
    pub expect_disabled: Vec<Status>,
    /// Expected statuses for a wrong checksum.
    #[serde(default = "bad_request")]
    pub expect_mismatching: Vec<Status>,
    /// Whether a 2xx or 3xx response means a row for each event.
    #[serde(default = "yes")]
    pub recorded: bool,
    /// Request body, with the same replacements as the path.
    pub body: Option<String>,
    /// If above 1, the body is a JSON array of this many bodies.
    #[serde(default = "single")]
    pub batch: Count<10_000>,
    /// Content type of the body.
    #[serde(default = "json")]
    pub content_type: HeaderText,
}

impl Endpoint {
    /// Number of events that an accepted request records; 0 for `HEAD`, which records nothing.
    pub fn events(&self) -> u64 {
        if self.recorded && self.method != Method::Head { u64::from(self.batch.0) } else { 0 }
    }
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
}

impl Method {
    /// Name in the request line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// Path and query of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Path(pub String);

impl TryFrom<String> for Path {
    type Error = InvalidValue;

    fn try_from(path: String) -> Result<Self, InvalidValue> {
        if path.starts_with('/') && path.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            Ok(Self(path))
        } else {
            Err(InvalidValue::of_text("a path that begins with / and has no spaces", &path))
        }
    }
}

/// The endpoints of a scenario that names none: `GET /event/{programId}`.
pub(super) fn default_endpoints() -> Vec<Endpoint> {
    vec![Endpoint {
        name: HeaderText("event".to_owned()),
        method: Method::Get,
        path: Path("/event/{programId}".to_owned()),
        weight: one(),
        expect: ok(),
        expect_unknown: not_found(),
        expect_disabled: Vec::new(),
        expect_mismatching: bad_request(),
        recorded: true,
        body: None,
        batch: single(),
        content_type: json(),
    }]
}

fn get() -> Method {
    Method::Get
}

fn one() -> Rate {
    Rate(1.0)
}

fn single() -> Count<10_000> {
    Count(1)
}

fn yes() -> bool {
    true
}

fn ok() -> Vec<Status> {
    vec![Status(200)]
}

fn not_found() -> Vec<Status> {
    vec![Status(404)]
}

fn bad_request() -> Vec<Status> {
    vec![Status(400)]
}

fn json() -> HeaderText {
    HeaderText("application/json".to_owned())
}
