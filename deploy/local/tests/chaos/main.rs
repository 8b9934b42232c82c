//! The random-fault machine: two trackers and the functions under mixed load, with faults at random times.
//!
//! ```text
//! epoch: faults, load, changes of core data (12 s) → faults lifted, core data fed → at rest → everything checked
//! ```
//!
//! Seed and number of an epoch decide its faults ([`plan`]), requests and changes of core data. The moments at which
//! processes reach a fault are left to chance, so an epoch that failed may take several runs to fail again.
//!
//! `make test` runs the epochs of a fixed seed that fit into half a minute. `make chaos` sets these variables:
//!
//! | variable | |
//! |---|---|
//! | `ADTRACK_CHAOS_MINUTES` | how long new epochs start; 0: one epoch |
//! | `ADTRACK_CHAOS_SEED` | the seed; without it, a random one |
//! | `ADTRACK_CHAOS_EPOCH` | the first epoch; 1 by default |
//! | `ADTRACK_CHAOS_WITHOUT` | kinds of faults that are left out, with commas, to find the one that matters |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod check;
mod faults;
mod feed;
mod load;
mod plan;
mod processes;
mod requests;
mod rig;
mod rows;

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use feed::Feed;
use load::{Load, NUMBERS_PER_EPOCH, Truth};
use plan::{PlannedFault, rng};
use rig::Rig;

/// Seed and length of the short form.
const SHORT_SEED: u64 = 1;
const SHORT: Duration = Duration::from_secs(20);
/// Number of problems that are printed.
const MAX_PRINTED: usize = 20;

struct Settings {
    length: Duration,
    seed: u64,
    first_epoch: u64,
    without: Vec<String>,
}

impl Settings {
    fn from_environment() -> Self {
        let minutes = variable::<u64>("MINUTES");
        let seed = match minutes {
            None => SHORT_SEED,
            Some(_) => fastrand::u64(0..1_000_000),
        };
        Self {
            length: minutes.map_or(SHORT, |minutes| Duration::from_secs(60 * minutes)),
            seed: variable("SEED").unwrap_or(seed),
            first_epoch: variable("EPOCH").unwrap_or(1),
            without: without(),
        }
    }

    /// The command that carries out `epoch` alone.
    fn replay(&self, epoch: u64) -> String {
        let command = format!("make chaos SEED={} EPOCH={epoch} MINUTES=0", self.seed);
        match &self.without[..] {
            [] => command,
            names => format!("{command} WITHOUT={}", names.join(",")),
        }
    }
}

/// The kinds of faults that are left out.
fn without() -> Vec<String> {
    let names = variable::<String>("WITHOUT").unwrap_or_default();
    let names: Vec<_> =
        names.split(',').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect();
    let kinds = plan::kinds();
    for name in &names {
        assert!(
            kinds.contains(name),
            "WITHOUT={name} is not a kind of fault; expected some of {kinds:?}"
        );
    }
    names
}

/// The value of a variable; `None` if it is not set or empty.
fn variable<T: FromStr<Err: std::fmt::Debug>>(name: &str) -> Option<T> {
    let value =
        std::env::var(format!("ADTRACK_CHAOS_{name}")).ok().filter(|value| !value.is_empty());
    value.map(|value| value.parse().unwrap_or_else(|error| panic!("{name}={value:?}: {error:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_under_random_faults() {
    let settings = Settings::from_environment();
    let folder = tempfile::Builder::new().prefix("adtrack-chaos-").tempdir().unwrap();
    println!("seed {}, files in {}", settings.seed, folder.path().display());
    let give_up = Instant::now() + settings.length;
    let rig = Rig::start(folder.path()).await;
    let (feed, truth) = (Arc::<Feed>::default(), Arc::<Truth>::default());
    feed.request_reload();
    let nothing_else = Arc::new(AtomicBool::new(true));
    let fill = Arc::clone(&feed).run(Arc::clone(&rig), fastrand::Rng::new(), nothing_else);
    fill.await;

    for epoch in settings.first_epoch.. {
        let plan = plan::plan(settings.seed, epoch);
        let plan = plan.into_iter().filter(|it| !settings.without.contains(&it.fault.name()));
        let plan: Vec<_> = plan.collect();
        let problems = run_epoch(&rig, &feed, &truth, &settings, epoch, &plan).await;
        if !problems.is_empty() {
            let kept = folder.keep();
            println!("{}", failure(&settings, epoch, &plan, &problems, &kept.display()));
            panic!("epoch {epoch} of seed {} failed", settings.seed);
        }
        if Instant::now() > give_up {
            let (seed, next) = (settings.seed, epoch + 1);
            println!("passed; the next part is: make chaos SEED={seed} EPOCH={next}");
            break;
        }
    }
    let rig = Arc::into_inner(rig).expect("all tasks of the machine have ended");
    rig.stack.into_inner().stop().await;
    assert_eq!(children(), Vec::<String>::new(), "no process is left");
}

/// The processes that this one has started and that still run.
fn children() -> Vec<String> {
    let own = i32::try_from(std::process::id()).unwrap();
    let all = procfs::process::all_processes().unwrap().filter_map(Result::ok);
    let stats = all.filter_map(|process| process.stat().ok());
    stats
        .filter(|stat| stat.ppid == own)
        .map(|stat| format!("{} {}", stat.pid, stat.comm))
        .collect()
}

async fn run_epoch(
    rig: &Arc<Rig>,
    feed: &Arc<Feed>,
    truth: &Arc<Truth>,
    settings: &Settings,
    epoch: u64,
    plan: &[PlannedFault],
) -> Vec<String> {
    let first = epoch * NUMBERS_PER_EPOCH;
    let rng = |purpose| rng(settings.seed, epoch, purpose);
    feed.begin_epoch();
    truth.statuses.lock().unwrap().clear();
    let stop = Arc::<AtomicBool>::default();
    let feeding = Arc::clone(feed).run(Arc::clone(rig), rng("core data"), Arc::clone(&stop));
    let feeding = tokio::spawn(feeding);
    let load = Load::new(rig.urls(), Arc::clone(truth), Arc::clone(feed));
    let loading = tokio::spawn(Arc::clone(&load).run(first, rng("load"), Arc::clone(&stop)));

    faults::carry_out(rig, feed, plan).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let next = loading.await.unwrap();
    feeding.await.unwrap();
    let statuses = truth.statuses.lock().unwrap().clone();
    // A client of its own, so that no connection of the load is open any more.
    drop(load);
    let load = Load::new(rig.urls(), Arc::clone(truth), Arc::clone(feed));
    let (measured, problems) = check::check(rig, feed, &load, first, next).await;
    println!(
        "epoch {epoch}: {} faults, responses {statuses:?}, {} rows, {} spilled objects, checked \
         within {:.1} s; trackers: {:?} MiB, {:?} handles{}",
        plan.len(),
        measured.rows,
        measured.spilled,
        measured.took.as_secs_f64(),
        measured.anonymous_mib,
        measured.handles,
        if problems.is_empty() { "" } else { " FAILED" },
    );
    problems
}

fn failure(
    settings: &Settings,
    epoch: u64,
    plan: &[PlannedFault],
    problems: &[String],
    folder: &dyn std::fmt::Display,
) -> String {
    let seed = settings.seed;
    let mut lines = vec![format!("seed {seed}, epoch {epoch}: {} problems", problems.len())];
    lines.extend(problems.iter().take(MAX_PRINTED).map(|problem| format!("  {problem}")));
    lines.push("the faults:".to_owned());
    lines.extend(plan.iter().map(|planned| format!("  {planned}")));
    lines.push(format!("logs and journals: {folder}"));
    lines.push(format!("again: {}", settings.replay(epoch)));
    lines.join("\n")
}
