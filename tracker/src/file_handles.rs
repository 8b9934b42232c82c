//! The limit on open files: every connection of a client is one, but so are the journal and the connections to
//! Redis and Kinesis, which must not fail because there are many clients.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File handles that clients' connections may not use.
const RESERVE: usize = 256;

/// With a lower limit on its open files, the tracker does not start: silent clients would use up all of them.
pub const LEAST: usize = 256;

/// Raises the soft limit to the hard one, and returns the limit that holds now; `usize::MAX` if there is none.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Not every system lets a process have what it says; the old limit still holds then.
    let holds = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    holds.current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// How many of the `wanted` connections the process may have with a `limit` on its open files. A limit below
/// twice the reserve is shared in halves.
pub fn connections_within(wanted: usize, limit: usize) -> usize {
    let available = limit.saturating_sub(RESERVE).max(limit / 2).max(1);
    if available < wanted {
        tracing::warn!(
            wanted,
            available,
            limit,
            "MAX_CONNECTIONS is more than the limit on open files allows; raise that limit (ulimit -n)"
        );
    }
    wanted.min(available)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_reserve_for_the_process_itself() {
        let cases = [
            (20_000, usize::MAX, 20_000),
            (20_000, 65_536, 20_000),
            (20_000, 1_024, 768),
            (500, 1_024, 500),
            (20_000, 300, 150),
            (20_000, 0, 1),
        ];
        for (wanted, limit, expected) in cases {
            assert_eq!(connections_within(wanted, limit), expected, "{wanted} within {limit}");
        }
    }
}
