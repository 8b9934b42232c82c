//! Core data: what is known of a program, and how a change of it travels.

use std::collections::BTreeMap;

pub use crate::validity::Validity;
use crate::{ProgramId, Version};

/// The longest name, checksum or other text of a program, in bytes.
pub const MAX_TEXT_BYTES: usize = 512;
/// The most entries that `parameterAliases` may have.
pub const MAX_ALIASES: usize = 20;
/// The longest name of a parameter, in bytes.
pub const MAX_PARAMETER_NAME_BYTES: usize = 64;
/// The most entries that `allowedHosts` may have.
pub const MAX_ALLOWED_HOSTS: usize = 100;

/// A program as its advertiser's data team describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its id, unique over all customers.
    pub program_id: ProgramId,
    /// Its name, for people.
    pub program_name: String,
    /// What a tracking link may carry to show that it was made for this program. Public: it guards
    /// against mistakes in links and authenticates nobody.
    pub checksum: String,
    /// The customer whose program it is.
    pub customer_id: i64,
    /// The customer's name, for people.
    pub customer_name: String,
    /// Whether it runs.
    pub validity: Validity,
    /// Where a click goes while the program is valid. May hold macros such as `{click_id}`.
    pub landing_url: Option<String>,
    /// Where a click goes while the program is not valid.
    pub fallback_url: Option<String>,
    /// Hosts that a link may name as its landing page.
    pub allowed_hosts: Vec<String>,
    /// The key that its conversions have to be signed with: an id, never the secret.
    pub conversion_key_id: Option<String>,
    /// What a network calls the parameters of a conversion, and what we call them.
    pub parameter_aliases: BTreeMap<String, String>,
    /// For smoke and load tests, not for billing.
    pub test: bool,
}

/// One record of the core-data stream: the whole program, or that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreData {
    /// The program as it is from now on; what the record leaves out is cleared.
    Program(Box<Program>),
    /// A tombstone. Only it deletes: absence never does.
    Deleted(ProgramId),
}

impl CoreData {
    /// The program that it is about.
    pub fn program_id(&self) -> &ProgramId {
        match self {
            Self::Program(program) => &program.program_id,
            Self::Deleted(program_id) => program_id,
        }
    }
}

/// Core data with its place in the stream's order; what Redis stores and the channel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its place in the order.
    pub version: Version,
    /// What holds from there on.
    pub core_data: CoreData,
}

/// Why a record is no core data: the member, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCoreData {
    /// Not JSON, or a member of the wrong type.
    #[error("not a core-data record: {problem} at line {line} column {column}")]
    Malformed {
        /// What is wrong.
        problem: String,
        /// The line in the record, from 1.
        line: usize,
        /// The last byte that was read, counted in its line from 1; 0 is the end of the line before.
        column: usize,
    },
    /// A required member is absent or null.
    #[error("member `{0}` is missing")]
    Missing(&'static str),
    /// A member's value is not allowed.
    #[error("member `{member}`: {problem}")]
    Member {
        /// The member's name.
        member: &'static str,
        /// What is wrong and what is accepted.
        problem: String,
    },
}
