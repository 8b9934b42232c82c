//! The signatures of conversions.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use clap::Args;

use super::click_settings::{signing_keys, signing_keys_text};
use crate::domain::{Claim, PreparedProgram, Refusal, SigningKeys};

/// Between two log lines that say the same.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Settings of conversions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Conversions")]
pub struct ConversionSettings {
    /// File with the keys of signed conversions: lines `id=secret`, the id being the `conversionKeyId`
    /// of programs, the secret of 32 bytes or more in base64. Read at the start. Unset: conversions of
    /// programs that name a key get 503.
    #[arg(long, env, value_name = "CONVERSION_KEYS_FILE", value_parser = signing_keys)]
    pub conversion_keys_file: Option<SigningKeys>,
    /// What CONVERSION_KEYS_FILE would hold, instead of it: for containers that get secrets as variables.
    #[arg(long, env, hide_env_values = true, value_name = "CONVERSION_KEYS", value_parser = signing_keys_text, conflicts_with = "conversion_keys_file")]
    pub conversion_keys: Option<SigningKeys>,
}

/// Checks the signatures of conversions.
#[derive(Debug, Default)]
pub struct ConversionGuard {
    keys: SigningKeys,
    /// When the log last said that a key is missing.
    reported_at: Mutex<Option<Instant>>,
}

impl ConversionGuard {
    /// Checks by the keys that the settings name.
    pub fn new(settings: &ConversionSettings) -> Self {
        let keys = settings.conversion_keys_file.as_ref().or(settings.conversion_keys.as_ref());
        Self { keys: keys.cloned().unwrap_or_default(), reported_at: Mutex::default() }
    }

    /// Refuses a claim that is not signed as `program` demands.
    pub(super) fn authorize(
        &self,
        claim: &Claim<'_>,
        program_id: &ProgramId,
        program: &PreparedProgram,
    ) -> Result<(), Refusal> {
        let Some(key_id) = &program.conversion_key_id else { return Ok(()) };
        let outcome = claim.authorize(program_id, key_id, &self.keys);
        if outcome == Err(Refusal::ConversionKeyUnavailable) {
            self.report_missing_key(program_id, key_id);
        }
        outcome
    }

    /// Networks retry for hours: a line now and then is enough.
    fn report_missing_key(&self, program_id: &ProgramId, key_id: &str) {
        let now = Instant::now();
        let reported_at = self.reported_at.lock();
        let mut reported_at = reported_at.unwrap_or_else(std::sync::PoisonError::into_inner);
        if reported_at.is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL) {
            *reported_at = Some(now);
            tracing::error!(
                program = program_id.as_str(),
                key = key_id,
                "conversions are refused: CONVERSION_KEYS_FILE or CONVERSION_KEYS has no key by the \
                 program's conversionKeyId; add it, or correct the program"
            );
        }
    }
}
