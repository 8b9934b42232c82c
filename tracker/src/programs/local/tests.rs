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
    local_with_ttl(Duration::from_secs(600))
}

fn local_with_ttl(ttl: Duration) -> LocalPrograms {
    LocalPrograms::new(CacheLimits {
        capacity: CAPACITY,
        ttl,
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
        LoadOutcome::Current(state) | LoadOutcome::Contradicted(state, _) => name(&state),
        LoadOutcome::Outdated => "outdated".to_owned(),
    }
}

/// A read of Redis that finds an older version than L1 holds: what L1 holds then, and what it does about it.
fn contradict(local: &LocalPrograms, state: ProgramState) -> (String, Stage) {
    match local.begin_load(id()).finish(state) {
        LoadOutcome::Contradicted(state, contradiction) => (name(&state), contradiction.stage),
        outcome => panic!("{outcome:?}"),
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
fn takes_an_older_version_if_redis_keeps_to_it() {
    // The TTL bounds how long Redis has to.
    let local = local_with_ttl(Duration::from_millis(200));
    local.on_subscribed();
    local.on_verified();
    local.push(id(), program("0.9", "forged"));
    let kept = || "forged".to_owned();
    assert_eq!(contradict(&local, program("0.5", "true")), (kept(), Stage::New));
    assert_eq!(contradict(&local, program("0.5", "true")), (kept(), Stage::Known));
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(contradict(&local, program("0.6", "true")), (kept(), Stage::New), "it has changed");
    std::thread::sleep(Duration::from_millis(250));
    let taken = contradict(&local, program("0.6", "true"));
    assert_eq!(taken, ("true".to_owned(), Stage::Resolved));
    assert_eq!(held(&local), "true");
    local.push(id(), program("0.7", "next"));
    assert_eq!(held(&local), "next", "updates go on");
}

#[test]
fn asks_redis_again_as_soon_as_it_may_have_kept_to_an_older_version() {
    let local = verified_local();
    local.push(id(), program("0.9", "nine"));
    contradict(&local, program("0.5", "five"));
    let cached = local.get_fresh(&id()).expect("it is served meanwhile");
    let after = |seconds| local.is_fresh(&cached, Instant::now() + Duration::from_secs(seconds));
    assert!(after(58) && !after(61));
}

#[test]
fn asks_redis_after_an_update_that_is_older() {
    let local = verified_local();
    local.push(id(), program("0.9", "forged"));
    assert_eq!(local.push(id(), program("0.5", "true")), PushOutcome::Older);
    assert!(local.get_fresh(&id()).is_none());
    assert_eq!(held(&local), "forged", "if Redis is unavailable");
}

#[test]
fn contradiction_ends_when_redis_has_the_version_again() {
    let local = local_with_ttl(Duration::from_millis(100));
    local.push(id(), program("0.9", "nine"));
    contradict(&local, program("0.8", "eight"));
    // A failover to a replica that lacks an update, which is then stored again.
    assert_eq!(load(&local, program("0.9", "nine")), "nine");
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(load(&local, program("0.10", "ten")), "ten");
    assert_eq!(held(&local), "ten");
}

#[test]
fn impossible_version_never_stands_in_the_way() {
    let impossible = format!("0.{}", "9".repeat(56));
    let local = verified_local();
    assert_eq!(load(&local, program(&impossible, "forged")), "forged", "there is nothing else");
    assert_eq!(local.push(id(), program("0.5", "true")), PushOutcome::Applied);
    assert_eq!(held(&local), "true");
    assert_eq!(local.push(id(), program(&impossible, "forged")), PushOutcome::Older);
    assert_eq!(contradict(&local, program(&impossible, "forged")).0, "true");
    let local = verified_local();
    load(&local, deleted(&impossible));
    assert_eq!(load(&local, program("0.5", "true")), "true");
}

#[test]
fn doubts_epochs_that_redis_has_not_shown() {
    let local = verified_local();
    let is_doubtful = |version: &str| local.is_doubtful(&version.parse().unwrap());
    assert!(!is_doubtful("0.7") && is_doubtful("1.7"));
    local.push(id(), program("9.1", "pushed"));
    assert!(is_doubtful("9.1"), "a message proves nothing");
    let load = local.begin_load(numbered_id(1));
    load.finish(program("2.1", "stored"));
    assert!(!is_doubtful("2.7") && is_doubtful("3.1"));
    assert!(is_doubtful(&format!("0.{}", "9".repeat(56))));
}

#[test]
fn holds_what_is_about_to_be_loaded() {
    let local = verified_local();
    assert!(!local.holds(&id()));
    let load = local.begin_load(id());
    assert!(local.holds(&id()));
    finish(load, ProgramState::Absent);
    assert!(!local.holds(&id()) && local.get(&id()).is_none(), "an unknown id is forgotten");
    local.push(id(), program("0.1", "held"));
    assert!(local.holds(&id()));
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
