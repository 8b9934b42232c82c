//! A run from beginning to end: the stack, the programs, the requests, the rows, the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use adtrack_runtime::outln;
use procfs::{CpuInfo, Current};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{InvalidOverrides, RunArguments};
use crate::core_data::{self, CoreDataError};
use crate::engine::{self, Job, Merger, SenderError, Streams};
use crate::live::View;
use crate::local::{LocalStack, LocalStackError};
use crate::process;
use crate::recorder::{Slice, Totals};
use crate::report::{self, DEVELOPMENT, Machine, Material, Report, ReportError, Run, ScenarioInfo};
use crate::request::{self, Kind, Program, Traffic};
use crate::sample::{Sample, Sampler};
use crate::scenario::{Connections, Scenario, ScenarioError};
use crate::schedule::Schedule;
use crate::stack_folder::StackFolder;
use crate::surroundings::Surroundings;
use crate::target::{Hosts, Target, TargetError};
use crate::verify::{EventTable, Findings, Follower, Plan, VerifyError};

/// The most slices of a report.
const MAX_SLICES: f64 = 1_800.0;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The arguments or the environment are invalid. Nothing was started.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The local stack did not start.
    #[error(transparent)]
    LocalStack(#[from] LocalStackError),
    /// The local stack's tracker cannot be put under load.
    #[error(transparent)]
    Tracker(TargetError),
    /// The tracker does not have the programs.
    #[error(transparent)]
    CoreData(#[from] CoreDataError),
    /// The tracker did not empty L1.
    #[error("L1 cannot be emptied: {0}")]
    ColdStart(reqwest::Error),
    /// The senders did not start.
    #[error("the senders cannot be started: {0}")]
    Start(std::io::Error),
    /// The senders did not send to the end.
    #[error(transparent)]
    Senders(#[from] SenderError),
    /// The accepted events cannot be followed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The task that follows the accepted events panicked: a bug in the harness.
    #[error(transparent)]
    Follower(#[from] tokio::task::JoinError),
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Why a run cannot be started as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The scenario is invalid.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The flags do not fit the scenario.
    #[error(transparent)]
    Overrides(#[from] InvalidOverrides),
    /// The URL cannot be put under load.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The folder of the report cannot be created.
    #[error("{}: {error}", .folder.display())]
    Folder {
        /// Its path.
        folder: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The scenario needs a part of the deployment that the environment does not name.
    #[error("{part} needs {variable} in the environment; {remedy}")]
    Missing {
        /// The part of the scenario.
        part: &'static str,
        /// The environment variable.
        variable: &'static str,
        /// How to do without it.
        remedy: &'static str,
    },
    /// Rows would be deleted that may not be the run's alone.
    #[error(
        "drop_counted deletes rows: it needs AWS_ENDPOINT_URL_DYNAMODB on this machine, and TABLE_NAME"
    )]
    DropsRows,
}

/// A finished run: its report, and where it was written.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: Report,
    /// Path of the report's files, without extension.
    pub base: PathBuf,
    /// What could not be measured, and why. The report lacks those figures.
    pub problems: Vec<String>,
}

/// A run whose arguments have been checked, before anything is started.
struct Prepared {
    arguments: RunArguments,
    scenario: Scenario,
    toml: String,
    name: String,
    schedule: Schedule,
    slice: Duration,
    base: PathBuf,
    folder: PathBuf,
    id: String,
}

/// Runs a scenario and writes its report.
///
/// # Errors
///
/// If the arguments are not valid, or if no report could be made.
pub async fn run(arguments: RunArguments) -> Result<Outcome, RunError> {
    let prepared = Prepared::new(arguments)?;
    let Some(url) = &prepared.arguments.url else {
        for left in StackFolder::remove_abandoned(&prepared.folder) {
            outln!("Removed {}, which a killed run had left.", left.display());
        }
        let folder = StackFolder::create(&prepared.folder, &prepared.id)?;
        outln!("Starting a local stack.");
        let stack = LocalStack::start(&folder.path).await?;
        let url = stack.variables.get("TRACKER_URL").cloned().unwrap_or_default();
        let surroundings = Surroundings::of_stack(&stack.variables).await;
        let outcome = match Target::parse(&url, Hosts::ThisMachine) {
            Ok(target) => prepared.run(&target, &surroundings).await,
            Err(error) => Err(RunError::Tracker(error)),
        };
        stack.stop().await;
        if outcome.is_ok() {
            folder.remove();
        } else {
            folder.keep_logs();
        }
        return outcome;
    };
    let is_own = prepared.arguments.i_own_this_host;
    let hosts = if is_own { Hosts::Own } else { Hosts::ThisMachine };
    let target = Target::parse(url, hosts).map_err(UsageError::Target)?;
    let surroundings = Surroundings::of_environment().await;
    prepared.run(&target, &surroundings).await
}

impl Prepared {
    fn new(arguments: RunArguments) -> Result<Self, UsageError> {
        let (mut scenario, toml) = Scenario::load(&arguments.scenario)?;
        arguments.overrides.apply(&mut scenario)?;
        if arguments.no_preload {
            scenario.programs.preload = false;
        }
        let schedule = scenario.schedule(arguments.seed);
        let seconds = (schedule.duration().as_secs_f64() / MAX_SLICES).ceil().max(1.0);
        let name = Path::new(&arguments.scenario)
            .file_stem()
            .map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
        let base = arguments
            .report
            .clone()
            .unwrap_or_else(|| PathBuf::from("target/loadtest").join(format!("{name}-{now}")));
        let folder = match base.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        std::fs::create_dir_all(&folder)
            .map_err(|error| UsageError::Folder { folder: folder.clone(), error })?;
        Ok(Self {
            scenario,
            toml,
            name,
            schedule,
            slice: Duration::from_secs_f64(seconds),
            base,
            folder,
            id: format!("{:08x}", fastrand::u32(..)),
            arguments,
        })
    }

    async fn run(self, target: &Target, surroundings: &Surroundings) -> Result<Outcome, RunError> {
        self.check(surroundings)?;
        let programs = request::programs(&self.scenario);
        self.prepare_programs(target, surroundings, &programs).await?;
        let interrupts = Interrupts::listen();
        let mark = format!("run/{}", self.id);
        let traffic = Traffic::new(&self.scenario, &target.host, &mark);
        let kinds = traffic.kinds.clone();
        let (running, streams) =
            engine::start(self.job(target, surroundings, traffic)).map_err(RunError::Start)?;
        outln!(
            "{}: {:.0} requests in {:.0} s to {}.",
            self.name,
            self.schedule.expected(),
            self.schedule.duration().as_secs_f64(),
            target.url
        );
        let (end, has_ended) = watch::channel(false);
        let sampler = Sampler {
            tracker: self.tracker_process(target),
            management_url: surroundings.management_url.clone(),
            start: running.start.instant,
            every: self.slice,
        };
        let samples = tokio::spawn(sampler.run(has_ended.clone()));
        let changes = self.start_changes(target, surroundings, &mark, programs, has_ended);
        let Streams { slices, accepted } = streams;
        let start_ms = running.start.unix_ms;
        let follower = self.follower(surroundings, &mark, start_ms)?;
        let interrupted = interrupts.first.clone();
        let mut stop = interrupts.first.clone();
        let stopper = running.stopper();
        let stop_on_interrupt = tokio::spawn(async move {
            if stop.wait_for(|interrupted| *interrupted).await.is_ok() {
                stopper();
            }
        });
        let following = follower
            .map(|follower| tokio::spawn(follower.follow(accepted, interrupts.second.clone())));
        let slices = self.watch(slices).await;
        let seconds = running.start.instant.elapsed().as_secs_f64();
        let was_interrupted = *interrupted.borrow();
        stop_on_interrupt.abort();
        let totals = running.finish()?;
        // Fails if the tasks have ended already.
        let _ = end.send(true);
        let changes = changes.await.unwrap_or_default();
        let mut problems: Vec<String> = Vec::new();
        if let Some(problem) = &changes.problem {
            problems.push(format!("core-data updates: {problem}"));
        }
        let samples = samples.await.unwrap_or_default();
        let findings = match following {
            Some(following) => {
                outln!(
                    "Waiting for the rows of the last events, up to {}.",
                    self.scenario.verify.settle
                );
                match following.await? {
                    Ok(findings) => Some(findings),
                    Err(problem) => {
                        problems.push(format!("the table cannot be read: {problem}"));
                        None
                    }
                }
            }
            None => None,
        };
        let measured =
            Measured { problems, start_ms, kinds, totals, slices, samples, changes, findings };
        Ok(self.report(target, measured, seconds, was_interrupted)?)
    }

    /// Checks that the environment names everything that the scenario needs.
    fn check(&self, surroundings: &Surroundings) -> Result<(), UsageError> {
        let needs = |part, variable, remedy| Err(UsageError::Missing { part, variable, remedy });
        let core_data = &self.scenario.core_data;
        if self.scenario.preloads() && surroundings.core_data.is_none() {
            return needs("preloading the programs", "CORE_DATA_STREAM", "or use --no-preload");
        }
        if core_data.updates_per_second.0 > 0.0 && surroundings.core_data.is_none() {
            return needs(
                "updates_per_second",
                "CORE_DATA_STREAM",
                "or use --updates-per-second 0",
            );
        }
        if core_data.cold_start && surroundings.management_url.is_none() {
            return needs("cold_start", "MANAGEMENT_URL", "or remove it from the scenario");
        }
        let drops = self.scenario.verify.drop_counted && !self.arguments.no_verify;
        if drops && !surroundings.table.as_ref().is_some_and(EventTable::is_stand_in) {
            return Err(UsageError::DropsRows);
        }
        Ok(())
    }

    async fn prepare_programs(
        &self,
        target: &Target,
        surroundings: &Surroundings,
        programs: &[Program],
    ) -> Result<(), RunError> {
        if self.scenario.preloads()
            && let Some(stream) = &surroundings.core_data
        {
            outln!("Loading {} programs.", programs.len());
            let disabled = request::disabled(&self.scenario);
            core_data::preload(stream, &target.url, programs, &disabled).await?;
        }
        if self.scenario.core_data.cold_start
            && let Some(url) = &surroundings.management_url
        {
            let url = format!("{url}/cache/purge");
            let response = core_data::http_client().post(&url).send().await;
            response.and_then(reqwest::Response::error_for_status).map_err(RunError::ColdStart)?;
        }
        Ok(())
    }

    fn job(&self, target: &Target, surroundings: &Surroundings, traffic: Traffic) -> Job {
        let requests = &self.scenario.requests;
        Job {
            traffic,
            schedule: self.schedule.clone(),
            seed: self.arguments.seed,
            addresses: target.addresses.clone(),
            tls: target.tls.clone(),
            keep_alive: requests.connections == Connections::KeepAlive,
            timeout: requests.timeout.0,
            max_in_flight: requests.max_in_flight.0 as usize,
            workers: self.arguments.threads,
            slice: self.slice,
            follow: self.follows(surroundings),
        }
    }

    fn follows(&self, surroundings: &Surroundings) -> bool {
        surroundings.table.is_some() && !self.arguments.no_verify
    }

    fn follower(
        &self,
        surroundings: &Surroundings,
        mark: &str,
        start_ms: u64,
    ) -> Result<Option<Follower>, VerifyError> {
        let Some(table) = surroundings.table.clone().filter(|_| self.follows(surroundings)) else {
            return Ok(None);
        };
        let plan = Plan {
            table,
            mark: mark.to_owned(),
            settle: self.scenario.verify.settle.0,
            drop_counted: self.scenario.verify.drop_counted,
            start_ms,
            slice: self.slice,
        };
        Follower::new(plan, &self.folder).map(Some)
    }

    fn tracker_process(&self, target: &Target) -> Option<u32> {
        let address = target.addresses.first().filter(|_| target.is_loopback())?;
        process::listener(address.port())
    }

    /// Starts to change core data, until `stop` turns true.
    fn start_changes(
        &self,
        target: &Target,
        surroundings: &Surroundings,
        mark: &str,
        programs: Vec<Program>,
        stop: watch::Receiver<bool>,
    ) -> tokio::task::JoinHandle<core_data::Changes> {
        let rate = self.scenario.core_data.updates_per_second.0;
        let (url, mark) = (target.url.clone(), mark.to_owned());
        let stream = surroundings.core_data.clone();
        tokio::spawn(async move {
            match stream {
                Some(stream) => {
                    core_data::change(&stream, &url, &mark, &programs, rate, stop).await
                }
                None => core_data::Changes::default(),
            }
        })
    }

    /// Shows and collects the slices until the senders have ended.
    async fn watch(&self, mut slices: tokio::sync::mpsc::UnboundedReceiver<Slice>) -> Vec<Slice> {
        let mut view = View::new(self.schedule.duration(), self.slice);
        let mut merger = Merger::new(self.arguments.threads);
        let mut whole = Vec::new();
        while let Some(slice) = slices.recv().await {
            if let Some(slice) = merger.add(slice) {
                view.show(&slice);
                whole.push(slice);
            }
        }
        whole.extend(merger.rest());
        whole
    }

    fn report(
        self,
        target: &Target,
        measured: Measured,
        seconds: f64,
        interrupted: bool,
    ) -> Result<Outcome, ReportError> {
        let started_ms = i64::try_from(measured.start_ms).unwrap_or(i64::MAX);
        let started = jiff::Timestamp::from_millisecond(started_ms).unwrap_or_default();
        let material = Material {
            run: Run {
                id: self.id.clone(),
                started_at: started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                scheduled_seconds: self.schedule.duration().as_secs_f64(),
                seconds,
                interrupted,
                target: target.url.clone(),
                loadtest_version: env!("CARGO_PKG_VERSION").to_owned(),
                build: if cfg!(debug_assertions) { DEVELOPMENT } else { "release" }.to_owned(),
                seed: self.arguments.seed,
                threads: self.arguments.threads,
            },
            machine: machine(),
            scenario: ScenarioInfo {
                name: self.name.clone(),
                description: self.scenario.description.clone(),
                toml: self.toml.clone(),
                overrides: self.arguments.overrides.to_flags(),
            },
            schedule: self.schedule.clone(),
            slice: self.slice,
            kinds: measured.kinds,
            totals: measured.totals,
            slices: measured.slices,
            findings: measured.findings,
            counted_rows_dropped: self.scenario.verify.drop_counted,
            changes: measured.changes,
            samples: measured.samples,
            accepted_lag: self.scenario.harness.accepted_lag.0,
            thresholds: self.arguments.fail_if.clone(),
        };
        let report = report::build(material);
        report.write(&self.base)?;
        Ok(Outcome { report, base: self.base, problems: measured.problems })
    }
}

/// What a run measured.
struct Measured {
    problems: Vec<String>,
    /// When the run started, milliseconds since the Unix epoch.
    start_ms: u64,
    kinds: Vec<Kind>,
    totals: Totals,
    slices: Vec<Slice>,
    samples: Vec<Sample>,
    changes: core_data::Changes,
    findings: Option<Findings>,
}

fn machine() -> Machine {
    let processors = CpuInfo::current().ok();
    let model = processors.as_ref().and_then(|processors| processors.model_name(0));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        processor: model.unwrap_or(std::env::consts::ARCH).to_owned(),
        memory_bytes: process::memory().unwrap_or(0),
        kernel: format!("Linux {}", release.trim()),
    }
}

/// Ctrl-C: the first one ends the sending, the second one the waiting for rows.
struct Interrupts {
    first: watch::Receiver<bool>,
    second: watch::Receiver<bool>,
}

impl Interrupts {
    fn listen() -> Self {
        let (first_sender, first) = watch::channel(false);
        let (second_sender, second) = watch::channel(false);
        tokio::spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                // Keep the senders: a closed channel would count as an interrupt.
                return std::future::pending().await;
            };
            for sender in [first_sender, second_sender] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                outln!(
                    "\nInterrupted: ending with a report. Press ctrl-C again to not wait for rows."
                );
                sender.send_replace(true);
            }
        });
        Self { first, second }
    }
}
