//! The limiter against an exact model, and against clients that try to get around it.

use std::collections::HashMap;
use std::thread;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limiter(text: &str) -> RateLimiter {
    RateLimiter::new(text.parse().unwrap())
}

/// A hash with this set and tag.
fn hash(set: usize, tag: u16) -> u64 {
    u64::from(tag) << TIME_BITS | set as u64
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn count_admitted(limiter: &RateLimiter, hash: u64, now: Duration, requests: usize) -> usize {
    (0..requests).filter(|_| limiter.admits_hash(hash, now)).count()
}

/// Textbook token buckets in an unbounded table. A bucket holds time, and a request costs one interval.
struct Model {
    interval: u128,
    capacity: u128,
    /// What each bucket held, and when.
    buckets: HashMap<u64, (u128, u128)>,
}

impl Model {
    fn new(rate: u32, burst: u32) -> Self {
        let interval = u128::from(1_000_000 / rate);
        Self { interval, capacity: interval * u128::from(burst), buckets: HashMap::new() }
    }

    fn admits(&mut self, client: u64, now: Duration) -> bool {
        let now = now.as_micros();
        let (held, at) = self.buckets.get(&client).copied().unwrap_or((self.capacity, now));
        let held = self.capacity.min(held + (now - at));
        let is_admitted = held >= self.interval;
        let left = if is_admitted { held - self.interval } else { held };
        self.buckets.insert(client, (left, now));
        is_admitted
    }
}

#[test]
fn parses_rates_and_bursts() {
    for (text, per_second, burst) in
        [("50/200", 50, 200), ("50", 50, 50), ("1/1", 1, 1), ("10000/100000", 10_000, 100_000)]
    {
        assert_eq!(text.parse(), Ok(RateLimit { per_second, burst }), "{text}");
    }
    for text in
        ["", "0", "50/0", "0/50", "-1", "1.5", "50/", "/50", "50/200/1", " 50", "10001", "1/100001"]
    {
        assert!(
            text.parse::<RateLimit>().unwrap_err().to_string().contains("such as 50/200"),
            "{text}"
        );
    }
}

#[test]
fn admits_a_burst_and_then_the_rate() {
    let limiter = limiter("50/200");
    let client = address("203.0.113.7");
    let admitted = |now| (0..1_000).filter(|_| limiter.admits(client, now)).count();
    assert_eq!(admitted(SECOND), 200);
    assert_eq!(admitted(2 * SECOND), 50);
    assert_eq!(admitted(2 * SECOND + Duration::from_millis(20)), 1);
    assert_eq!(admitted(7 * SECOND), 200);
}

#[test]
fn admits_a_refused_request_a_second_later() {
    for rate in ["1/1", "1/100", "3/1", "7/20", "9999/3", "10000/100000"] {
        let (limiter, hash) = (limiter(rate), hash(0, 1));
        while limiter.admits_hash(hash, SECOND) {}
        assert!(limiter.admits_hash(hash, 2 * SECOND), "{rate}");
    }
}

/// A thread that read the clock, and then lost the processor for longer than a bucket takes to fill.
#[test]
fn a_late_thread_empties_no_bucket() {
    let limiter = limiter("1000/100");
    let client = hash(3, 1);
    assert_eq!(count_admitted(&limiter, client, SECOND, 1_000), 100);
    for late in [1, 50, 101, 900] {
        assert!(!limiter.admits_hash(client, SECOND - Duration::from_millis(late)), "{late} ms");
    }
    assert_eq!(count_admitted(&limiter, client, SECOND, 1_000), 0);
}

#[test]
fn counts_ipv6_by_64_and_ipv4_by_address() {
    let limiter = limiter("1/1");
    for (first, second, is_same) in [
        ("2001:db8:1:1::1", "2001:db8:1:1:ffff:ffff:ffff:ffff", true),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ("203.0.113.1", "::ffff:203.0.113.1", true),
        ("203.0.113.2", "203.0.113.3", false),
        // What represents an IPv4 address inside must not be an IPv6 network of clients.
        ("0.0.0.1", "::1", false),
        ("203.0.113.4", "0:0:cb00:7104::", false),
    ] {
        assert!(limiter.admits(address(first), SECOND), "{first}");
        assert_eq!(!limiter.admits(address(second), SECOND), is_same, "{first} {second}");
    }
}

#[test]
fn keeps_an_entry_with_a_debt_from_others() {
    let limiter = limiter("1/10");
    let limited = hash(7, 1);
    assert_eq!(count_admitted(&limiter, limited, SECOND, 100), 10);

    // Half of these 160 are in the same set, ten times as many as it has entries.
    for tag in 2..162 {
        assert!(limiter.admits_hash(hash(7 + usize::from(tag % 2), tag), SECOND));
    }

    assert!(!limiter.admits_hash(limited, SECOND));
    assert_eq!(count_admitted(&limiter, limited, 4 * SECOND, 100), 3, "its debt is unchanged");
}

#[test]
fn admits_uncounted_addresses_while_their_set_is_full() {
    let limiter = limiter("1/1");
    for tag in 0..8 {
        assert!(limiter.admits_hash(hash(0, tag), SECOND));
    }
    assert_eq!(count_admitted(&limiter, hash(0, 8), SECOND, 100), 100);
    assert_eq!(count_admitted(&limiter, hash(0, 8), 2 * SECOND, 100), 1);
}

/// The owner of an IPv6 /32 has as many networks of size /64 as IPv4 has addresses.
#[test]
fn a_flood_from_an_ipv6_32_evicts_nobody_and_limits_nobody_else() {
    let limiter = limiter("50/200");
    let heavy = address("198.51.100.7");
    while limiter.admits(heavy, SECOND) {}

    // As many requests as a busy task gets in a second, at the worst moment.
    for network in 0..100_000_u128 {
        let flood = (0x2001_0db8 << 96) | (network << 64);
        limiter.admits(IpAddr::V6(flood.into()), SECOND);
    }

    assert!(!limiter.admits(heavy, SECOND));
    let innocent = (0..10_000_u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into()));
    let refused = innocent.filter(|innocent| !limiter.admits(*innocent, SECOND)).count();
    assert_eq!(refused, 0, "each of the flood has a debt of one request, which limits nobody");
}

#[test]
fn rarely_shares_a_bucket() {
    let limiter = limiter("1/1");
    let clients = 20_000_u32;
    let refused = (0..clients)
        .filter(|n| !limiter.admits(IpAddr::V4((0xcb00_0000 + n).into()), SECOND))
        .count();
    // 20,000 addresses have 2 · 10⁸ pairs, each with a chance of 2⁻³¹: the expected number is 0.1.
    assert!(refused <= 4, "{refused}");
}

#[test]
fn threads_admit_exactly_a_burst_for_each_address() {
    let limiter = limiter("10/1000");
    // Four in one set, and one elsewhere.
    let clients = [hash(3, 1), hash(3, 2), hash(3, 3), hash(3, 4), hash(4, 1)];
    let admit_all = || clients.map(|client| count_admitted(&limiter, client, SECOND, 5_000));
    let by_thread: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(admit_all)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for client in 0..clients.len() {
        let total: usize = by_thread.iter().map(|admitted| admitted[client]).sum();
        assert_eq!(total, 1_000);
    }
}

/// With a running clock, so that entries expire and are claimed meanwhile.
#[test]
fn threads_admit_no_more_than_the_rate_and_two_bursts() {
    let limiter = limiter("1000/100");
    let start = Instant::now();
    let by_thread: Vec<(usize, Duration)> = thread::scope(|scope| {
        let admit = || {
            let mut admitted = 0;
            while start.elapsed() < Duration::from_millis(500) {
                // Requests come a tenth of the time; the rest is long enough for the entry to expire.
                if start.elapsed().subsec_millis() % 200 < 20 {
                    admitted += usize::from(limiter.admits_hash(hash(3, 1), start.elapsed()));
                }
            }
            (admitted, start.elapsed())
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(admit)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let total: usize = by_thread.iter().map(|(admitted, _)| admitted).sum();
    let elapsed = by_thread.iter().map(|(_, elapsed)| elapsed.as_millis() as usize).max().unwrap();
    assert!((100..=elapsed + 200).contains(&total), "{total} in {elapsed} ms");
}

/// Times between requests: none, short, around the time that a bucket takes to fill, long.
fn pause(interval: u64, window: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(0),
        4 => 0..=2 * interval,
        2 => 0..=2 * window,
        1 => window.saturating_sub(2)..=window + 2,
        1 => 0..1_u64 << 40,
    ]
}

type Run = (u32, u32, Vec<(u64, u64)>);

/// A rate, a burst, and requests: the time since the previous one, and the client.
fn run(clients: u64) -> impl Strategy<Value = Run> {
    (1..=MAX_PER_SECOND, prop_oneof![1..=3_u32, 1..=300_u32]).prop_flat_map(move |(rate, burst)| {
        let interval = u64::from(1_000_000 / rate);
        let pause = pause(interval, interval * u64::from(burst));
        (Just(rate), Just(burst), prop::collection::vec((pause, 0..clients), 1..400))
    })
}

proptest! {
    #[test]
    fn agrees_with_the_model_while_no_set_is_full((rate, burst, requests) in run(8), start in 0..1_u64 << 46) {
        let limiter = RateLimiter::new(RateLimit { per_second: rate, burst });
        let mut model = Model::new(rate, burst);
        let mut now = Duration::from_micros(start);
        for (pause, client) in requests {
            now += Duration::from_micros(pause);
            let is_admitted = limiter.admits_hash(hash(9, client as u16), now);
            prop_assert_eq!(is_admitted, model.admits(client, now));
        }
    }

    /// Even if sets are full. Admitted as well, a refused request would bring the client's requests since
    /// some moment above a burst plus the rate since then.
    #[test]
    fn refuses_only_after_a_burst_and_the_rate((rate, burst, requests) in run(40)) {
        let limiter = RateLimiter::new(RateLimit { per_second: rate, burst });
        let mut admitted: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut now = 1_000_000;
        for (pause, client) in requests {
            now += pause;
            let before = admitted.entry(client).or_default();
            if limiter.admits_hash(hash(9, client as u16), Duration::from_micros(now)) {
                before.push(now);
                continue;
            }
            let is_beyond = |(index, since): (usize, &u64)| {
                let requests = (before.len() - index + 1) as u64;
                requests * limiter.interval > limiter.window + (now - since)
            };
            prop_assert!(before.iter().enumerate().any(is_beyond));
        }
    }

    #[test]
    fn a_jumping_clock_limits_nobody_for_longer_than_a_window_and_a_lag(
        (rate, burst, requests) in run(1),
        times in prop::collection::vec(any::<u64>(), 400),
    ) {
        let (limiter, client) = (RateLimiter::new(RateLimit { per_second: rate, burst }), hash(9, 1));
        for ((pause, _), time) in requests.into_iter().zip(times) {
            let now = Duration::from_micros(time % (TIME_MASK + 1));
            limiter.admits_hash(client, now);
            let later = now + Duration::from_micros(limiter.window + MAX_LAG + pause);
            prop_assert!(limiter.admits_hash(client, later));
        }
    }
}
