//! Decides whether a run's figures describe the server, or only the harness. Pure.

use std::time::Duration;

use crate::report::{Figures, Verdict};

/// The least share of its schedule that the harness has to send in time. Below it, the load is not the
/// one that the scenario names.
pub const ACHIEVED_SHARE: f64 = 0.99;
/// The largest share of the latency that may be the harness' own lag, at the 99th percentile.
pub const LAG_SHARE: f64 = 0.2;

/// Judges whether a run is valid. Without `good_responses`, it measured how fast a server refuses. Latency counts
/// from the intended time and so includes the lag. A lag (99th percentile) of up to `accepted_lag` is always
/// accepted; a longer one only if it is a small part of the latency.
pub fn judge(
    figures: &Figures,
    good_responses: u64,
    accepted_lag: Duration,
    interrupted: bool,
) -> Verdict {
    let mut reasons = Vec::new();
    if good_responses == 0 {
        reasons.push(format!(
            "none of {} requests got a good response: look at the statuses, and whether the tracker knows the scenario's programs",
            figures.due
        ));
    }
    if figures.achieved_share < ACHIEVED_SHARE && !interrupted {
        reasons.push(format!(
            "the harness was the bottleneck: it sent {:.1} % of its schedule in time; a valid run needs at least {:.0} %",
            figures.achieved_share * 100.0,
            ACHIEVED_SHARE * 100.0
        ));
    }
    let (lag, latency) = (figures.lag.p99_us, figures.latency.p99_us);
    let accepted_ms = accepted_lag.as_secs_f64() * 1_000.0;
    if lag > accepted_ms * 1_000.0 && lag > LAG_SHARE * latency {
        reasons.push(format!(
            "the harness was the bottleneck: at the 99th percentile it sent {:.1} ms late, which is {:.0} % of the latency measured ({:.1} ms); up to {:.0} ms, or {:.0} %, are accepted",
            lag / 1_000.0,
            lag / latency.max(1.0) * 100.0,
            latency / 1_000.0,
            accepted_ms,
            LAG_SHARE * 100.0
        ));
    }
    let valid = reasons.is_empty();
    if interrupted {
        reasons.push("the run was interrupted: the figures cover the part that ran".to_owned());
    }
    Verdict { valid, reasons }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Percentiles;

    const ACCEPTED: Duration = Duration::from_millis(1);

    fn figures(achieved_share: f64, lag: f64, latency: f64) -> Figures {
        Figures {
            due: 1,
            scheduled: 1,
            answered: 1,
            errors: 0,
            error_share: 0.0,
            errors_by_kind: std::collections::BTreeMap::new(),
            scheduled_rate: 1.0,
            achieved_rate: 1.0,
            achieved_share,
            latency: Percentiles { p99_us: latency, ..Percentiles::default() },
            lag: Percentiles { p99_us: lag, ..Percentiles::default() },
            truth: None,
            core_data: None,
            tracker: None,
            harness_cpu_per_request_us: 0.0,
        }
    }

    #[test]
    fn accepts_a_harness_that_keeps_up() {
        assert!(judge(&figures(0.995, 900.0, 950.0), 1, ACCEPTED, false).valid, "little lag");
        assert!(
            judge(&figures(1.0, 5_000.0, 80_000.0), 1, ACCEPTED, false).valid,
            "small compared with the latency"
        );
    }

    #[test]
    fn rejects_a_harness_that_falls_behind() {
        let late = judge(&figures(1.0, 5_000.0, 9_000.0), 1, ACCEPTED, false);
        assert!(!late.valid);
        assert!(late.reasons[0].contains("5.0 ms late, which is 56 %"), "{:?}", late.reasons);
        assert!(judge(&figures(1.0, 5_000.0, 9_000.0), 1, 5 * ACCEPTED, false).valid);
        let slow = judge(&figures(0.97, 10.0, 900.0), 1, ACCEPTED, false);
        assert!(!slow.valid && slow.reasons[0].contains("97.0 %"), "{:?}", slow.reasons);
    }

    #[test]
    fn rejects_a_run_without_a_good_response() {
        for interrupted in [false, true] {
            let verdict = judge(&figures(1.0, 0.0, 900.0), 0, ACCEPTED, interrupted);
            assert!(!verdict.valid);
            assert!(verdict.reasons[0].contains("none of 1 requests"), "{:?}", verdict.reasons);
        }
    }

    #[test]
    fn reports_an_interruption() {
        let verdict = judge(&figures(0.5, 10.0, 900.0), 1, ACCEPTED, true);
        assert!(verdict.valid);
        assert!(verdict.reasons[0].contains("interrupted"));
    }
}
