//! A rate limit for each client address, in a table of fixed size.
//!
//! **A bucket is one number.** Instead of tokens an entry holds the time at which its bucket is full
//! again (the generic cell rate algorithm, ITU-T I.371 annex A). How far that time is ahead is the
//! address's *debt*: each admitted request adds `interval` (a second divided by the rate), and time pays
//! it off. A request that would bring the debt above `window` (the burst, in intervals) is refused and
//! adds nothing.
//!
//! **The table** has 32,768 sets of 8 entries, one cache line each: 2 MiB, allocated once. A hash of
//! the address under a random key, so that nobody can choose addresses that collide, picks the set and
//! gives a tag of 16 bits:
//!
//! ```text
//! entry (64 bits):   tag 16 │ when the bucket is full again, 48 bits, microseconds since the start
//! ```
//!
//! An entry whose time has passed is free: an address with a full bucket is like one that was never
//! seen, so reusing its entry forgets nothing. An entry with a debt is never given to another address.
//! So a client with many addresses can neither evict others nor make the table grow. What can go wrong:
//!
//! - *All entries of a set have a debt*: a further address is admitted without being counted until an entry
//!   is free. Each counted request holds its entry for one `interval`. With a limit of 50
//!   requests/s, and 100,000 requests/s from as many addresses, 2,000 of the 262,144 entries are in use,
//!   and a set is full with a probability below 10⁻¹⁴; with a limit of 1 request/s, 1.3 %.
//! - *Two addresses have the same set and tag*: they share a bucket. Only in this way can one address limit
//!   another. The probability that any of 1,000 addresses at their limit shares the bucket of a given
//!   address is 1,000 / 2³¹: 5 in ten million.
//! - *Two threads see the same new address while an entry expires*: it may get two entries, and with
//!   them up to one burst more, once.
//!
//! A thread may lose the processor between reading the clock and its lookup, and then finds an entry that is
//! further ahead than `window`: it counts as a full debt up to `MAX_LAG`. (Without that, such a thread would
//! empty the bucket of an address that others keep full.) Times wrap after 2⁴⁸ µs, nine years: what is still
//! further ahead is a leftover from before the wrap, and counts as none.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SETS: usize = 1 << 15;
const ENTRIES_PER_SET: usize = 8;
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Microseconds by which a thread's time may be behind that of the thread that wrote an entry.
const MAX_LAG: u64 = 1_000_000;
/// The highest rate. An interval is rounded down to microseconds, which adds at most 1 % to this one.
const MAX_PER_SECOND: u32 = 10_000;
const MAX_BURST: u32 = 100_000;

/// How many requests an address may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    per_second: u32,
    /// Requests admitted at once after a pause.
    burst: u32,
}

/// The error for a text that is not a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected requests per second, from 1 to {MAX_PER_SECOND}, or RATE/BURST with a burst from 1 to \
     {MAX_BURST}, such as 50/200"
)]
pub struct InvalidRateLimit;

impl FromStr for RateLimit {
    type Err = InvalidRateLimit;

    /// Parses `RATE` or `RATE/BURST`. The burst defaults to the requests of one second.
    fn from_str(text: &str) -> Result<Self, InvalidRateLimit> {
        let (rate, burst) = text.split_once('/').unwrap_or((text, text));
        let number =
            |text: &str, max| text.parse().ok().filter(|number| (1..=max).contains(number));
        number(rate, MAX_PER_SECOND)
            .zip(number(burst, MAX_BURST))
            .map(|(per_second, burst)| Self { per_second, burst })
            .ok_or(InvalidRateLimit)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.per_second, self.burst)
    }
}

/// A set of entries: all that a lookup reads.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; ENTRIES_PER_SET]);

/// Limits the requests of each address.
#[derive(Debug)]
pub struct RateLimiter {
    /// Microseconds by which a request adds to its address's debt.
    interval: u64,
    /// Microseconds of debt that an address may have.
    window: u64,
    sets: Box<[Set; SETS]>,
    hasher: RandomState,
}

/// An address's entry, or a free one that it can take.
struct Slot<'a> {
    entry: &'a AtomicU64,
    seen: u64,
    debt: u64,
}

impl RateLimiter {
    /// Allocates the table, for addresses that have made no requests.
    pub fn new(limit: RateLimit) -> Self {
        let interval = u64::from(1_000_000 / limit.per_second);
        Self {
            interval,
            window: interval * u64::from(limit.burst),
            sets: empty_table(),
            hasher: RandomState::new(),
        }
    }

    /// Whether a request from `address` is within the limit; counts it if so. `now` is the time since any
    /// fixed moment. A refused request is admitted if it is repeated a second later, unless the address
    /// makes others first.
    pub fn admits(&self, address: IpAddr, now: Duration) -> bool {
        self.admits_hash(self.hasher.hash_one(subject(address)), now)
    }

    fn admits_hash(&self, hash: u64, now: Duration) -> bool {
        let Set(entries) = &self.sets[hash as usize % SETS];
        let tag = hash >> TIME_BITS;
        let now = now.as_micros() as u64 & TIME_MASK;
        loop {
            let Some(Slot { entry, seen, debt }) = self.find(entries, tag, now) else {
                return true;
            };
            let debt = debt + self.interval;
            if debt > self.window {
                return false;
            }
            let next = tag << TIME_BITS | (now + debt) & TIME_MASK;
            let order = Ordering::Relaxed;
            if entry.compare_exchange_weak(seen, next, order, order).is_ok() {
                return true;
            }
            // Another thread was faster: try again.
        }
    }

    /// The entry with `tag` that has a debt, else a free one; none if all entries belong to others.
    fn find<'a>(&self, entries: &'a [AtomicU64], tag: u64, now: u64) -> Option<Slot<'a>> {
        let mut free = None;
        for entry in entries {
            let seen = entry.load(Ordering::Relaxed);
            let ahead = seen.wrapping_sub(now) & TIME_MASK;
            if ahead == 0 || ahead > self.window + MAX_LAG {
                free.get_or_insert(Slot { entry, seen, debt: 0 });
            } else if seen >> TIME_BITS == tag {
                return Some(Slot { entry, seen, debt: ahead });
            }
        }
        free
    }
}

fn empty_table() -> Box<[Set; SETS]> {
    let sets: Box<[Set]> = (0..SETS).map(|_| Set::default()).collect();
    sets.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
}

/// The key that an address is counted under. An IPv6 address counts as its /64, the least that a customer
/// gets (RFC 6177). An IPv4 address is mapped into a /64 of multicast, which no client has.
fn subject(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => 0xffff_ffff_0000_0000 | u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests;
