//! Sends every line that docs/INTEGRATION.md offers for copying: with the platform's macros filled as the
//! page's tables say, with macros that nobody filled, and with macros that were filled with nothing.
//!
//! The page is the test's data. Lines are in fenced blocks whose info string is `text` and the line's kind;
//! the table below them has a row per macro: the macro, the members of the event that it becomes, a value as
//! the platform sends it.

use std::collections::{BTreeMap, BTreeSet};

use adtrack_proto::event::TrackingEvent;
use percent_encoding::percent_decode_str;
use reqwest::header::{LOCATION, USER_AGENT};
use serde_json::{Value, json};
use url::Url;

use crate::clicks::program_with;
use crate::helpers::{Setup, TestApp, store};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/INTEGRATION.md");
/// What the page's lines have in place of a tracker and a program.
const TRACKER: &str = "https://t.example";
const PROGRAM: &str = "/212313";
/// The landing page of sections that name none.
const LANDING_PAGE: &str = "https://shop.example/shoes";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0";
/// What opens a macro on any of the platforms.
const MACRO_SIGNS: [&str; 6] = ["{", "[", "(", "__", "%e", "%n"];
/// Parameters in which an unfilled macro counts as not given.
const NOT_GIVEN: [&str; 3] = ["click_id", "transaction_id", "url"];
/// Parameters of a conversion in which an unfilled macro is refused.
const EXACT: [&str; 3] = ["amount", "currency", "status"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Impression,
    Click,
    Conversion,
    LandingPage,
}

#[derive(Debug)]
struct Macro {
    text: String,
    members: Vec<String>,
    example: String,
}

/// A platform's section of the page.
#[derive(Debug)]
struct Section {
    program_id: String,
    lines: Vec<(Kind, String)>,
    macros: Vec<Macro>,
}

impl Section {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.lines.iter().filter(move |line| line.0 == kind).map(|line| line.1.as_str())
    }

    /// The lines that are requests to the tracker.
    fn requests(&self) -> impl Iterator<Item = (Kind, &str)> {
        let requests = self.lines.iter().filter(|line| line.0 != Kind::LandingPage);
        requests.map(|(kind, line)| (*kind, line.as_str()))
    }

    fn landing_page(&self) -> &str {
        self.of_kind(Kind::LandingPage).next().unwrap_or(LANDING_PAGE)
    }

    fn macros_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a Macro> {
        self.macros.iter().filter(move |it| text.contains(&it.text))
    }

    /// Replaces the macros in `text` with what `value_of` returns.
    fn fill(&self, text: &str, value_of: impl Fn(&Macro) -> String) -> String {
        self.macros_in(text).fold(text.to_owned(), |text, it| text.replace(&it.text, &value_of(it)))
    }

    /// The URL of `line` at the tracker, its query filled by `value_of`, which gets the parameter's name and
    /// the macro.
    fn url(&self, app: &TestApp, line: &str, value_of: impl Fn(&str, &Macro) -> String) -> String {
        let query: Vec<_> = parameters(line)
            .map(|(name, value)| format!("{name}={}", self.fill(value, |it| value_of(name, it))))
            .collect();
        let path = line.split('?').next().unwrap().strip_prefix(TRACKER).unwrap();
        assert!(path.contains(PROGRAM), "{line}");
        let path = path.replace(PROGRAM, &format!("/{}", self.program_id));
        format!("{}{path}?{}", app.url, query.join("&"))
    }
}

/// Names and values in the query of `line`, as they stand there.
fn parameters(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split_once('?').unwrap().1.split('&').map(|pair| pair.split_once('=').unwrap())
}

/// The sections of the page that have lines to copy.
fn sections() -> Vec<Section> {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut sections = Vec::new();
    for text in page.split("\n## ").skip(1) {
        let (heading, body) = text.split_once('\n').unwrap();
        let program_id = heading.to_lowercase().replace(' ', "-");
        let mut section = Section { program_id, lines: Vec::new(), macros: Vec::new() };
        let mut block = None;
        for line in body.lines() {
            match line.strip_prefix("```") {
                Some(info) => block = kind_of_block(info),
                None => {
                    if let Some(kind) = block {
                        section.lines.push((kind, line.to_owned()));
                    }
                    section.macros.extend(macro_of_row(line));
                }
            }
        }
        if !section.lines.is_empty() {
            sections.push(section);
        }
    }
    sections
}

/// The kind of the lines in a block, from what follows the three signs that open or close it.
fn kind_of_block(info: &str) -> Option<Kind> {
    match info {
        "text impression" => Some(Kind::Impression),
        "text click" => Some(Kind::Click),
        "text conversion" => Some(Kind::Conversion),
        "text landing-page" => Some(Kind::LandingPage),
        "" => None,
        other => panic!("a block of the unknown kind {other}"),
    }
}

/// Reads ``| `macro` | `member`, `member` | `example` |``.
fn macro_of_row(line: &str) -> Option<Macro> {
    let cells: Vec<_> = line.strip_prefix("| `")?.strip_suffix("` |")?.split("` | `").collect();
    let [text, members, example] = cells[..] else { panic!("not a macro's row: {line}") };
    let members = members.split("`, `").map(str::to_owned).collect();
    Some(Macro { text: text.to_owned(), members, example: example.to_owned() })
}

/// The member of the event that a parameter becomes.
fn member(kind: Kind, name: &str) -> String {
    let of_conversions =
        ["click_id", "transaction_id", "event_name", "status", "amount", "currency"];
    match kind {
        Kind::Conversion if of_conversions.contains(&name) => name.to_owned(),
        Kind::Click if name == "url" => "page".to_owned(),
        _ => format!("parameters.{name}"),
    }
}

async fn start(sections: &[Section]) -> TestApp {
    let app = Setup::default().start().await;
    for section in sections {
        let members =
            json!({"landingUrl": section.landing_page(), "allowedHosts": ["shop.example"]});
        store(&app.redis, &program_with(&section.program_id, &members)).await;
    }
    app
}

/// What the tracker responded.
#[derive(Debug)]
struct Outcome {
    url: String,
    status: u16,
    message_id: String,
    location: String,
    repaired: String,
    problem: Value,
}

async fn send(url: &str) -> Outcome {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let request = client.build().unwrap().get(url).header(USER_AGENT, BROWSER);
    let response = request.send().await.unwrap();
    let header = |name: &str| {
        let value = response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        value.unwrap_or_default()
    };
    let (status, id) = (response.status().as_u16(), header("adtrack-event-id"));
    let (location, repaired) = (header(LOCATION.as_str()), header("adtrack-repaired"));
    let code = header("adtrack-problem");
    let code = code.split(';').next().unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    let message_id = body["messageId"].as_str().map_or(id, str::to_owned);
    let problem = if code.is_empty() { body } else { json!({"code": code}) };
    Outcome { url: url.to_owned(), status, message_id, location, repaired, problem }
}

impl Outcome {
    #[track_caller]
    fn assert_recorded(&self, kind: Kind) {
        let expected = if kind == Kind::Click { 302 } else { 200 };
        assert_eq!(self.status, expected, "{}: {self:?}", self.url);
        assert!(!self.message_id.is_empty(), "{self:?}");
    }

    fn event<'a>(&self, events: &'a [TrackingEvent]) -> &'a TrackingEvent {
        let found = events.iter().find(|event| event.message_id == self.message_id);
        found.unwrap_or_else(|| panic!("not in the stream: {self:?}"))
    }
}

/// Clicks on the section's program and returns the click's id.
async fn click(app: &TestApp, section: &Section) -> Outcome {
    send(&format!("{}/click/{}?sub=publisher-7", app.url, section.program_id)).await
}

/// Millionths, from a decimal number without an exponent.
fn micros(amount: &str) -> i64 {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    format!("{whole}{fraction:0<6}").parse().unwrap()
}

#[test]
fn tables_and_lines_agree() {
    let sections = sections();
    assert_eq!(sections.len(), 12, "eleven platforms, and your own page");
    for section in &sections {
        let mut used = BTreeSet::new();
        for (kind, line) in section.requests() {
            for (name, value) in parameters(line) {
                let member = member(kind, name);
                let macros: Vec<_> = section.macros_in(value).collect();
                let named = macros.iter().any(|it| it.members.contains(&member));
                assert!(macros.is_empty() || named, "{value} becomes {member}: {line}");
                used.extend(macros.iter().map(|it| (it.text.as_str(), member.clone())));
                let rest = section.fill(value, |_| String::new());
                let is_macro = MACRO_SIGNS.iter().any(|sign| rest.contains(sign));
                assert!(!is_macro, "no row for the macro in {name}={value}");
            }
        }
        for it in &section.macros {
            for member in &it.members {
                let is_used = used.contains(&(it.text.as_str(), member.clone()));
                assert!(is_used, "{}: no line makes `{member}` of {}", section.program_id, it.text);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filled_lines_are_recorded_as_the_tables_say() {
    let sections = sections();
    let app = start(&sections).await;
    let mut sent = Vec::new();
    for section in &sections {
        let click_id = click(&app, section).await.message_id;
        for (kind, line) in section.requests() {
            let value_of = |_: &str, it: &Macro| match it.members[0].as_str() {
                "click_id" => click_id.clone(),
                _ => it.example.clone(),
            };
            let values: BTreeMap<_, _> = parameters(line)
                .map(|(name, value)| {
                    let value = section.fill(value, |it| value_of(name, it)).replace('+', " ");
                    (member(kind, name), percent_decode_str(&value).decode_utf8().unwrap().into())
                })
                .collect();
            let outcome = send(&section.url(&app, line, value_of)).await;
            outcome.assert_recorded(kind);
            assert_eq!(outcome.repaired, "", "{outcome:?}");
            sent.push((kind, values, outcome));
        }
    }

    let events = app.wait_for_events(sections.len() + sent.len()).await;
    for (kind, values, outcome) in sent {
        assert_has_exactly(kind, values, &outcome, outcome.event(&events));
    }
}

/// Checks that the event has these values, by member, and no others.
fn assert_has_exactly(
    kind: Kind,
    mut values: BTreeMap<String, String>,
    outcome: &Outcome,
    event: &TrackingEvent,
) {
    let mut take = |member: &str| values.remove(member).unwrap_or_default();
    if let Some(page) = Some(take("page")).filter(|page| !page.is_empty()) {
        let expected = format!("{page}&click_id={}", outcome.message_id);
        assert_eq!(outcome.location, expected, "{outcome:?}");
    }
    assert_eq!(event.click_id, take("click_id"), "{outcome:?}");
    assert_eq!(event.transaction_id, take("transaction_id"), "{outcome:?}");
    assert_eq!(event.event_name, take("event_name"), "{outcome:?}");
    assert_eq!(event.currency, take("currency").to_uppercase(), "{outcome:?}");
    let amount = take("amount");
    assert_eq!(event.amount_micros, if amount.is_empty() { 0 } else { micros(&amount) });
    if kind == Kind::Conversion {
        let status = Some(take("status")).filter(|status| !status.is_empty());
        assert_eq!(event.status, status.as_deref().unwrap_or("approved"), "{outcome:?}");
    }
    let carried: BTreeMap<_, _> = event
        .parameters
        .iter()
        .map(|(name, value)| (format!("parameters.{name}"), value.clone()))
        .collect();
    assert_eq!(carried, values, "{outcome:?}");
    assert!(event.is_valid && event.traffic_flags.is_empty(), "{event:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn validation_describes_filled_lines() {
    let sections = sections();
    let app = start(&sections).await;
    for section in &sections {
        for (kind, line) in section.requests() {
            let url = section.url(&app, line, |_, it| it.example.clone());
            let path = url.strip_prefix(&app.url).unwrap();
            let (status, described) = app.get_json(&format!("/validate{path}")).await;
            assert_eq!((status, &described["accepted"]), (200, &json!(true)), "{url} {described}");
            assert!(described["repaired"].is_null(), "{url} {described}");
            let expected = if kind == Kind::Click { 302 } else { 200 };
            assert_eq!(described["status"], expected, "{url} {described}");
            assert_eq!(described["event"]["program_id"], *section.program_id, "{described}");
        }
    }
    assert!(app.stream_events().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn landing_pages_hand_over_the_click() {
    let sections = sections();
    let app = start(&sections).await;
    for section in &sections {
        for line in section.of_kind(Kind::LandingPage) {
            let click = click(&app, section).await;
            click.assert_recorded(Kind::Click);
            let page = Url::parse(&click.location).unwrap();
            let host = line.split('/').nth(2).unwrap();
            assert_eq!(page.host_str(), Some(host), "{click:?}");
            let values: Vec<_> = page.query_pairs().map(|(_, value)| value.into_owned()).collect();
            let ids = values.iter().filter(|value| **value == click.message_id).count();
            assert_eq!(ids, 1, "{click:?}");
            // Callbacks that are part of the page are those that the page shows for copying.
            let callbacks = values.iter().filter(|value| value.starts_with(TRACKER));
            for callback in callbacks {
                let mut known = section.of_kind(Kind::Conversion);
                assert!(known.any(|line| line == callback), "{callback}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unfilled_macros_make_no_ids_and_lose_no_event() {
    let sections = sections();
    let app = start(&sections).await;
    let mut sent = Vec::new();
    for section in &sections {
        for (kind, line) in section.requests() {
            let unfilled = |name: &str, it: &Macro| {
                if EXACT.contains(&name) { it.example.clone() } else { it.text.clone() }
            };
            let url = section.url(&app, line, unfilled);
            // Twice: an id made of a macro would make one event of different ones.
            for _ in 0..2 {
                let outcome = send(&url).await;
                outcome.assert_recorded(kind);
                sent.push((section, kind, line, outcome));
            }
        }
    }

    let events = app.wait_for_events(sent.len()).await;
    let ids: BTreeSet<_> = sent.iter().map(|(.., outcome)| &outcome.message_id).collect();
    for (section, kind, line, outcome) in &sent {
        let event = outcome.event(&events);
        let no_ids = [&event.click_id, &event.transaction_id, &event.impression_id];
        assert!(no_ids.iter().all(|id| id.is_empty()), "{event:?}");
        assert!(event.client_event_id.is_empty(), "{event:?}");
        let is_noticed = parameters(line).any(|(name, _)| NOT_GIVEN.contains(&name));
        let is_flagged = event.traffic_flags.iter().any(|flag| flag == "unfilled_macro");
        assert_eq!(is_flagged, is_noticed, "{event:?}");
        assert_eq!(outcome.repaired.contains("unfilled_macro"), is_noticed, "{outcome:?}");
        if *kind == Kind::Click {
            let host = section.landing_page().split('/').nth(2).unwrap();
            let page = Url::parse(&outcome.location).unwrap();
            assert_eq!(page.host_str(), Some(host), "{outcome:?}");
        }
    }
    assert_eq!(ids.len(), sent.len(), "each request is an event of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfilled_macros_are_refused_where_money_counts() {
    let sections = sections();
    let app = start(&sections).await;
    for section in &sections {
        for line in section.of_kind(Kind::Conversion) {
            let exact: Vec<_> = parameters(line)
                .filter(|(name, value)| {
                    EXACT.contains(name) && section.macros_in(value).count() > 0
                })
                .map(|(name, _)| name)
                .collect();
            let outcome = send(&section.url(&app, line, |_, it| it.text.clone())).await;
            if exact.is_empty() {
                outcome.assert_recorded(Kind::Conversion);
                continue;
            }
            assert_eq!(outcome.status, 400, "{outcome:?}");
            assert_eq!(outcome.problem["code"], "invalid_parameters", "{outcome:?}");
            if let Some(detail) = outcome.problem["detail"].as_str() {
                let is_named = exact.iter().any(|name| detail.contains(&format!("`{name}`")));
                assert!(is_named, "{outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn macros_without_a_value_count_as_not_given() {
    let sections = sections();
    let app = start(&sections).await;
    let mut sent = Vec::new();
    for section in &sections {
        for (kind, line) in section.requests() {
            let outcome = send(&section.url(&app, line, |_, _| String::new())).await;
            outcome.assert_recorded(kind);
            assert_eq!(outcome.repaired, repaired_if_empty(kind, line), "{outcome:?}");
            sent.push(outcome);
        }
    }

    let events = app.wait_for_events(sent.len()).await;
    for outcome in &sent {
        let event = outcome.event(&events);
        assert_eq!((&*event.click_id, event.amount_micros), ("", 0), "{event:?}");
        assert_eq!(event.transaction_id, "", "{event:?}");
        assert_eq!(event.traffic_flags.is_empty(), outcome.repaired.is_empty(), "{event:?}");
    }
}

/// What is repaired in a line whose macros are all filled with nothing: a sign between two macros is left of both,
/// and a currency without an amount.
fn repaired_if_empty(kind: Kind, line: &str) -> String {
    let has_currency = kind == Kind::Conversion
        && parameters(line).any(|(name, value)| name == "currency" && value.len() == 3);
    let mut repaired = Vec::new();
    if has_currency {
        repaired.push("parameters_repaired;currency_without_amount");
    }
    if line.contains("}-{") {
        repaired.push("unfilled_macro");
    }
    repaired.join(", ")
}
