//! The command line.

use std::path::PathBuf;

use adtrack_runtime::cli;
use clap::{Args, Parser, Subcommand};

use crate::scenario::value::{Count, Exponent, HeaderText, Period, Rate, Share};
use crate::scenario::{Connections, MAX_IN_FLIGHT, MAX_PROGRAMS, Scenario};
use crate::schedule::Arrivals;
use crate::threshold::{self, Threshold};

/// Load tests of adtrack whose figures can be trusted.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a scenario and writes a report.
    ///
    /// Exit status: 0 all well, 1 the run could not be made, 2 a threshold was crossed, 3 the
    /// harness itself was the bottleneck, 4 interrupted, 64 wrong usage.
    #[command(after_help = threshold::help())]
    Run(Box<RunArguments>),
    /// Lists the scenarios that come with the program.
    Scenarios,
    /// Shows a scenario.
    Scenario {
        /// What to do with it.
        #[command(subcommand)]
        command: ScenarioCommand,
    },
    /// Compares two reports, and says what of the differences is noise.
    Compare {
        /// A report's JSON.
        a: PathBuf,
        /// Another's.
        b: PathBuf,
    },
    /// A few hundred mixed requests and one core-data change, on a stack that runs: the answers, the
    /// rows, the times.
    Demo,
    /// Requests at a steady rate, on a stack that runs, and a count of their rows: no more, no less.
    Count {
        /// How many requests.
        #[arg(long, default_value_t = 10_000, value_parser = cli::integer(1_u32, 10_000_000))]
        requests: u32,
        /// Requests per second.
        #[arg(long, default_value_t = 500, value_parser = cli::integer(1_u32, 20_000))]
        rate: u32,
    },
}

/// What to do with a scenario.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Prints its TOML: the start of a scenario of one's own.
    Show {
        /// Its name.
        name: String,
    },
}

/// What to run, and what to change of it.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// A scenario's name, or a TOML file.
    #[arg(default_value = "quick")]
    pub scenario: String,
    /// Where to send; without it a local stack is started, and stopped at the end.
    #[arg(long)]
    pub url: Option<String>,
    /// That a host other than this machine may be put under load.
    #[arg(long)]
    pub i_own_this_host: bool,
    /// The report's file, without extension. [default: target/loadtest/SCENARIO-TIME]
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Fail if this holds, such as 'p99>5ms', 'errors>0.1%' or 'lost>0'; repeatable.
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// Sender threads. One sends 20,000/s.
    #[arg(long, default_value_t = 1, value_parser = cli::integer(1_usize, 32))]
    pub threads: usize,
    /// Makes the requests of a run the same as those of another.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not look at the table.
    #[arg(long)]
    pub no_verify: bool,
    /// Do not put the scenario's programs on the core-data stream: they are there.
    #[arg(long)]
    pub no_preload: bool,
    /// Changes of the scenario.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Flags that change a scenario.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Changes of the scenario")]
pub struct Overrides {
    /// One constant rate per second instead of the phases.
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// How long, with one constant rate instead of the phases: 10s, 5m.
    #[arg(long, value_parser = Period::parse)]
    pub duration: Option<Period>,
    /// Multiplies every rate.
    #[arg(long)]
    pub scale: Option<f64>,
    /// uniform or poisson.
    #[arg(long, value_parser = arrivals)]
    pub arrivals: Option<Arrivals>,
    /// How many programs.
    #[arg(long, value_parser = Count::<MAX_PROGRAMS>::parse)]
    pub programs: Option<Count<MAX_PROGRAMS>>,
    /// The exponent of Zipf's law by which they are drawn.
    #[arg(long, value_parser = Exponent::parse)]
    pub zipf: Option<Exponent>,
    /// Share of requests for programs that do not exist, 0 to 1.
    #[arg(long, value_parser = Share::parse)]
    pub unknown: Option<Share>,
    /// Share of requests for a program that is switched off, 0 to 1.
    #[arg(long, value_parser = Share::parse)]
    pub disabled: Option<Share>,
    /// Share of requests with a wrong checksum, 0 to 1.
    #[arg(long, value_parser = Share::parse)]
    pub mismatching: Option<Share>,
    /// A user agent instead of the scenario's; repeatable.
    #[arg(long, value_parser = header_text)]
    pub user_agent: Vec<HeaderText>,
    /// Whether connections are used again.
    #[arg(long)]
    pub connections: Option<Connections>,
    /// How long to wait for an answer.
    #[arg(long, value_parser = Period::parse)]
    pub timeout: Option<Period>,
    /// Requests in flight at most; one more fails.
    #[arg(long, value_parser = Count::<MAX_IN_FLIGHT>::parse)]
    pub max_in_flight: Option<Count<MAX_IN_FLIGHT>>,
    /// Core-data updates per second.
    #[arg(long, value_parser = Rate::parse)]
    pub updates_per_second: Option<Rate>,
    /// Empty L1 before the first request.
    #[arg(long)]
    pub cold_start: bool,
    /// How long rows may take to arrive after the last answer.
    #[arg(long, value_parser = Period::parse)]
    pub settle: Option<Period>,
    /// Delete rows as they are counted; only from a stand-in on this machine.
    #[arg(long)]
    pub drop_counted: bool,
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    match text {
        "uniform" => Ok(Arrivals::Uniform),
        "poisson" => Ok(Arrivals::Poisson),
        _ => Err("expected uniform or poisson".to_owned()),
    }
}

fn header_text(text: &str) -> Result<HeaderText, String> {
    HeaderText::try_from(text.to_owned())
}

impl Overrides {
    /// Changes `scenario`; an error says which flags do not fit it.
    pub fn apply(&self, scenario: &mut Scenario) -> Result<(), String> {
        if self.rate.is_some() || self.duration.is_some() {
            scenario.set_constant(self.rate, self.duration);
        }
        if let Some(scale) = self.scale {
            if !(scale > 0.0 && scale <= 1_000.0) {
                return Err(format!("SCALE={scale}: expected a factor above 0, up to 1000"));
            }
            for phase in &mut scenario.phases {
                *phase = phase.scaled(scale);
            }
        }
        set(&mut scenario.arrivals, self.arrivals);
        set(&mut scenario.programs.count, self.programs);
        set(&mut scenario.programs.zipf, self.zipf);
        set(&mut scenario.requests.unknown, self.unknown);
        set(&mut scenario.requests.disabled, self.disabled);
        set(&mut scenario.requests.mismatching, self.mismatching);
        if !self.user_agent.is_empty() {
            scenario.requests.user_agents.clone_from(&self.user_agent);
        }
        set(&mut scenario.requests.connections, self.connections);
        set(&mut scenario.requests.timeout, self.timeout);
        set(&mut scenario.requests.max_in_flight, self.max_in_flight);
        set(&mut scenario.core_data.updates_per_second, self.updates_per_second);
        scenario.core_data.cold_start |= self.cold_start;
        set(&mut scenario.verify.settle, self.settle);
        scenario.verify.drop_counted |= self.drop_counted;
        scenario.check().map_err(|problem| format!("with the flags given: {problem}"))
    }

    /// The flags that were given, for the report.
    pub fn given(&self) -> Vec<String> {
        let mut given: Vec<String> = [
            ("rate", self.rate.map(|rate| rate.0.to_string())),
            ("duration", self.duration.map(|duration| duration.to_string())),
            ("scale", self.scale.map(|scale| scale.to_string())),
            ("arrivals", self.arrivals.map(|arrivals| format!("{arrivals:?}").to_lowercase())),
            ("programs", self.programs.map(|programs| programs.0.to_string())),
            ("zipf", self.zipf.map(|exponent| exponent.0.to_string())),
            ("unknown", self.unknown.map(|share| share.0.to_string())),
            ("disabled", self.disabled.map(|share| share.0.to_string())),
            ("mismatching", self.mismatching.map(|share| share.0.to_string())),
            (
                "connections",
                self.connections.map(|connections| match connections {
                    Connections::KeepAlive => "keep-alive".to_owned(),
                    Connections::New => "new".to_owned(),
                }),
            ),
            ("timeout", self.timeout.map(|timeout| timeout.to_string())),
            ("max-in-flight", self.max_in_flight.map(|count| count.0.to_string())),
            ("updates-per-second", self.updates_per_second.map(|rate| rate.0.to_string())),
            ("settle", self.settle.map(|settle| settle.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("--{name}={}", value?)))
        .collect();
        given.extend(self.user_agent.iter().map(|agent| format!("--user-agent={:?}", agent.0)));
        given.extend(self.cold_start.then(|| "--cold-start".to_owned()));
        given.extend(self.drop_counted.then(|| "--drop-counted".to_owned()));
        given
    }
}

fn set<T: Copy>(value: &mut T, by: Option<T>) {
    if let Some(by) = by {
        *value = by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overridden(flags: &[&str]) -> Result<Scenario, String> {
        let all = ["loadtest", "run", "quick"].iter().chain(flags);
        let Command::Run(arguments) = Arguments::try_parse_from(all).unwrap().command else {
            panic!("run");
        };
        let (mut scenario, _) = Scenario::load("quick").unwrap();
        arguments.overrides.apply(&mut scenario).map(|()| scenario)
    }

    #[test]
    fn flags_change_the_scenario() {
        let scenario =
            overridden(&["--rate", "50", "--duration", "2s", "--unknown", "0.5"]).unwrap();
        assert_eq!(scenario.schedule(0).expected(), 100.0);
        assert_eq!(scenario.requests.unknown, Share(0.5));
        let overrides =
            Overrides { rate: Some(Rate(50.0)), cold_start: true, ..Overrides::default() };
        assert_eq!(overrides.given(), ["--rate=50", "--cold-start"]);
        let halved = overridden(&["--scale", "0.5"]).unwrap();
        assert_eq!(halved.schedule(0).peak(), 1_000.0);
    }

    #[test]
    fn flags_that_do_not_fit_are_explained() {
        let error = overridden(&["--unknown", "0.9", "--disabled", "0.9"]).unwrap_err();
        assert!(error.starts_with("with the flags given: requests: unknown"), "{error}");
        assert!(overridden(&["--scale", "0"]).unwrap_err().starts_with("SCALE=0"));
    }
}
