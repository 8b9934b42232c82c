//! A run from beginning to end: the stack, the programs, the requests, the rows, the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use adtrack_runtime::outln;
use procfs::{CpuInfo, Current};
use tokio::sync::watch;

use crate::cli::RunArguments;
use crate::connection_check;
use crate::core_data;
use crate::engine::{self, Addresses, Job, Merger, Streams};
use crate::interrupts::Interrupts;
use crate::limits;
use crate::live::View;
use crate::local::LocalStack;
use crate::process;
use crate::recorder::{Slice, Totals};
use crate::report::{self, DEVELOPMENT, Machine, Material, Report, ReportError, Run, ScenarioInfo};
use crate::request::{self, Kind, Program, Traffic};
use crate::sample::{Sample, Sampler};
use crate::scenario::{Connections, Scenario};
use crate::schedule::Schedule;
use crate::stack_folder::StackFolder;
use crate::surroundings::Surroundings;
use crate::target::{Hosts, Target, TargetError, Trust};
use crate::verify::{EventTable, Findings, Follower, Plan, VerifyError};

mod error;

pub use error::{RunError, UsageError};

/// The most slices of a report.
const MAX_SLICES: f64 = 1_800.0;

/// Time between two resolutions of the target's name during a run.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);

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
    seed: u32,
    max_in_flight: usize,
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
        let stack = match LocalStack::start(&folder.path).await {
            Ok(stack) => stack,
            Err(error) => {
                folder.keep_logs();
                return Err(error.into());
            }
        };
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
    let target = prepared.parse_target(url).map_err(UsageError::Target)?;
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
        let names = || scenario.endpoints.iter().map(|endpoint| endpoint.name.0.as_str());
        if let Some(threshold) =
            arguments.fail_if.iter().find(|threshold| !threshold.is_about_one_of(names()))
        {
            return Err(UsageError::NoSuchEndpoint {
                threshold: threshold.to_string(),
                endpoints: names().collect::<Vec<_>>().join(", "),
            });
        }
        let max_in_flight = scenario.room(limits::raise_open_files());
        if max_in_flight < arguments.threads {
            let threads = arguments.threads;
            return Err(UsageError::TooManyThreads { threads, room: max_in_flight });
        }
        let seed = arguments.seed.unwrap_or_else(|| fastrand::u32(..));
        let schedule = scenario.schedule(seed.into());
        let seconds = (schedule.duration().as_secs_f64() / MAX_SLICES).ceil().max(1.0);
        let name = name_of(&arguments.scenario);
        let now = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
        let base = arguments
            .report
            .clone()
            .unwrap_or_else(|| PathBuf::from("target/loadtest").join(format!("{name}-{now}")));
        let base = without_extension(base);
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
            seed,
            max_in_flight,
            arguments,
        })
    }

    async fn run(self, target: &Target, surroundings: &Surroundings) -> Result<Outcome, RunError> {
        self.check(surroundings)?;
        check_connection(target).await?;
        let programs = request::programs(&self.scenario);
        self.prepare_programs(target, surroundings, &programs).await?;
        let interrupts = Interrupts::listen();
        let mark = request::mark(&self.id);
        let traffic = Traffic::new(&self.scenario, &target.host, &self.id);
        let kinds = traffic.kinds.clone();
        let addresses = Addresses::new(target.addresses.clone());
        let job = self.job(target, addresses.clone(), surroundings, traffic);
        let (running, streams) = engine::start(job).map_err(RunError::Start)?;
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
        let resolving = tokio::spawn(keep_resolving(target.url.clone(), self.hosts(), addresses));
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
        resolving.abort();
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

    fn parse_target(&self, url: &str) -> Result<Target, TargetError> {
        let trust =
            Trust { authorities: self.arguments.ca.clone(), anything: self.arguments.insecure };
        Target::parse_with(url, self.hosts(), &trust)
    }

    fn hosts(&self) -> Hosts {
        if self.arguments.i_own_this_host { Hosts::Own } else { Hosts::ThisMachine }
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

    fn job(
        &self,
        target: &Target,
        addresses: Addresses,
        surroundings: &Surroundings,
        traffic: Traffic,
    ) -> Job {
        let requests = &self.scenario.requests;
        Job {
            traffic,
            schedule: self.schedule.clone(),
            seed: self.seed.into(),
            addresses,
            tls: target.tls.clone(),
            keep_alive: requests.connections == Connections::KeepAlive,
            timeout: requests.timeout.0,
            max_in_flight: self.max_in_flight,
            warm_up: self.scenario.harness.warm_up.0,
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
                seed: self.seed.into(),
                threads: self.arguments.threads,
                max_in_flight: self.max_in_flight,
                warm_up_seconds: self.scenario.harness.warm_up.0.as_secs_f64(),
                phase_ends_seconds: self.scenario.phase_ends(),
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
        let arguments = &self.arguments;
        type ToText = fn(&Report) -> String;
        let others: [(&Option<PathBuf>, ToText); 3] = [
            (&arguments.junit, report::junit),
            (&arguments.markdown, report::markdown),
            (&arguments.csv, report::csv),
        ];
        for (path, to_text) in others {
            if let Some(path) = path {
                report::write_text(path, &to_text(&report))?;
            }
        }
        Ok(Outcome { report, base: self.base, problems: measured.problems })
    }
}

/// The path of a report as given, or without the extension of one of its files.
fn without_extension(base: PathBuf) -> PathBuf {
    match base.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "json") => base.with_extension(""),
        _ => base,
    }
}

/// The name of a built-in scenario, or of the file without `.toml`.
fn name_of(scenario: &str) -> String {
    let name = Path::new(scenario).file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "run".to_owned());
    name.strip_suffix(".toml").unwrap_or(&name).to_owned()
}

/// Resolves the target's name again now and then. A name that no longer resolves keeps its addresses.
async fn keep_resolving(url: String, hosts: Hosts, addresses: Addresses) {
    loop {
        tokio::time::sleep(RESOLVE_EVERY).await;
        let url = url.clone();
        let resolved = tokio::task::spawn_blocking(move || Target::resolve_again(&url, hosts));
        if let Ok(Some(resolved)) = resolved.await {
            addresses.replace(resolved);
        }
    }
}

async fn check_connection(target: &Target) -> Result<(), RunError> {
    let target = target.clone();
    tokio::task::spawn_blocking(move || connection_check::check(&target)).await??;
    Ok(())
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
