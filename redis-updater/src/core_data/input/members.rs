//! The members of a record, as far as a file's reader has to know them: what they must be is said
//! by the contract (`adtrack_proto::program`).

/// How a member's value stands in a cell of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is. A number too: the contract takes `customerId` as text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// Entries separated by spaces or semicolons.
    List,
    /// `NAME=VALUE`, separated likewise.
    Pairs,
}

/// The members that mean something.
pub const MEMBERS: [(&str, Kind); 15] = [
    ("programId", Kind::Text),
    ("programName", Kind::Text),
    ("checksum", Kind::Text),
    ("customerId", Kind::Text),
    ("customerName", Kind::Text),
    ("valid", Kind::Boolean),
    ("validFrom", Kind::Text),
    ("validUntil", Kind::Text),
    ("landingUrl", Kind::Text),
    ("fallbackUrl", Kind::Text),
    ("allowedHosts", Kind::List),
    ("conversionKeyId", Kind::Text),
    ("parameterAliases", Kind::Pairs),
    ("test", Kind::Boolean),
    ("deleted", Kind::Boolean),
];

/// Members that mean nothing and do no harm: the first two are in the reference's records, the last
/// is in what `core-data get` and `watch` print.
const HARMLESS: [&str; 3] = ["userAgent", "messageId", "version"];

/// What is known of a member's name.
pub enum Known {
    /// It means something.
    Member(&'static str, Kind),
    /// It is dropped, as it should be.
    Harmless,
    /// Perhaps another one, misspelt.
    Unknown,
}

/// Looks `name` up.
pub fn look_up(name: &str) -> Known {
    match MEMBERS.iter().find(|(member, _)| *member == name) {
        Some((member, kind)) => Known::Member(member, *kind),
        None if HARMLESS.contains(&name) => Known::Harmless,
        None => Known::Unknown,
    }
}
