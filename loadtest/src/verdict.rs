//! Decides whether a run's figures describe the server or only the harness, and whether the server did what the
//! scenario expects. Pure.

use std::time::Duration;

use crate::report::{Figures, Truth, Verdict};

/// The least share of its schedule that the harness has to send in time. Below it, the load is not the
/// one that the scenario names.
pub const ACHIEVED_SHARE: f64 = 0.99;
/// The largest share of the latency that may be the harness' own lag, at the 99th percentile.
pub const LAG_SHARE: f64 = 0.2;
/// The largest share of requests that may be unsent because too many were in flight. Their latencies are known only
/// from below, and the server was spared them.
pub const OVERFLOW_SHARE: f64 = 0.001;

/// What a verdict rests on.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The figures of the run.
    pub figures: &'a Figures,
    /// Whether there was a good response.
    pub has_good_response: bool,
    /// Share of the scheduled requests whose turn came within the schedule's length, sent or not.
    pub due_in_time: f64,
    /// Most requests in flight.
    pub max_in_flight: usize,
    /// The limit of the harness' machine that a connection ran into.
    pub own_limit: Option<&'static str>,
    /// A lag (99th percentile) that is always accepted; a longer one only if it is a small part of the latency,
    /// which includes it.
    pub accepted_lag: Duration,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// Whether the harness is a development build.
    pub is_development: bool,
}

/// Judges the harness and the target.
pub fn judge(evidence: &Evidence<'_>) -> Verdict {
    let mut reasons: Vec<String> =
        [own_limit(evidence), overflow(evidence), late(evidence), lag(evidence)]
            .into_iter()
            .flatten()
            .collect();
    let valid = reasons.is_empty();
    if evidence.figures.unsent_latencies > 0 && valid {
        reasons.push(format!(
            "{} requests were not sent; their latencies are those that they would have had at least",
            evidence.figures.unsent_latencies
        ));
    }
    if evidence.interrupted {
        reasons.push("the run was interrupted: the figures cover the part that ran".to_owned());
    }
    let findings = findings(evidence);
    Verdict {
        valid,
        reasons,
        as_expected: findings.is_empty(),
        findings,
        has_good_response: evidence.has_good_response,
    }
}

fn failures(figures: &Figures, kind: &str) -> u64 {
    figures.errors_by_kind.get(kind).copied().unwrap_or(0)
}

fn own_limit(evidence: &Evidence<'_>) -> Option<String> {
    let count = failures(evidence.figures, "harness");
    let limit = evidence.own_limit.unwrap_or("the machine of the harness has nothing left for it");
    (count > 0)
        .then(|| format!("{count} requests were not sent, for want of a connection: {limit}"))
}

fn overflow(evidence: &Evidence<'_>) -> Option<String> {
    let (count, due) = (failures(evidence.figures, "overflow"), evidence.figures.due);
    (count as f64 > OVERFLOW_SHARE * due as f64).then(|| {
        format!(
            "{count} of {due} requests were not sent, because {} were in flight; up to {:.1} % are accepted: \
             raise --max-in-flight, if the server should have got them, or lower the rate",
            evidence.max_in_flight,
            OVERFLOW_SHARE * 100.0
        )
    })
}

fn late(evidence: &Evidence<'_>) -> Option<String> {
    (evidence.due_in_time < ACHIEVED_SHARE && !evidence.interrupted).then(|| {
        format!(
            "the harness was the bottleneck: it came to {:.1} % of its schedule in time; a valid run needs at least \
             {:.0} %: {}",
            evidence.due_in_time * 100.0,
            ACHIEVED_SHARE * 100.0,
            remedy(evidence)
        )
    })
}

fn lag(evidence: &Evidence<'_>) -> Option<String> {
    let (lag, latency) = (evidence.figures.lag.p99_us, evidence.figures.latency.p99_us);
    let accepted_us = evidence.accepted_lag.as_secs_f64() * 1e6;
    (lag > accepted_us && lag > LAG_SHARE * latency).then(|| {
        let measured = if evidence.figures.latency.count > 0 {
            format!(", which is {:.0} % of the latency measured ({:.1} ms)", lag / latency.max(1.0) * 100.0, latency / 1e3)
        } else {
            String::new()
        };
        format!(
            "the harness was the bottleneck: at the 99th percentile it sent {:.1} ms late{measured}; up to {:.0} ms, or \
             {:.0} %, are accepted: {}",
            lag / 1e3,
            accepted_us / 1e3,
            LAG_SHARE * 100.0,
            remedy(evidence)
        )
    })
}

/// What to do about a harness that cannot keep up.
fn remedy(evidence: &Evidence<'_>) -> &'static str {
    if evidence.is_development {
        "this is a development build: use a release build (`make loadtest`), or lower --rate"
    } else {
        "lower --rate, end what else runs on this machine, or add --threads on a machine with idle cores"
    }
}

/// What the target did that the scenario does not expect.
fn findings(evidence: &Evidence<'_>) -> Vec<String> {
    let figures = evidence.figures;
    let mut findings = Vec::new();
    if !evidence.has_good_response {
        findings.push(format!(
            "none of {} requests got a good response: look at the statuses, and whether the tracker knows the scenario's programs",
            figures.due
        ));
    }
    let of_the_target = figures
        .errors_by_kind
        .iter()
        .filter(|(kind, _)| !matches!(kind.as_str(), "overflow" | "harness"));
    let kinds: Vec<String> =
        of_the_target.clone().map(|(kind, count)| format!("{kind} {count}")).collect();
    if !kinds.is_empty() {
        let sum: u64 = of_the_target.map(|(_, count)| count).sum();
        findings.push(format!(
            "{sum} of {} requests that were sent failed: {}",
            figures.sent,
            kinds.join(", ")
        ));
    }
    if figures.differing_repeats > 0 {
        findings.push(format!(
            "{} of {} repeated requests got another id than the first time",
            figures.differing_repeats, figures.repeats
        ));
    }
    findings.extend(figures.truth.iter().flat_map(truth_findings));
    if let Some(core_data) = &figures.core_data {
        let (stale, never) = (core_data.stale_answers, core_data.never_answered);
        if stale + never > 0 {
            findings.push(format!(
                "{stale} responses had old core data, and {never} updates were never seen"
            ));
        }
    }
    findings
}

fn truth_findings(truth: &Truth) -> Vec<String> {
    let mut findings = Vec::new();
    if truth.lost > 0 {
        findings.push(format!("{} accepted events have no row", truth.lost));
    }
    if truth.mislinked > 0 {
        findings.push(format!(
            "{} rows are not linked to the click or impression that led to them",
            truth.mislinked
        ));
    }
    if truth.altered > 0 {
        findings.push(format!(
            "{} rows hold something else than was sent: type, program, user agent, transaction, amount or currency",
            truth.altered
        ));
    }
    if truth.doubled > 0 {
        findings.push(format!("{} rows belong to no request", truth.doubled));
    }
    if truth.unidentified > 0 {
        findings.push(format!(
            "{} accepted events could not be followed, because their responses have no id: whether they are lost is not measured",
            truth.unidentified
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Percentiles;
    use crate::threshold::tests::figures as base;

    fn figures(lag: f64, latency: f64, errors: &[(&str, u64)]) -> Figures {
        Figures {
            latency: Percentiles { count: 1_000, p99_us: latency, ..Percentiles::default() },
            lag: Percentiles { p99_us: lag, ..Percentiles::default() },
            errors_by_kind: errors.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect(),
            ..base()
        }
    }

    fn evidence(figures: &Figures) -> Evidence<'_> {
        Evidence {
            figures,
            has_good_response: true,
            due_in_time: 1.0,
            max_in_flight: 64,
            own_limit: None,
            accepted_lag: Duration::from_millis(1),
            interrupted: false,
            is_development: false,
        }
    }

    #[test]
    fn accepts_a_harness_that_keeps_up() {
        for (lag, latency) in [(900.0, 950.0), (5_000.0, 80_000.0)] {
            let figures = figures(lag, latency, &[]);
            let verdict = judge(&evidence(&figures));
            assert!(verdict.valid && verdict.as_expected, "{verdict:?}");
        }
    }

    #[test]
    fn rejects_a_harness_that_falls_behind_and_says_what_to_do() {
        let figures = figures(5_000.0, 9_000.0, &[]);
        let late = judge(&evidence(&figures));
        assert!(!late.valid && late.as_expected);
        assert!(late.reasons[0].contains("5.0 ms late, which is 56 %"), "{:?}", late.reasons);
        assert!(late.reasons[0].contains("lower --rate"), "{:?}", late.reasons);
        let development = judge(&Evidence { is_development: true, ..evidence(&figures) });
        assert!(
            development.reasons[0].contains("use a release build"),
            "{:?}",
            development.reasons
        );
        let accepted = Evidence { accepted_lag: Duration::from_millis(5), ..evidence(&figures) };
        assert!(judge(&accepted).valid);
        let slow = judge(&Evidence { due_in_time: 0.97, ..accepted });
        assert!(!slow.valid && slow.reasons[0].contains("97.0 %"), "{:?}", slow.reasons);
    }

    #[test]
    fn rejects_more_than_a_small_share_of_unsent_requests() {
        for (unsent, valid) in [(1, true), (2, false)] {
            let figures = figures(10.0, 900.0, &[("overflow", unsent)]);
            let verdict = judge(&evidence(&figures));
            assert_eq!((verdict.valid, verdict.as_expected), (valid, true), "{verdict:?}");
        }
    }

    #[test]
    fn does_not_blame_its_own_limits_on_the_server() {
        let figures = figures(10.0, 900.0, &[("harness", 1)]);
        let verdict = judge(&Evidence { own_limit: Some("no file handle"), ..evidence(&figures) });
        assert!(!verdict.valid && verdict.as_expected, "{verdict:?}");
        assert!(verdict.reasons[0].contains("no file handle"), "{:?}", verdict.reasons);
    }

    #[test]
    fn a_target_that_fails_does_not_make_the_harness_unfaithful() {
        let figures = figures(10.0, 900.0, &[("timeout", 6_000), ("status", 19)]);
        for interrupted in [false, true] {
            let evidence = Evidence { has_good_response: false, interrupted, ..evidence(&figures) };
            let verdict = judge(&evidence);
            assert!(verdict.valid && !verdict.as_expected);
            assert!(verdict.findings[0].contains("none of 1000 requests"), "{verdict:?}");
            assert!(verdict.findings[1].contains("6019 of"), "{verdict:?}");
            assert_eq!(
                verdict.reasons.iter().any(|reason| reason.contains("interrupted")),
                interrupted
            );
        }
    }
}
