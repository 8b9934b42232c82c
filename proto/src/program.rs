//! Core data: what adtrack knows about a program, and the update that changes it.

use std::collections::BTreeMap;

pub use crate::aliases::MAX_PARAMETER_NAME_BYTES;
use crate::landing_url::macro_mistakes;
pub use crate::program_json::{REPLACES, replaced_by};
pub use crate::validity::Validity;
use crate::{ProgramId, Version};

/// The maximum length of a program's name, checksum or other text in bytes.
pub const MAX_TEXT_BYTES: usize = 512;
/// The maximum number of entries of `parameterAliases`.
pub const MAX_ALIASES: usize = 20;
/// The maximum number of entries of `statusAliases`.
pub const MAX_STATUS_ALIASES: usize = 50;
/// The maximum length of a network's value of `status` in bytes.
pub const MAX_STATUS_BYTES: usize = 64;
/// The maximum length of a signing key's id in bytes.
pub const MAX_KEY_ID_BYTES: usize = 64;
/// The maximum number of entries of `allowedHosts`.
pub const MAX_ALLOWED_HOSTS: usize = 100;

/// A program as its advertiser's data team describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its id, unique over all customers.
    pub program_id: ProgramId,
    /// Its display name.
    pub program_name: String,
    /// What a tracking link may carry to show that it was made for this program. It is public: it
    /// catches mistakes in links and authenticates nobody.
    pub checksum: String,
    /// The customer whose program it is.
    pub customer_id: i64,
    /// The customer's display name.
    pub customer_name: String,
    /// When it runs.
    pub validity: Validity,
    /// Where a click goes while the program is valid. It may contain macros such as `{click_id}`.
    pub landing_url: Option<String>,
    /// Where a click goes if the program is not valid or has no landing page.
    pub fallback_url: Option<String>,
    /// Hosts that a click's `url` may lead to.
    pub allowed_hosts: Vec<String>,
    /// The id of the key that its conversions must be signed with; never the secret.
    pub conversion_key_id: Option<String>,
    /// A network's names of conversion parameters, and adtrack's name for each.
    pub parameter_aliases: BTreeMap<String, String>,
    /// A network's values of `status`, and adtrack's status for each.
    pub status_aliases: BTreeMap<String, String>,
    /// For smoke and load tests, not for billing.
    pub test: bool,
}

impl Program {
    /// What may be a mistake but is accepted.
    pub fn warning(&self) -> Option<String> {
        let mistakes = macro_mistakes(self.landing_url.as_deref()?)?;
        Some(format!("member `landingUrl`: {mistakes}"))
    }
}

/// One record of the core-data stream: a whole program, or its deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreData {
    /// The whole program; a member that the record leaves out is cleared.
    Program(Box<Program>),
    /// A tombstone: the only way to delete a program. Absence never deletes one.
    Deleted(ProgramId),
}

impl CoreData {
    /// The program that the record is about.
    pub fn program_id(&self) -> &ProgramId {
        match self {
            Self::Program(program) => &program.program_id,
            Self::Deleted(program_id) => program_id,
        }
    }
}

/// Core data with its place in the stream's order: what Redis stores and the channel carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its place in the order.
    pub version: Version,
    /// What the program is from this version on.
    pub core_data: CoreData,
}

/// Why a record is not valid core data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCoreData {
    /// Not JSON, or a member of the wrong type.
    #[error("not a core-data record: {problem} at line {line} column {column}")]
    Malformed {
        /// What is wrong.
        problem: String,
        /// The line in the record, from 1.
        line: usize,
        /// The last byte read, counted in its line from 1; 0 is the end of the previous line.
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
