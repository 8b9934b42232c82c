//! The names of members that a file may have. `adtrack_proto::program` checks their values.

use adtrack_proto::members::{MEMBERS, Member};

/// Members that are ignored without a warning: the reference's records have the first two, and the
/// output of `core-data get` and `watch` has the last.
const IGNORED: [&str; 3] = ["userAgent", "messageId", "version"];

/// The meaning of a name in a file.
pub enum MemberName {
    /// A member of a program.
    Known(&'static Member),
    /// One that is dropped without a warning.
    Ignored,
    /// Perhaps a misspelt member.
    Unknown,
}

pub fn look_up(name: &str) -> MemberName {
    match MEMBERS.iter().find(|member| member.name == name) {
        Some(member) => MemberName::Known(member),
        None if IGNORED.contains(&name) => MemberName::Ignored,
        None => MemberName::Unknown,
    }
}
