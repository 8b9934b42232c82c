//! Signs links that name their own landing page.
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

use std::process::ExitCode;

use adtrack_proto::ProgramId;
use adtrack_runtime::cli;
use adtrack_runtime::{outln, output};
use clap::Parser;
use jiff::Timestamp;
use tracker::domain::SigningKeys;
use tracker::domain::signed_link::{self, SignedLink, link_url};
use tracker::http::public::{signing_keys, web_url};
use url::Url;

/// Prints a click link with its own landing page, signed so that the tracker accepts it whatever the
/// program's allowedHosts are.
///
/// The signature covers program, landing page, key id and expiry. Other parameters may be appended to the
/// link. A page that the tracker would refuse is refused here as well.
#[derive(Debug, Parser)]
#[command(version, name = "sign-link", after_help = HELP)]
struct Arguments {
    /// File with the keys, the same as the tracker's, in lines `id=secret`: the secret has at least 32 bytes,
    /// in base64.
    #[arg(long, env = "LINK_KEYS_FILE", value_name = "KEY_FILE", value_parser = signing_keys)]
    key_file: SigningKeys,
    /// Id of the key to sign with.
    #[arg(long)]
    key_id: String,
    /// Id of the program.
    #[arg(long, value_parser = program_id)]
    program: ProgramId,
    /// The landing page. Macros such as {click_id} may be in path, query or fragment; if there is none,
    /// click_id is appended.
    #[arg(long, value_parser = landing_page)]
    url: String,
    /// How long the link is valid: a number of minutes, hours or days, such as 30m, 12h, 90d.
    #[arg(long, value_name = "TIME", value_parser = expires_in, required_unless_present = "expires")]
    expires_in: Option<Timestamp>,
    /// Instead of --expires-in: when the link expires, in RFC 3339, such as 2027-01-01T00:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = expires, conflicts_with = "expires_in")]
    expires: Option<Timestamp>,
    /// Public address of the tracker: scheme, host and path.
    #[arg(long, value_parser = base_url)]
    base_url: Url,
}

const HELP: &str = "\
Example:
  sign-link --key-file link-keys --key-id 2026-a --program 212313 --expires-in 90d \\
    --base-url https://track.example --url 'https://partner.example/p?c={click_id}'

To add a key: printf '2026-a=%s\\n' \"$(head -c 32 /dev/urandom | base64)\" >>link-keys

Exit status: 0 success; 64 usage error; 74 standard output could not be written.";

fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    match signed_link(&arguments) {
        Ok(link) => {
            outln!("{link}");
            output::finish(ExitCode::SUCCESS)
        }
        Err(error) => cli::usage_error(error),
    }
}

/// Why no link can be signed with these arguments.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("EXPIRES_IN or EXPIRES is required")]
    NoExpiry,
    #[error("KEY_ID={0:?}: the key file has no such id")]
    NoKey(String),
}

fn signed_link(arguments: &Arguments) -> Result<Url, SignError> {
    let expiry = arguments.expires.or(arguments.expires_in);
    let expires = expiry.ok_or(SignError::NoExpiry)?.as_second();
    let signature = SignedLink {
        program_id: &arguments.program,
        url: &arguments.url,
        key_id: &arguments.key_id,
        expires,
    }
    .sign(&arguments.key_file)
    .ok_or_else(|| SignError::NoKey(arguments.key_id.clone()))?;
    let mut link = arguments.base_url.clone();
    link.set_path(&format!("{}/click/{}", link.path().trim_end_matches('/'), arguments.program));
    link.query_pairs_mut()
        .append_pair(signed_link::URL_PARAMETER, &arguments.url)
        .append_pair(signed_link::KEY_ID, &arguments.key_id)
        .append_pair(signed_link::EXPIRES, &expires.to_string())
        .append_pair(signed_link::SIGNATURE, &signature);
    Ok(link)
}

fn program_id(text: &str) -> Result<ProgramId, String> {
    ProgramId::parse(text).map_err(|error| error.to_string())
}

fn landing_page(text: &str) -> Result<String, String> {
    link_url(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = web_url(text)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without query or fragment".to_owned());
    }
    Ok(url)
}

fn expires_in(text: &str) -> Result<Timestamp, String> {
    let seconds = || {
        let unit = match text.chars().last()? {
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let number = text[..text.len() - 1].parse::<u32>().ok().filter(|number| *number > 0)?;
        i64::from(number).checked_mul(unit)
    };
    seconds()
        .filter(|seconds| *seconds <= signed_link::MAX_LIFETIME_SECONDS)
        .and_then(|seconds| Timestamp::from_second(Timestamp::now().as_second() + seconds).ok())
        .ok_or_else(|| {
            "expected a number of minutes, hours or days, at most 100 years: 30m, 12h, 90d"
                .to_owned()
        })
}

fn expires(text: &str) -> Result<Timestamp, String> {
    let expected = || {
        "expected a time in the future, at most 100 years ahead, such as 2027-01-01T00:00:00Z"
            .to_owned()
    };
    let at: Timestamp = text.parse().map_err(|_| expected())?;
    let now = Timestamp::now();
    let is_plausible = at.as_second() <= now.as_second() + signed_link::MAX_LIFETIME_SECONDS;
    if at > now && is_plausible { Ok(at) } else { Err(expected()) }
}
