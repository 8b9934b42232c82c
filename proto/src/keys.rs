//! Names that the tracker and redis-updater share.

use crate::ProgramId;

/// Exists once Redis holds core data at all. Without it an absent program is unknown to nobody:
/// Redis may just have come back empty.
pub const LOADED: &str = "adtrack:loaded";

/// The default of `REDIS_CHANNEL`: where updates are published.
pub const DEFAULT_CHANNEL: &str = "program-updates";

/// A key among the programs' that is never there: a read of it shows that programs can be read.
pub const PROBE: &str = "program:{}";

/// The hash that holds a program. The braces are written out: they are a Redis Cluster hash tag,
/// which keeps all keys of one program in one slot.
pub fn program(id: &ProgramId) -> String {
    format!("program:{{{id}}}")
}

/// Matches the key of every program, as `SCAN` takes it.
pub const EVERY_PROGRAM: &str = "program:{*}";

/// The program whose hash stands at `key`; none where it is no program's.
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
