//! Settings and checks of conversion signatures. Logs missing keys.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use clap::Args;

use super::value_parsers::{signing_keys, signing_keys_text};
use crate::domain::{ConversionClaim, PreparedProgram, Refusal, SigningKeys};

/// Minimum time between two log lines about a missing key.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Settings of conversions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Conversions")]
pub struct ConversionSettings {
    /// File with the keys of signed conversions, in lines `id=secret`: a program's `conversionKeyId`, and a
    /// secret of at least 32 bytes in base64. Read once, at the start. Unset: conversions of programs that
    /// name a key get 503.
    #[arg(long, env, value_name = "CONVERSION_KEYS_FILE", value_parser = signing_keys)]
    pub conversion_keys_file: Option<SigningKeys>,
    /// The content of CONVERSION_KEYS_FILE, for containers that get secrets as variables.
    #[arg(long, env, hide_env_values = true, value_name = "CONVERSION_KEYS", value_parser = signing_keys_text, conflicts_with = "conversion_keys_file")]
    pub conversion_keys: Option<SigningKeys>,
}

/// Checks the signatures of conversions.
#[derive(Debug, Default)]
pub struct ConversionGuard {
    keys: SigningKeys,
    /// When a missing key was last logged.
    reported_at: Mutex<Option<Instant>>,
}

impl ConversionGuard {
    /// Without any keys if neither setting is given.
    pub fn new(settings: &ConversionSettings) -> Self {
        let keys = settings.conversion_keys_file.as_ref().or(settings.conversion_keys.as_ref());
        Self { keys: keys.cloned().unwrap_or_default(), reported_at: Mutex::default() }
    }

    /// Refuses a claim that is not signed as `program` requires.
    pub(super) fn authorize(
        &self,
        claim: &ConversionClaim<'_>,
        program_id: &ProgramId,
        program: &PreparedProgram,
    ) -> Result<(), Refusal> {
        let Some(key_id) = &program.conversion_key_id else { return Ok(()) };
        let outcome = claim.verify_signature(program_id, key_id, &self.keys);
        if outcome == Err(Refusal::ConversionKeyUnavailable) {
            self.report_missing_key(program_id, key_id);
        }
        outcome
    }

    /// Logs at most once per [`LOG_INTERVAL`]: networks retry for hours.
    fn report_missing_key(&self, program_id: &ProgramId, key_id: &str) {
        let now = Instant::now();
        let reported_at = self.reported_at.lock();
        let mut reported_at = reported_at.unwrap_or_else(std::sync::PoisonError::into_inner);
        if reported_at.is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL) {
            *reported_at = Some(now);
            tracing::error!(
                program = program_id.as_str(),
                key = key_id,
                "conversions are refused: neither CONVERSION_KEYS_FILE nor CONVERSION_KEYS has the key \
                 that the program's conversionKeyId names; add it, or correct the program"
            );
        }
    }
}
