//! Redis keys and channels that the tracker and redis-updater share.

use crate::ProgramId;

/// The key that exists once Redis holds core data. While it is missing, an absent program does not count
/// as unknown: Redis may have restarted empty.
pub const LOADED: &str = "adtrack:loaded";

/// The default of `REDIS_CHANNEL`, the channel on which updates are published.
pub const DEFAULT_CHANNEL: &str = "program-updates";

/// A key in the programs' namespace that never exists. Reading it proves that programs can be read.
pub const PROBE: &str = "program:{}";

/// The key of a program's hash. Its braces are part of the key: a Redis Cluster hash tag, which keeps all
/// keys of a program in one slot.
pub fn program(id: &ProgramId) -> String {
    format!("program:{{{id}}}")
}

/// The `SCAN` pattern that matches the key of every program.
pub const EVERY_PROGRAM: &str = "program:{*}";

/// The program whose hash is at `key`; `None` if `key` is not a program's.
pub fn program_id(key: &str) -> Option<ProgramId> {
    ProgramId::parse(key.strip_prefix("program:{")?.strip_suffix('}')?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_key_has_literal_braces() {
        let id = ProgramId::parse("212313").unwrap();
        assert_eq!(program(&id), "program:{212313}");
        assert_eq!(program_id("program:{212313}"), Some(id));
        for key in [PROBE, LOADED, "program:212313", "program:{212313}:x", "program:{a b}"] {
            assert_eq!(program_id(key), None, "{key}");
        }
    }
}
