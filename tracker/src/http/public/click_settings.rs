//! The settings of clicks.

use clap::Args;
use url::Url;

use super::value_parsers::{signing_keys, signing_keys_text, web_url};
use crate::domain::SigningKeys;

/// The page for clicks that cannot be recorded, and the keys of signed links.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Clicks")]
pub struct ClickSettings {
    /// Page to redirect to if a click cannot be recorded (unknown program, core data unavailable, journal
    /// full, rate limit). Unset: the visitor sees the error.
    #[arg(long, env, value_parser = web_url)]
    pub default_fallback_url: Option<Url>,
    /// File with the keys of signed links, in lines `id=secret`: the secret has at least 32 bytes, in base64.
    /// Read once, at the start. Unset: no signature is valid.
    #[arg(long, env, value_name = "LINK_KEYS_FILE", value_parser = signing_keys)]
    pub link_keys_file: Option<SigningKeys>,
    /// The content of LINK_KEYS_FILE, for containers that get secrets as variables.
    #[arg(long, env, hide_env_values = true, value_name = "LINK_KEYS", value_parser = signing_keys_text, conflicts_with = "link_keys_file")]
    pub link_keys: Option<SigningKeys>,
}

impl ClickSettings {
    /// The keys of signed links; none if neither setting is given.
    pub fn keys(&self) -> Option<&SigningKeys> {
        self.link_keys_file.as_ref().or(self.link_keys.as_ref())
    }
}
