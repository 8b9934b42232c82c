//! An endpoint of a scenario, as its TOML table.

use std::ops::Range;
use std::time::Duration;

use serde::Deserialize;

use super::value::{Count, HeaderText, InvalidValue, Period, Rate, Share, Status};

/// The most endpoints of a scenario whose visitors make more than one request: each visitor keeps an id for each.
pub const MAX_STEPS: usize = 8;
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
    pub body: Option<BodyText>,
    /// If above 1, the body is a JSON array of this many bodies.
    #[serde(default = "single")]
    pub batch: Count<10_000>,
    /// Content type of the body.
    #[serde(default = "json")]
    pub content_type: HeaderText,
    /// Headers as `Name: value`, with the same replacements as the path.
    #[serde(default)]
    pub headers: Vec<HeaderLine>,
    /// The endpoint that a visitor has to have requested before: this one follows its accepted response.
    pub after: Option<HeaderText>,
    /// Share of these responses that it follows.
    #[serde(default = "always")]
    pub probability: Share,
    /// How long after the response, on average; the times are exponential, up to five times this.
    #[serde(default = "at_once")]
    pub delay: Period,
    /// Share of accepted requests that are sent once more, with the same bytes, `delay` later on average. The second
    /// response has to have the id of the first.
    #[serde(default)]
    pub repeat: Share,
}

/// A header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderLine(pub String);

impl TryFrom<String> for HeaderLine {
    type Error = InvalidValue;

    fn try_from(line: String) -> Result<Self, InvalidValue> {
        let is_token = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_line = line.split_once(": ").is_some_and(|(name, _)| is_token(name))
            && line.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_line {
            return Err(InvalidValue::of_text("a header such as \"Sec-GPC: 1\"", &line));
        }
        check_placeholders(&line)?;
        Ok(Self(line))
    }
}

impl Endpoint {
    /// Names of the endpoints whose ids the requests carry, as `{NAME.id}`.
    pub fn referenced(&self) -> impl Iterator<Item = &str> {
        let texts = [Some(&self.path.0), self.body.as_ref().map(|body| &body.0)];
        let texts = texts.into_iter().flatten().chain(self.headers.iter().map(|line| &line.0));
        texts.flat_map(|text| placeholders(text)).filter_map(|name| name.strip_suffix(".id"))
    }

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
        if !path.starts_with('/') || !path.bytes().all(|byte| (b'!'..=b'~').contains(&byte)) {
            return Err(InvalidValue::of_text(
                "a path that begins with / and has no spaces",
                &path,
            ));
        }
        check_placeholders(&path)?;
        Ok(Self(path))
    }
}

/// Body of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BodyText(pub String);

impl TryFrom<String> for BodyText {
    type Error = InvalidValue;

    fn try_from(body: String) -> Result<Self, InvalidValue> {
        check_placeholders(&body)?;
        Ok(Self(body))
    }
}

/// What stands in braces in paths and bodies and is replaced in each request.
const PLACEHOLDERS: [&str; 6] =
    ["programId", "checksum", "customerId", "random", "visitor", "address"];

/// The first `{name}` in a text: its position with the braces, and the name. Braces around anything else
/// than a name, as in JSON, are not a placeholder.
pub fn next_placeholder(text: &str) -> Option<(Range<usize>, &str)> {
    let mut from = 0;
    loop {
        let start = from + text[from..].find('{')?;
        let inner = &text[start + 1..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let length = inner.find(|c| !is_part(c)).unwrap_or(0);
        let is_name = inner.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_name && inner[length..].starts_with('}') {
            return Some((start..start + length + 2, &inner[..length]));
        }
        from = start + 1;
    }
}

/// The names of all placeholders of a text.
fn placeholders(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (range, name) = next_placeholder(text)?;
        text = &text[range.end..];
        Some(name)
    })
}

fn check_placeholders(text: &str) -> Result<(), InvalidValue> {
    let mut rest = text;
    while let Some((range, name)) = next_placeholder(rest) {
        // Whether there is such an endpoint is checked once all are known.
        if !PLACEHOLDERS.contains(&name) && name.strip_suffix(".id").is_none() {
            let known =
                PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ") + ", {ENDPOINT.id}";
            return Err(InvalidValue::new(
                format!("one of the placeholders {known}"),
                format_args!("{{{name}}}"),
            ));
        }
        rest = &rest[range.end..];
    }
    Ok(())
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
        headers: Vec::new(),
        after: None,
        probability: always(),
        delay: at_once(),
        repeat: Share(0.0),
    }]
}

fn always() -> Share {
    Share(1.0)
}

fn at_once() -> Period {
    Period(Duration::ZERO)
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
