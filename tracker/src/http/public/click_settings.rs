//! The settings of clicks.

use std::fmt::Display;

use adtrack_proto::web_url::{self, Macros};
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

/// A value parser: a URL that a visitor can be redirected to.
pub fn web_url(text: &str) -> Result<Url, String> {
    web_url::parse(text, Macros::Refused)
        .map_err(|problem| format!("{problem}; expected an http or https URL without macros"))
}

/// A value parser: reads the file of keys at `path`.
pub fn signing_keys(path: &str) -> Result<SigningKeys, String> {
    let expected = |problem: &dyn Display| {
        format!("{problem}; expected a readable file of lines `id=secret`, the secrets in base64")
    };
    let text = read(path).map_err(|error| expected(&error))?;
    SigningKeys::parse(&text).map_err(|error| expected(&error))
}

/// A value parser: the content of a file of keys.
pub fn signing_keys_text(text: &str) -> Result<SigningKeys, String> {
    SigningKeys::parse(text)
        .map_err(|problem| format!("{problem}; expected lines `id=secret`, the secrets in base64"))
}

fn read(path: &str) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    // Bounded: the path may be that of a device, which never ends.
    std::fs::File::open(path)?.take(MAX_KEYS_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
