//! L1 in whatever order reads, updates and subscriptions come.

use super::*;

const CAPACITY: u64 = 100;

fn id() -> ProgramId {
    ProgramId::parse("p").unwrap()
}

fn numbered(number: u64) -> ProgramId {
    ProgramId::parse(&format!("p{number}")).unwrap()
}

fn local() -> LocalPrograms {
    LocalPrograms::new(CacheLimits {
        capacity: CAPACITY,
        ttl: Duration::from_secs(600),
        negative_ttl: Duration::from_secs(30),
        stale: Duration::from_secs(60),
    })
}

/// As it is once its subscription was verified.
fn verified() -> LocalPrograms {
    let local = local();
    local.subscribed();
    local.verified();
    local
}

fn program(version: &str, name: &str) -> Known {
    let json = format!(
        r#"{{"programId":"p","programName":"{name}","checksum":"1","customerId":1,
        "customerName":"c","valid":true,"version":"{version}"}}"#
    );
    Known::of(Update::from_json(json.as_bytes()).unwrap())
}

fn deleted(version: &str) -> Known {
    Known::Deleted(version.parse().unwrap())
}

fn name(known: &Known) -> String {
    match known {
        Known::Program(program) => program.event_fields.to_event().program_name,
        Known::Deleted(version) => format!("deleted at {version}"),
        Known::Absent => "absent".to_owned(),
    }
}

fn held(local: &LocalPrograms) -> String {
    local.get(&id()).map_or("nothing".to_owned(), |cached| name(&cached.known))
}

/// A whole read of Redis.
fn load(local: &LocalPrograms, known: Known) -> String {
    finish(local.begin_load(id()), known)
}

fn finish(load: LoadGuard, known: Known) -> String {
    match load.finish(known) {
        Loaded::Known(known) => name(&known),
        Loaded::Outdated => "outdated".to_owned(),
    }
}

/// Full of other programs.
fn full() -> LocalPrograms {
    let local = verified();
    for number in 0..CAPACITY {
        let load = local.begin_load(numbered(number));
        assert!(matches!(load.finish(program("0.1", "other")), Loaded::Known(_)));
    }
    local.inner.programs.run_pending_tasks();
    local
}

#[test]
fn the_newest_version_stays_in_whatever_order_they_come() {
    let local = verified();
    assert_eq!(local.push(id(), program("0.9", "nine")), Pushed::Applied);
    assert_eq!(local.push(id(), program("0.8", "eight")), Pushed::Older);
    assert_eq!(load(&local, program("0.8", "eight")), "nine");
    assert_eq!(local.push(id(), program("0.9", "nine again")), Pushed::Applied, "a retry");
    assert_eq!(held(&local), "nine again");
    assert_eq!(load(&local, program("0.10", "ten")), "ten");
    assert_eq!(held(&local), "ten");
}

#[test]
fn a_deletion_is_an_update() {
    let local = verified();
    local.push(id(), program("0.1", "one"));
    local.push(id(), deleted("0.2"));
    assert_eq!(held(&local), "deleted at 0.2");
    assert_eq!(load(&local, program("0.1", "one")), "deleted at 0.2", "nothing is resurrected");
    local.push(id(), program("0.3", "three"));
    assert_eq!(held(&local), "three");
}

#[test]
fn absence_is_replaced_by_anything_and_replaces_nothing() {
    let local = verified();
    assert_eq!(load(&local, Known::Absent), "absent");
    local.push(id(), program("0.0", "sample"));
    assert_eq!(held(&local), "sample");
    assert_eq!(load(&local, Known::Absent), "sample");
}

#[test]
fn a_load_never_beats_an_update() {
    for local in [verified(), full()] {
        // Redis was read, and its answer is on the way, when the update comes.
        let load = local.begin_load(id());
        local.push(id(), program("0.2", "new"));
        local.push(id(), program("0.1", "in between"));
        assert_eq!(finish(load, program("0.0", "old")), "new");
        assert_eq!(held(&local), "new");
    }
}

#[test]
fn an_announcement_is_not_lost_to_a_load_that_found_nothing() {
    for local in [verified(), full()] {
        let load = local.begin_load(id());
        local.push(id(), program("0.1", "announced"));
        assert_eq!(finish(load, Known::Absent), "announced");
        assert_eq!(held(&local), "announced");
    }
}

#[test]
fn two_loads_of_one_program_both_take_the_update_along() {
    let local = full();
    let (first, second) = (local.begin_load(id()), local.begin_load(id()));
    local.push(id(), program("0.2", "new"));
    assert_eq!(finish(first, program("0.1", "old")), "new");
    // Evicted meanwhile.
    local.inner.programs.invalidate(&id());
    assert_eq!(finish(second, program("0.1", "old")), "new");
    assert!(local.inner.loads().is_empty());
}

#[test]
fn a_load_that_is_given_up_leaves_nothing_behind() {
    let local = verified();
    drop(local.begin_load(id()));
    assert!(local.inner.loads().is_empty());
}

#[test]
fn a_load_from_before_the_subscription_is_read_again() {
    let local = local();
    let load = local.begin_load(id());
    // What was published between the read and the subscription, nobody heard.
    local.subscribed();
    assert_eq!(finish(load, program("0.1", "old")), "outdated");
    assert_eq!(held(&local), "nothing");
    assert_eq!(finish(local.begin_load(id()), program("0.2", "new")), "new");
}

#[test]
fn what_was_held_before_the_subscription_is_fresh_once_verified() {
    let local = local();
    let fresh = |local: &LocalPrograms| local.get_fresh(&id()).is_some();
    load(&local, program("0.1", "n"));
    assert!(fresh(&local), "read just now");
    let cached = local.get(&id()).unwrap();
    assert!(!local.is_fresh(&cached, Instant::now() + UNSUBSCRIBED_TTL), "nobody pushes");
    local.subscribed();
    assert!(!fresh(&local), "perhaps a change was missed");
    assert_eq!(local.versions(), [(id(), "0.1".parse().unwrap())], "to be verified");
    load(&local, program("0.1", "n"));
    assert!(fresh(&local), "asked for before its turn");
    local.unsubscribed();
    local.subscribed();
    assert!(!fresh(&local));
    local.verified();
    assert!(fresh(&local));
    assert!(local.is_fresh(&cached, cached.at + Duration::from_secs(599)));
}

#[test]
fn unknown_ids_are_forgotten_by_a_subscription() {
    let local = verified();
    load(&local, Known::Absent);
    assert!(local.get_fresh(&id()).is_some());
    local.subscribed();
    assert!(local.get_fresh(&id()).is_none());
}

#[test]
fn entries_are_fresh_for_their_time() {
    let local = verified();
    let age = |known: Known, seconds| {
        let at = Instant::now();
        local.is_fresh(&Cached { known, at }, at + Duration::from_secs(seconds))
    };
    assert!(age(program("0.1", "n"), 599) && !age(program("0.1", "n"), 600));
    assert!(age(deleted("0.1"), 599) && !age(deleted("0.1"), 600));
    assert!(age(Known::Absent, 29) && !age(Known::Absent, 30));
}

#[test]
fn neither_unknown_ids_nor_a_bulk_feed_evict_what_is_asked_for() {
    let local = full();
    for number in 1_000..20_000 {
        let load = local.begin_load(numbered(number));
        assert!(matches!(load.finish(Known::Absent), Loaded::Known(Known::Absent)));
        assert_eq!(local.push(numbered(number), program("0.1", "bulk")), Pushed::NotHeld);
    }
    local.inner.programs.run_pending_tasks();
    for number in 0..CAPACITY {
        assert!(local.get(&numbered(number)).is_some(), "{number}");
    }
    assert_eq!(local.push(numbered(0), program("0.2", "held")), Pushed::Applied);
}

#[test]
fn below_capacity_a_push_enters() {
    let local = verified();
    for number in 0..CAPACITY {
        local.push(numbered(number), program("0.1", "bulk"));
        local.inner.programs.run_pending_tasks();
    }
    assert_eq!(local.len(), CAPACITY * 9 / 10);
}
