//! What a file's reader has to know of a record's members; what their values must be is checked by
//! the contract's own reader (`adtrack_proto::program`).

use adtrack_proto::members::{MEMBERS, Member};

/// Members that mean nothing and do no harm: the first two are in the reference's records, the last
/// is in what `core-data get` and `watch` print.
const HARMLESS: [&str; 3] = ["userAgent", "messageId", "version"];

/// What is known of a member's name.
pub enum Known {
    /// It means something.
    Member(&'static Member),
    /// It is dropped, as it should be.
    Harmless,
    /// Perhaps another one, misspelt.
    Unknown,
}

/// Looks `name` up.
pub fn look_up(name: &str) -> Known {
    match MEMBERS.iter().find(|member| member.name == name) {
        Some(member) => Known::Member(member),
        None if HARMLESS.contains(&name) => Known::Harmless,
        None => Known::Unknown,
    }
}
