//! L1 with reads, updates and subscriptions in every order.

use super::*;

const CAPACITY: u64 = 100;

fn id() -> ProgramId {
    ProgramId::parse("p").unwrap()
}

fn numbered_id(number: u64) -> ProgramId {
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

/// L1 once its subscription is verified.
fn verified_local() -> LocalPrograms {
    let local = local();
    local.on_subscribed();
    local.on_verified();
    local
}

fn program(version: &str, name: &str) -> ProgramState {
    let json = format!(
        r#"{{"programId":"p","programName":"{name}","checksum":"1","customerId":1,
        "customerName":"c","valid":true,"version":"{version}"}}"#
    );
    ProgramState::of(Update::from_json(json.as_bytes()).unwrap())
}

fn deleted(version: &str) -> ProgramState {
    ProgramState::Deleted(version.parse().unwrap())
}

fn name(state: &ProgramState) -> String {
    match state {
        ProgramState::Program(program) => program.event_fields.to_event().program_name,
        ProgramState::Deleted(version) => format!("deleted at {version}"),
        ProgramState::Absent => "absent".to_owned(),
    }
}

fn held(local: &LocalPrograms) -> String {
    local.get(&id()).map_or("nothing".to_owned(), |cached| name(&cached.state))
}

/// A complete read of Redis.
fn load(local: &LocalPrograms, state: ProgramState) -> String {
    finish(local.begin_load(id()), state)
}

fn finish(load: LoadGuard, state: ProgramState) -> String {
    match load.finish(state) {
        LoadOutcome::Current(state) => name(&state),
        LoadOutcome::Outdated => "outdated".to_owned(),
    }
}

/// L1, full of other programs.
fn full_local() -> LocalPrograms {
    let local = verified_local();
    for number in 0..CAPACITY {
        let load = local.begin_load(numbered_id(number));
        assert!(matches!(load.finish(program("0.1", "other")), LoadOutcome::Current(_)));
    }
    local.inner.programs.run_pending_tasks();
    local
}

#[test]
fn keeps_the_newest_version_in_every_order() {
    let local = verified_local();
    assert_eq!(local.push(id(), program("0.9", "nine")), PushOutcome::Applied);
    assert_eq!(local.push(id(), program("0.8", "eight")), PushOutcome::Older);
    assert_eq!(load(&local, program("0.8", "eight")), "nine");
    assert_eq!(local.push(id(), program("0.9", "nine again")), PushOutcome::Applied, "a retry");
    assert_eq!(held(&local), "nine again");
    assert_eq!(load(&local, program("0.10", "ten")), "ten");
    assert_eq!(held(&local), "ten");
}

#[test]
fn applies_deletions_as_updates() {
    let local = verified_local();
    local.push(id(), program("0.1", "one"));
    local.push(id(), deleted("0.2"));
    assert_eq!(held(&local), "deleted at 0.2");
    assert_eq!(load(&local, program("0.1", "one")), "deleted at 0.2", "nothing is resurrected");
    local.push(id(), program("0.3", "three"));
    assert_eq!(held(&local), "three");
}

#[test]
fn replaces_absence_by_anything_and_nothing_by_absence() {
    let local = verified_local();
    assert_eq!(load(&local, ProgramState::Absent), "absent");
    local.push(id(), program("0.0", "sample"));
    assert_eq!(held(&local), "sample");
    assert_eq!(load(&local, ProgramState::Absent), "sample");
}

#[test]
fn keeps_an_update_pushed_during_a_load() {
    for local in [verified_local(), full_local()] {
        // The update arrives after Redis was read and before its reply arrives.
        let load = local.begin_load(id());
        local.push(id(), program("0.2", "new"));
        local.push(id(), program("0.1", "in between"));
        assert_eq!(finish(load, program("0.0", "old")), "new");
        assert_eq!(held(&local), "new");
    }
}

#[test]
fn keeps_an_update_pushed_during_a_load_that_finds_nothing() {
    for local in [verified_local(), full_local()] {
        let load = local.begin_load(id());
        local.push(id(), program("0.1", "announced"));
        assert_eq!(finish(load, ProgramState::Absent), "announced");
        assert_eq!(held(&local), "announced");
    }
}

#[test]
fn hands_an_update_to_all_loads_of_its_program() {
    let local = full_local();
    let (first, second) = (local.begin_load(id()), local.begin_load(id()));
    local.push(id(), program("0.2", "new"));
    assert_eq!(finish(first, program("0.1", "old")), "new");
    // As if it were evicted meanwhile.
    local.inner.programs.invalidate(&id());
    assert_eq!(finish(second, program("0.1", "old")), "new");
    assert!(local.inner.loads().is_empty());
}

#[test]
fn forgets_a_cancelled_load() {
    let local = verified_local();
    drop(local.begin_load(id()));
    assert!(local.inner.loads().is_empty());
}

#[test]
fn reports_a_load_from_before_the_subscription_as_outdated() {
    let local = local();
    let load = local.begin_load(id());
    // An update published between the read and the subscription would be missed.
    local.on_subscribed();
    assert_eq!(finish(load, program("0.1", "old")), "outdated");
    assert_eq!(held(&local), "nothing");
    assert_eq!(finish(local.begin_load(id()), program("0.2", "new")), "new");
}

#[test]
fn trusts_older_entries_once_they_are_verified() {
    let local = local();
    let fresh = |local: &LocalPrograms| local.get_fresh(&id()).is_some();
    load(&local, program("0.1", "n"));
    assert!(fresh(&local), "read just now");
    let cached = local.get(&id()).unwrap();
    assert!(!local.is_fresh(&cached, Instant::now() + UNSUBSCRIBED_TTL), "no updates are pushed");
    local.on_subscribed();
    assert!(!fresh(&local), "a change may have been missed");
    assert_eq!(local.versions(), [(id(), "0.1".parse().unwrap())], "to be verified");
    load(&local, program("0.1", "n"));
    assert!(fresh(&local), "read before it is verified");
    local.on_unsubscribed();
    local.on_subscribed();
    assert!(!fresh(&local));
    local.on_verified();
    assert!(fresh(&local));
    assert!(local.is_fresh(&cached, cached.at + Duration::from_secs(599)));
}

#[test]
fn forgets_unknown_ids_on_subscription() {
    let local = verified_local();
    load(&local, ProgramState::Absent);
    assert!(local.get_fresh(&id()).is_some());
    local.on_subscribed();
    assert!(local.get_fresh(&id()).is_none());
}

#[test]
fn expires_entries_after_their_ttl() {
    let local = verified_local();
    let age = |state: ProgramState, seconds| {
        let at = Instant::now();
        local.is_fresh(&CacheEntry { state, at }, at + Duration::from_secs(seconds))
    };
    assert!(age(program("0.1", "n"), 599) && !age(program("0.1", "n"), 600));
    assert!(age(deleted("0.1"), 599) && !age(deleted("0.1"), 600));
    assert!(age(ProgramState::Absent, 29) && !age(ProgramState::Absent, 30));
}

#[test]
fn never_evicts_programs_for_unknown_ids_or_a_bulk_feed() {
    let local = full_local();
    for number in 1_000..20_000 {
        let load = local.begin_load(numbered_id(number));
        assert!(matches!(
            load.finish(ProgramState::Absent),
            LoadOutcome::Current(ProgramState::Absent)
        ));
        assert_eq!(local.push(numbered_id(number), program("0.1", "bulk")), PushOutcome::NotHeld);
    }
    local.inner.programs.run_pending_tasks();
    for number in 0..CAPACITY {
        assert!(local.get(&numbered_id(number)).is_some(), "{number}");
    }
    assert_eq!(local.push(numbered_id(0), program("0.2", "held")), PushOutcome::Applied);
}

#[test]
fn takes_pushed_programs_while_there_is_room() {
    let local = verified_local();
    for number in 0..CAPACITY {
        local.push(numbered_id(number), program("0.1", "bulk"));
        local.inner.programs.run_pending_tasks();
    }
    assert_eq!(local.len(), CAPACITY * 9 / 10);
}

#[test]
fn goes_on_counting_requests_when_a_program_is_replaced() {
    let local = verified_local();
    let count = || local.request_count(&id());
    assert_eq!(count(), None);
    local.push(id(), program("0.1", "old"));
    let held = || local.get(&id()).unwrap().state.program().unwrap();
    held().requests.count_conversion();
    let load = local.begin_load(id());
    local.push(id(), program("0.2", "new"));
    held().requests.count_sampled_event();
    // A load that finds what was pushed replaces it by itself.
    load.finish(program("0.1", "old"));
    let expected = RequestCount { events: 16, conversions: 1 };
    assert_eq!(count(), Some(expected));
    let reload = local.begin_load(id());
    reload.finish(program("0.2", "new"));
    assert_eq!(count(), Some(expected));
}
