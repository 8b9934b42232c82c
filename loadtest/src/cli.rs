//! The command line.

use std::path::PathBuf;

use adtrack_runtime::cli;
use clap::{Args, Parser, Subcommand};

use crate::compare::Condition;
use crate::scenario::value::{Count, Exponent, HeaderText, InvalidValue, Period, Rate, Share};
use crate::scenario::{Conflict, Connections, MAX_IN_FLIGHT, MAX_PROGRAMS, Scenario};
use crate::schedule::Arrivals;
use crate::threshold::{self, Threshold};

/// Load-tests adtrack, and says whether the figures can be trusted.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// A command of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a scenario and writes a report.
    ///
    /// Exit status: 0 success, 1 the run failed, 2 a threshold was crossed, 3 the harness itself was
    /// the bottleneck, 4 interrupted, 64 wrong usage.
    #[command(after_help = threshold::help())]
    Run(Box<RunArguments>),
    /// Finds the highest rate that keeps thresholds: raises the rate until one breaks, and bisects.
    ///
    /// Exit status: 0 a rate held and a higher one broke, 1 a run failed, or no rate held, 3 the harness was the limit,
    /// 4 interrupted, 64 wrong usage.
    #[command(after_help = threshold::help())]
    Capacity(Box<CapacityArguments>),
    /// Lists the built-in scenarios.
    Scenarios,
    /// Shows a scenario.
    Scenario {
        /// What to do with the scenario.
        #[command(subcommand)]
        command: ScenarioCommand,
    },
    /// Compares two reports, and says which differences are noise.
    ///
    /// Exit status: 0 success, 2 a condition was crossed, 3 a run is invalid and there are conditions, 64 wrong usage.
    Compare {
        /// JSON file of the first report.
        a: PathBuf,
        /// JSON file of the second report.
        b: PathBuf,
        /// Fail if a figure changed by more than this, unless the noise explains it: 'p99>10%', 'rate<-5%'; repeatable.
        #[arg(long, value_name = "CHANGE")]
        fail_if: Vec<Condition>,
    },
    /// Sends a few hundred mixed requests and one core-data change to a running stack, and shows the
    /// responses, the rows and how long both took.
    Demo,
    /// Sends requests at a steady rate to a running stack, and checks that each became exactly one
    /// row.
    Count {
        /// Number of requests.
        #[arg(long, default_value_t = 10_000, value_parser = cli::integer(1_u32, 10_000_000))]
        requests: u32,
        /// Requests per second.
        #[arg(long, default_value_t = 500, value_parser = cli::integer(1_u32, 20_000))]
        rate: u32,
    },
}

/// A command on a scenario.
#[derive(Debug, Subcommand)]
pub enum ScenarioCommand {
    /// Prints the scenario's TOML, as a starting point for a scenario of your own.
    Show {
        /// Name of the scenario.
        name: String,
    },
}

/// Arguments of `loadtest capacity`.
#[derive(Debug, Args)]
pub struct CapacityArguments {
    /// A rate breaks if this is true, such as 'p99>5ms'; repeatable.
    #[arg(long, value_name = "CONDITION", required = true)]
    pub until: Vec<Threshold>,
    /// The first rate, requests per second.
    #[arg(long, default_value = "500", value_parser = Rate::parse)]
    pub from: Rate,
    /// How far apart the rates that hold and break may be in the end, as a share.
    #[arg(long, default_value = "0.05", value_parser = Share::parse)]
    pub tolerance: Share,
    /// The arguments of each run.
    #[command(flatten)]
    pub run: RunArguments,
}

/// Arguments of `loadtest run`.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Name of a built-in scenario, or a TOML file.
    #[arg(default_value = "quick")]
    pub scenario: String,
    /// Where to send requests. Without it, a local stack is started, and stopped at the end.
    #[arg(long)]
    pub url: Option<String>,
    /// Allow a target that is not on this machine.
    #[arg(long)]
    pub i_own_this_host: bool,
    /// File of the report; .html and .json are appended. [default: target/loadtest/SCENARIO-TIME]
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Also write the verdict and the thresholds as test results in JUnit's XML.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Also write a summary in Markdown.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Also write the figures of each second (longer for runs over half an hour) as CSV.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Fail if this is true, such as 'p99>5ms', 'errors>0.1%' or 'lost>0'; repeatable.
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// Number of sender threads; one of them sends up to about 20,000 requests/s.
    #[arg(long, default_value_t = 1, value_parser = cli::integer(1_usize, 32))]
    pub threads: usize,
    /// Seed of the random numbers: runs with the same seed send the same requests, except that {random}
    /// has the run's id. [default: another one for each run]
    #[arg(long)]
    pub seed: Option<u32>,
    /// PEM file with the certificates of authorities to trust, besides those of the system.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate of an https server.
    #[arg(long)]
    pub insecure: bool,
    /// Do not check the table for the events' rows.
    #[arg(long)]
    pub no_verify: bool,
    /// Do not put the scenario's programs on the core-data stream: they exist already.
    #[arg(long)]
    pub no_preload: bool,
    /// Flags that change the scenario.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Flags that change a scenario.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Changes to the scenario")]
pub struct Overrides {
    /// One constant rate per second instead of the phases.
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// Duration of one constant rate instead of the phases, such as 10s or 5m.
    #[arg(long, value_parser = Period::parse)]
    pub duration: Option<Period>,
    /// Multiplies every rate.
    #[arg(long)]
    pub scale: Option<f64>,
    /// How requests arrive: uniform or poisson.
    #[arg(long, value_parser = parse_arrivals)]
    pub arrivals: Option<Arrivals>,
    /// Number of programs.
    #[arg(long, value_parser = Count::<MAX_PROGRAMS>::parse)]
    pub programs: Option<Count<MAX_PROGRAMS>>,
    /// Exponent of Zipf's law by which programs are drawn.
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
    #[arg(long, value_parser = parse_header_text)]
    pub user_agent: Vec<HeaderText>,
    /// Whether connections are reused.
    #[arg(long)]
    pub connections: Option<Connections>,
    /// How long to wait for a response.
    #[arg(long, value_parser = Period::parse)]
    pub timeout: Option<Period>,
    /// Most requests in flight at a time; requests beyond it are not sent and count as failed.
    /// [default: the highest rate times the time-out]
    #[arg(long, value_parser = Count::<MAX_IN_FLIGHT>::parse)]
    pub max_in_flight: Option<Count<MAX_IN_FLIGHT>>,
    /// Core-data updates per second.
    #[arg(long, value_parser = Rate::parse)]
    pub updates_per_second: Option<Rate>,
    /// Empty L1 before the first request.
    #[arg(long)]
    pub cold_start: bool,
    /// How long rows may take to arrive after the last response.
    #[arg(long, value_parser = Period::parse)]
    pub settle: Option<Period>,
    /// Delete rows as they are counted; only for a DynamoDB stand-in on this machine.
    #[arg(long)]
    pub drop_counted: bool,
}

fn parse_arrivals(text: &str) -> Result<Arrivals, String> {
    match text {
        "uniform" => Ok(Arrivals::Uniform),
        "poisson" => Ok(Arrivals::Poisson),
        _ => Err("expected uniform or poisson".to_owned()),
    }
}

fn parse_header_text(text: &str) -> Result<HeaderText, InvalidValue> {
    HeaderText::try_from(text.to_owned())
}

/// Why a scenario cannot be run with the flags given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidOverrides {
    /// The factor for the rates is out of bounds.
    #[error("SCALE={0}: expected a factor above 0, up to 1000")]
    Scale(f64),
    /// The values do not fit together.
    #[error("with the flags given: {0}")]
    Conflict(#[from] Conflict),
}

impl Overrides {
    /// Applies the flags to `scenario`.
    ///
    /// # Errors
    ///
    /// If the scenario is not valid with these flags.
    pub fn apply(&self, scenario: &mut Scenario) -> Result<(), InvalidOverrides> {
        if self.rate.is_some() || self.duration.is_some() {
            scenario.set_constant(self.rate, self.duration);
        }
        if let Some(scale) = self.scale {
            if !(scale > 0.0 && scale <= 1_000.0) {
                return Err(InvalidOverrides::Scale(scale));
            }
            for phase in &mut scenario.phases {
                *phase = phase.scale(scale);
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
        scenario.requests.max_in_flight = self.max_in_flight.or(scenario.requests.max_in_flight);
        set(&mut scenario.core_data.updates_per_second, self.updates_per_second);
        scenario.core_data.cold_start |= self.cold_start;
        set(&mut scenario.verify.settle, self.settle);
        scenario.verify.drop_counted |= self.drop_counted;
        Ok(scenario.check()?)
    }

    /// The flags that are set, as they would be typed; for the report.
    pub fn to_flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = [
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
        flags.extend(self.user_agent.iter().map(|agent| format!("--user-agent={:?}", agent.0)));
        flags.extend(self.cold_start.then(|| "--cold-start".to_owned()));
        flags.extend(self.drop_counted.then(|| "--drop-counted".to_owned()));
        flags
    }
}

fn set<T: Copy>(value: &mut T, override_value: Option<T>) {
    if let Some(override_value) = override_value {
        *value = override_value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_to_quick(flags: &[&str]) -> Result<Scenario, InvalidOverrides> {
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
            apply_to_quick(&["--rate", "50", "--duration", "2s", "--unknown", "0.5"]).unwrap();
        assert_eq!(scenario.schedule(0).expected(), 100.0);
        assert_eq!(scenario.requests.unknown, Share(0.5));
        let overrides =
            Overrides { rate: Some(Rate(50.0)), cold_start: true, ..Overrides::default() };
        assert_eq!(overrides.to_flags(), ["--rate=50", "--cold-start"]);
        let halved = apply_to_quick(&["--scale", "0.5"]).unwrap();
        assert_eq!(halved.schedule(0).peak(), 1_000.0);
    }

    #[test]
    fn rejects_flags_that_do_not_fit_together() {
        let error =
            apply_to_quick(&["--unknown", "0.9", "--disabled", "0.9"]).unwrap_err().to_string();
        assert!(error.starts_with("with the flags given: requests: unknown"), "{error}");
        assert!(apply_to_quick(&["--scale", "0"]).unwrap_err().to_string().starts_with("SCALE=0"));
    }
}
