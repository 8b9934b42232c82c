//! Signals to a tracker that runs as a process of its own.

use rustix::process::Signal;
use serde_json::Value;

use crate::helpers::until;
use crate::tracker_process::{Process, Surroundings};

#[tokio::test(flavor = "multi_thread")]
async fn signals_drain_it_or_are_ignored() {
    let surroundings = Surroundings::start().await;
    let mut waiting = 0;
    for signal in [Signal::QUIT, Signal::TERM, Signal::HUP, Signal::INT] {
        let mut tracker = Process::start(&surroundings).await;
        for ignored in [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::XFSZ, Signal::PROF] {
            let before = tracker.log_lines("ignored a signal");
            for _ in 0..3 {
                tracker.signal(ignored);
            }
            until("it is said", async || tracker.log_lines("ignored a signal") == before + 1).await;
        }
        waiting += tracker.send_many(10).await.len();
        tracker.signal(signal);
        let status = tracker.child.wait().unwrap();
        assert!(status.success(), "{signal:?}: {status}");
        let name = format!("SIG{}", ["QUIT", "TERM", "HUP", "INT"][(waiting / 10) - 1]);
        let requested = tracker.log_line("shutdown requested").unwrap();
        assert!(requested.contains(&name), "{requested}");
        // Nothing follows on what is left.
        until("the log is complete", async || {
            let log = tracker.log.lock().unwrap();
            let last: Value = serde_json::from_str(log.last().unwrap()).unwrap();
            last["events"] == waiting
                && last["folder"] == surroundings.journal().to_str().unwrap()
                && last["message"].as_str().unwrap().starts_with("not drained in time")
        })
        .await;
    }
}
