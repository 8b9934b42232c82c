//! A scenario: which requests are sent, how fast, and what is checked. A TOML file, documented in
//! `docs/LOADTEST.md`; an error in it is reported with file, line and column.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::schedule::{Arrivals, Schedule, Segment, Shape};

mod built_in;
mod endpoint;
mod error;
mod journey;
mod messages;
mod phase;
pub mod value;

pub use built_in::BUILT_IN;
pub use endpoint::{Endpoint, MAX_STEPS, Method, next_placeholder};
use error::SECONDS_BETWEEN_UPDATES_OF_A_PROGRAM;
pub use error::{Conflict, ScenarioError};
pub use phase::Phase;
use value::{Count, Exponent, HeaderText, Period, Rate, Share};

/// The most programs: each takes about 150 bytes.
pub const MAX_PROGRAMS: u32 = 1_000_000;
/// The most requests in flight: each is a connection and has buffers of up to 20 KB.
pub const MAX_IN_FLIGHT: u32 = 50_000;

/// The least room for requests in flight that is chosen without `max_in_flight`.
const LEAST_ROOM: usize = 64;

/// A load test: which requests to send, how fast, and what to check.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Purpose of the scenario, in one line.
    pub description: String,
    /// How requests spread around the rate.
    #[serde(default = "uniform")]
    pub arrivals: Arrivals,
    /// The rate over time.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// The programs that requests name.
    #[serde(default)]
    pub programs: Programs,
    /// How requests are made.
    #[serde(default)]
    pub requests: Requests,
    /// The endpoints that are requested; by default `GET /event/{programId}`.
    #[serde(rename = "endpoint", default = "endpoint::default_endpoints")]
    pub endpoints: Vec<Endpoint>,
    /// Changes of core data.
    #[serde(default)]
    pub core_data: CoreData,
    /// How the rows in the table are checked.
    #[serde(default)]
    pub verify: Verify,
    /// How much the harness itself may affect the figures.
    #[serde(default)]
    pub harness: Harness,
}

fn uniform() -> Arrivals {
    Arrivals::Uniform
}

/// The programs that requests name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Programs {
    /// Number of programs. Their ids are `prefix` and a number from 0.
    pub count: Count<MAX_PROGRAMS>,
    /// Exponent of Zipf's law by which programs are drawn.
    pub zipf: Exponent,
    /// Start of their ids.
    pub prefix: HeaderText,
    /// Whether their core data is put on the core-data stream before the run.
    pub preload: bool,
    /// Ids of programs that exist already, instead of `count` and `prefix`.
    pub ids: Vec<HeaderText>,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            count: Count(1_000),
            zipf: Exponent(1.0),
            prefix: HeaderText("loadtest-".to_owned()),
            preload: true,
            ids: Vec::new(),
        }
    }
}

/// How requests are made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Requests {
    /// Share of requests for programs that do not exist.
    pub unknown: Share,
    /// Share of requests for a disabled program.
    pub disabled: Share,
    /// Share of requests with a wrong checksum.
    pub mismatching: Share,
    /// User agents, drawn with equal probability. The run's mark is appended.
    pub user_agents: Vec<HeaderText>,
    /// Whether connections are reused.
    pub connections: Connections,
    /// How long to wait for a response, from the time of sending.
    pub timeout: Period,
    /// Most requests in flight at a time; requests beyond it are not sent and count as failed. By
    /// default, as many as a server that does not respond at all causes.
    pub max_in_flight: Option<Count<MAX_IN_FLIGHT>>,
}

impl Default for Requests {
    fn default() -> Self {
        let agents = [
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
        ];
        Self {
            unknown: Share(0.0),
            disabled: Share(0.0),
            mismatching: Share(0.0),
            user_agents: agents.map(|agent| HeaderText(agent.to_owned())).to_vec(),
            connections: Connections::KeepAlive,
            timeout: Period(Duration::from_secs(5)),
            max_in_flight: None,
        }
    }
}

/// Whether connections are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// Reused as long as both sides keep them open.
    KeepAlive,
    /// A new connection for each request.
    New,
}

/// Changes of core data.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoreData {
    /// Records per second put on the core-data stream while requests are sent.
    pub updates_per_second: Rate,
    /// Whether L1 is emptied before the first request.
    pub cold_start: bool,
}

impl Default for CoreData {
    fn default() -> Self {
        Self { updates_per_second: Rate(0.0), cold_start: false }
    }
}

/// How the rows in the table are checked.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Verify {
    /// How long rows may take to arrive after the last response.
    pub settle: Period,
    /// Whether counted rows are deleted during the run.
    pub drop_counted: bool,
}

impl Default for Verify {
    fn default() -> Self {
        Self { settle: Period(Duration::from_secs(120)), drop_counted: false }
    }
}

/// How much the harness itself may affect the figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Harness {
    /// The schedule lag (99th percentile) that is always accepted. With a longer one, a run is valid only
    /// if latencies are several times as long.
    pub accepted_lag: Period,
    /// Requests that are due before this time are sent, but left out of the run's latencies and lags.
    pub warm_up: Period,
}

impl Default for Harness {
    /// Accepts about the time that a wake-up takes on a busy machine.
    fn default() -> Self {
        Self { accepted_lag: Period(Duration::from_millis(1)), warm_up: Period(Duration::ZERO) }
    }
}

impl Scenario {
    /// Loads the built-in scenario of this name, or the TOML file. Returns the scenario and its TOML.
    ///
    /// # Errors
    ///
    /// If there is no such file, or if the scenario is not valid.
    pub fn load(name: &str) -> Result<(Self, String), ScenarioError> {
        if let Some((_, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Ok((Self::parse(text, name)?, (*text).to_owned()));
        }
        let text = std::fs::read_to_string(Path::new(name))
            .map_err(|error| ScenarioError::File { name: name.to_owned(), error })?;
        Ok((Self::parse(&text, name)?, text))
    }

    /// Parses TOML. `file` is the name in error messages.
    ///
    /// # Errors
    ///
    /// If the scenario is not valid. The message starts with `FILE:LINE:COLUMN: `, or with `FILE: ` if
    /// several values do not fit together.
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            let message = messages::explain(error.message());
            ScenarioError::Toml { file: file.to_owned(), line, column, message }
        })?;
        let conflict = |conflict| ScenarioError::Conflict { file: file.to_owned(), conflict };
        scenario.check().map_err(conflict)?;
        Ok(scenario)
    }

    /// Checks that the parts of the scenario fit together. Call it again after flags have changed them.
    pub fn check(&self) -> Result<(), Conflict> {
        let requests = &self.requests;
        let shares = requests.unknown.0 + requests.disabled.0 + requests.mismatching.0;
        if shares > 1.0 {
            return Err(Conflict::Shares(shares));
        }
        if requests.user_agents.is_empty() {
            return Err(Conflict::NoUserAgent);
        }
        journey::check(&self.endpoints)?;
        let first = self.endpoints.iter().filter(|endpoint| endpoint.after.is_none());
        if first.map(|endpoint| endpoint.weight.0).sum::<f64>() <= 0.0 {
            return Err(Conflict::NoEndpoint);
        }
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            let name = || endpoint.name.0.clone();
            if endpoint.batch.0 > 1 && endpoint.body.is_none() {
                return Err(Conflict::BatchWithoutBody(name()));
            }
            if self.endpoints[..number].iter().any(|other| other.name == endpoint.name) {
                return Err(Conflict::SameName(name()));
            }
        }
        let schedule = self.schedule(0);
        if self.harness.warm_up.0 >= schedule.duration() && !self.harness.warm_up.0.is_zero() {
            return Err(Conflict::WarmUp);
        }
        if schedule.duration().is_zero() || schedule.duration() > value::LONGEST {
            return Err(Conflict::Duration);
        }
        if schedule.expected() < 1.0 {
            return Err(Conflict::NoRequests);
        }
        let programs = self.program_count();
        // A program must not have two updates in flight.
        let updates = self.core_data.updates_per_second.0;
        if updates * SECONDS_BETWEEN_UPDATES_OF_A_PROGRAM > programs as f64 {
            return Err(Conflict::TooManyUpdates(updates));
        }
        if !self.programs.ids.is_empty() && (updates > 0.0 || requests.disabled.0 > 0.0) {
            return Err(Conflict::ForeignPrograms);
        }
        Ok(())
    }

    /// Number of programs that requests name.
    pub fn program_count(&self) -> usize {
        match self.programs.ids.len() {
            0 => self.programs.count.0 as usize,
            ids => ids,
        }
    }

    /// Whether core data is put on the stream before the run.
    pub fn preloads(&self) -> bool {
        self.programs.preload && self.programs.ids.is_empty()
    }

    /// Most requests in flight at a time. By default as many as the highest rate sends until they time out,
    /// within `files`, the connections that the system allows.
    pub fn room(&self, files: usize) -> usize {
        if let Some(given) = self.requests.max_in_flight {
            return given.0 as usize;
        }
        let rate = self.schedule(0).peak() * journey::requests_per_arrival(&self.endpoints);
        let expected = rate * self.requests.timeout.0.as_secs_f64();
        // Poisson arrivals spread around it.
        let needed = (expected + 6.0 * expected.sqrt()).ceil() as usize;
        needed.clamp(LEAST_ROOM, MAX_IN_FLIGHT as usize).min(files)
    }

    /// The intended times of the requests.
    pub fn schedule(&self, seed: u64) -> Schedule {
        let segments: Vec<Segment> =
            self.phases.iter().flat_map(|phase| phase.shape().segments()).collect();
        Schedule::new(segments, self.arrivals, seed)
    }

    /// Ends of the phases, seconds since the start of the run; without the last.
    pub fn phase_ends(&self) -> Vec<f64> {
        let mut end = 0.0;
        let mut ends: Vec<f64> = self
            .phases
            .iter()
            .map(|phase| {
                let segments = phase.shape().segments();
                end += segments.iter().map(|segment| segment.duration.as_secs_f64()).sum::<f64>();
                end
            })
            .collect();
        ends.pop();
        ends
    }

    /// Replaces the phases with one of constant rate. By default, its rate is the highest of the phases,
    /// and it takes as long as all of them.
    pub fn set_constant(&mut self, rate: Option<Rate>, duration: Option<Period>) {
        let schedule = self.schedule(0);
        let rate = rate.map_or_else(|| schedule.peak(), |rate| rate.0);
        let duration = duration.map_or_else(|| schedule.duration(), |duration| duration.0);
        self.phases = vec![Phase::from(Shape::Constant { rate, duration })];
    }
}

/// Line and column, from 1, of a byte offset in a text.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Scenario::parse(text, "file.toml").unwrap_err().to_string()
    }

    const PHASE: &str =
        "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 10\nduration = \"1s\"\n";

    #[test]
    fn built_in_scenarios_are_valid() {
        for (name, _) in BUILT_IN {
            Scenario::load(name).unwrap();
        }
        let (spike, _) = Scenario::load("spike").unwrap();
        assert_eq!(spike.schedule(0).duration(), Duration::from_secs(80));
        assert_eq!(spike.schedule(0).peak(), 20_000.0);
    }

    #[test]
    fn reports_line_and_column_of_an_error() {
        for (text, expected) in [
            (
                "description = \"d\"\nphase = 3\n",
                "file.toml:2:9: expected a list, not the integer `3`",
            ),
            (
                "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = -5\nduration = \"1s\"\n",
                "file.toml:4:8: expected a rate per second from 0 to 1000000, not -5",
            ),
            (
                "description = \"d\"\n\n[[phase]]\nkind = \"constant\"\nrate = 5\n",
                "file.toml:3:1: a phase of kind \"constant\" needs duration",
            ),
            (
                "description = \"d\"\n[[phase]]\nkind = \"wave\"\n",
                "file.toml:3:8: `wave` is not known; expected one of `constant`",
            ),
            (
                "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 5\nduration = \"ten\"\n",
                "file.toml:5:12: expected a time such as 10s",
            ),
            ("description = \"d\"\n\nx", "file.toml:3:2: key with no value"),
        ] {
            let error = error(text);
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let unknown = error(&format!("{PHASE}[requests]\nuser_agent = \"x\"\n"));
        assert!(
            unknown.starts_with("file.toml:7:1: `user_agent` is not known; expected one of"),
            "{unknown}"
        );
        let share = error(&format!("{PHASE}[requests]\nunknown = 1.5\n"));
        assert_eq!(share, "file.toml:7:11: expected a share from 0 to 1, not 1.5");
        let path = error(&format!("{PHASE}[[endpoint]]\nname = \"e\"\npath = \"event\"\n"));
        assert!(path.starts_with("file.toml:8:8: expected a path"), "{path}");
    }

    #[test]
    fn rejects_placeholders_that_would_be_sent_literally() {
        let path =
            error(&format!("{PHASE}[[endpoint]]\nname = \"e\"\npath = \"/e/{{programid}}\"\n"));
        assert!(
            path.starts_with("file.toml:8:8: expected one of the placeholders {programId}"),
            "{path}"
        );
        assert!(path.ends_with("not {programid}"), "{path}");
        let endpoint = "[[endpoint]]\nname = \"e\"\nmethod = \"POST\"\npath = \"/e\"\n";
        let body = |body: &str| format!("{PHASE}{endpoint}body = '{body}'\n");
        assert!(error(&body("{\"a\":{rnd}}")).contains("not {rnd}"));
        for json in ["{}", "{\"a\":{\"b\":1}}", "{ a }", "{\"a\":{random}}", "{1}"] {
            assert!(Scenario::parse(&body(json), "f").is_ok(), "{json}");
        }
    }

    #[test]
    fn chooses_room_for_a_server_that_does_not_respond() {
        let room = |text: &str, files| Scenario::parse(text, "f").unwrap().room(files);
        let phase = PHASE.replace("rate = 10", "rate = 2000");
        assert!((10_000..11_000).contains(&room(&phase, 100_000)), "2,000/s for 5 s");
        assert_eq!(room(&phase, 1_000), 1_000);
        assert_eq!(room(PHASE, 1_000), 93);
        assert_eq!(room(&format!("{PHASE}[requests]\nmax_in_flight = 7\n"), 1_000), 7);
    }

    #[test]
    fn checks_that_values_fit_together() {
        let endpoint = "[[endpoint]]\nname = \"e\"\npath = \"/e\"\n";
        assert!(error(&format!("{PHASE}{endpoint}batch = 2\n")).contains("no body to repeat"));
        assert!(error(&format!("{PHASE}{endpoint}{endpoint}")).contains("two endpoints are named"));
        assert!(error(&format!("{PHASE}[harness]\nwarm_up = \"1s\"\n")).contains("warm_up"));
        let shares = error(&format!("{PHASE}[requests]\nunknown = 0.6\ndisabled = 0.6\n"));
        assert_eq!(
            shares,
            "file.toml: requests: unknown, disabled and mismatching add up to 1.2, more than 1"
        );
        let updates =
            error(&format!("{PHASE}[programs]\ncount = 5\n[core_data]\nupdates_per_second = 2\n"));
        assert!(updates.contains("needs 10 programs"), "{updates}");
    }

    #[test]
    fn lists_the_built_in_scenarios_if_a_file_is_missing() {
        let error = Scenario::load("nothing").unwrap_err().to_string();
        assert!(
            error.contains("one of quick, spike, soak, cold-start, journey, or a TOML file"),
            "{error}"
        );
    }

    #[test]
    fn replaces_phases_with_a_constant_rate() {
        let (mut scenario, _) = Scenario::load("spike").unwrap();
        scenario.set_constant(Some(Rate(7.0)), None);
        assert_eq!(scenario.schedule(0).duration(), Duration::from_secs(80));
        assert_eq!(scenario.schedule(0).peak(), 7.0);
    }
}
