//! Journeys against the log of a server that knows which events it issued.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::reference::harness::{NONE, Outcome, run, scenario};
use crate::reference::{Act, Reference, response};

const STEPS: &str = r#"
[[endpoint]]
name = "view"
path = "/view/{programId}?v={visitor}"
headers = ["X-Forwarded-For: {address}"]

[[endpoint]]
name = "click"
path = "/click/{programId}?impression_id={view.id}&v={visitor}"
headers = ["X-Forwarded-For: {address}"]
expect = [302]
after = "view"
probability = 0.5
delay = "100ms"

[[endpoint]]
name = "buy"
path = "/buy/{programId}?click_id={click.id}&v={visitor}&t={random}"
after = "click"
probability = 0.6
delay = "50ms"
repeat = 0.4
"#;

/// An id that follows from the number of the event.
fn id(number: u64) -> String {
    uuid::Uuid::from_u128((7 << 76) | (2 << 62) | u128::from(number + 1)).to_string()
}

/// The value of a parameter in a path.
fn value<'a>(path: &'a str, name: &str) -> &'a str {
    let pair = path.split(['?', '&']).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    pair.unwrap_or_default()
}

/// A server that gives each path an id, the same each time unless `forgets`. Returns the outcome, the server, and the
/// ids by path.
fn run_journeys(forgets: bool) -> (Outcome, Vec<String>, HashMap<String, String>) {
    let issued = Arc::new(Mutex::new(HashMap::<String, String>::new()));
    let issuing = Arc::clone(&issued);
    let server = Reference::start(move |request| {
        let path = request.path;
        let new = id(u64::try_from(request.number).unwrap());
        let mut issued = issuing.lock().unwrap();
        let first = issued.entry(path.to_owned()).or_insert_with(|| new.clone()).clone();
        let id = if forgets { new } else { first };
        let bytes = if path.starts_with("/click") {
            response(302, &format!("Location: /page?click_id={id}\r\n"), "")
        } else if path.starts_with("/buy") {
            response(200, "", &format!(r#"{{"messageId":"{id}"}}"#))
        } else {
            response(200, &format!("Adtrack-Event-Id: {id}\r\n"), "GIF89a")
        };
        Act::Send(Duration::ZERO, vec![bytes])
    });
    let outcome = run(&[server.address], None, &scenario(200, "2s", STEPS));
    let paths = server.log().into_iter().map(|logged| logged.path).collect();
    let issued = issued.lock().unwrap().clone();
    (outcome, paths, issued)
}

#[test]
fn each_step_carries_the_ids_of_the_visitors_own_events() {
    let (outcome, paths, issued) = run_journeys(false);
    let of = |prefix: &str| -> Vec<&String> {
        paths.iter().filter(|path| path.starts_with(prefix)).collect()
    };
    let (views, clicks, buys) = (of("/view"), of("/click"), of("/buy"));
    assert_eq!(outcome.failures(), NONE);
    assert_eq!(views.len(), 400, "one for each request of the schedule");
    // Binomial: 400 × 0.5 ± 50, of these × 0.6 ± 40.
    assert!((150..=250).contains(&clicks.len()), "{}", clicks.len());
    let different: HashSet<&String> = buys.iter().copied().collect();
    let repeats = buys.len() - different.len();
    let share = different.len() as f64 / clicks.len() as f64;
    assert!((0.4..0.8).contains(&share), "{share}");
    assert!((0.2..0.6).contains(&(repeats as f64 / different.len() as f64)), "{repeats}");

    // The visitor of each id, by the server's log.
    let visitor_of: HashMap<&str, &str> =
        issued.iter().map(|(path, id)| (id.as_str(), value(path, "v"))).collect();
    for (paths, link) in [(&clicks, "impression_id"), (&buys, "click_id")] {
        for path in paths {
            assert_eq!(visitor_of.get(value(path, link)), Some(&value(path, "v")), "{path}");
        }
    }
    let program = |path: &str| path.split(['/', '?']).nth(2).unwrap().to_owned();
    let program_of: HashMap<&str, String> =
        views.iter().map(|path| (value(path, "v"), program(path))).collect();
    assert!(clicks.iter().chain(&buys).all(|path| program_of[value(path, "v")] == program(path)));

    let totals = &outcome.totals;
    let follow_ups = clicks.len() + buys.len();
    assert_eq!((totals.follow_ups, totals.repeats), (follow_ups as u64, repeats as u64));
    assert_eq!((totals.due, totals.sent), (paths.len() as u64, paths.len() as u64));
    assert_eq!(totals.differing_repeats, 0);
    assert_eq!(outcome.slices.iter().map(|slice| slice.sent).sum::<u64>(), 400);
    assert_eq!(outcome.slices.iter().map(|slice| slice.follow_ups).sum::<u64>(), follow_ups as u64);

    // Each event is accepted once, and is to be linked to the one that led to it.
    let events = views.len() + clicks.len() + different.len();
    assert_eq!((outcome.accepted.len(), totals.accepted_events), (events, events as u64));
    let number = |id: &str| uuid::Uuid::parse_str(id).map_or(0, |id| id.as_u128());
    let links: HashMap<u128, u128> = issued
        .iter()
        .map(|(path, id)| {
            let link = [value(path, "click_id"), value(path, "impression_id")].map(number);
            (number(id), link[0].max(link[1]))
        })
        .collect();
    for event in &outcome.accepted {
        assert_eq!(links.get(&event.id), Some(&event.link));
    }
}

#[test]
fn a_server_that_forgets_repeats_is_found_out() {
    let (outcome, paths, _) = run_journeys(true);
    let buys: Vec<&String> = paths.iter().filter(|path| path.starts_with("/buy")).collect();
    let repeats = buys.len() - buys.iter().collect::<HashSet<_>>().len();
    assert!(repeats > 0);
    assert_eq!(outcome.totals.repeats, repeats as u64);
    assert_eq!(outcome.totals.differing_repeats, repeats as u64);
}
