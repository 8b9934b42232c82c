//! Configuration from environment variables and flags, by clap, with errors made for operators:
//! one line that names the variable, the value and what is accepted, and exit status 64
//! (`EX_USAGE` of sysexits.h).

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

/// The exit status for a configuration that cannot be used: `EX_USAGE`.
pub const EXIT_USAGE: u8 = 64;

/// Reads the configuration, or says what the process is to end with: success after `--help` and
/// `--version`, else [`EXIT_USAGE`] with one line on standard error.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nothing to do about a closed standard output.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => usage_error(&one_line::<T>(&error)),
    })
}

/// Prints `problem` on standard error, for a process that ends because of its configuration.
pub fn usage_error(problem: &str) -> ExitCode {
    eprintln!("{}: {problem}", program_name());
    ExitCode::from(EXIT_USAGE)
}

fn program_name() -> String {
    std::env::args_os()
        .next()
        .and_then(|path| Some(std::path::Path::new(&path).file_name()?.to_str()?.to_owned()))
        .unwrap_or_else(|| "adtrack".to_owned())
}

/// `LISTEN_ADDR="x": expected …`, from what clap knows of the error.
fn one_line<T: CommandFactory>(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).map(|argument| variable_of(&argument));
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let is_secret = argument.as_deref().is_some_and(is_secret::<T>);
    let value = match masked_url(&value) {
        Some(masked) => masked,
        None if is_secret => "***".to_owned(),
        None => value,
    };
    let valid = text(ContextKind::ValidValue).map(|values| format!("expected one of {values}"));
    match (error.kind(), argument) {
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(argument)) => {
            let expected = std::error::Error::source(error).map(ToString::to_string).or(valid);
            format!("{argument}={value:?}: {}", expected.unwrap_or_else(|| "needs a value".into()))
        }
        (ErrorKind::ArgumentConflict, Some(argument)) => {
            let other = text(ContextKind::PriorArg).map(|other| variable_of(&other));
            format!("{argument}: cannot be set beside {}; set one", other.unwrap_or_default())
        }
        (ErrorKind::MissingRequiredArgument, Some(arguments)) => {
            format!("{arguments} is required and not set; --help lists every setting")
        }
        _ => {
            let rendered = error.to_string();
            let first = rendered.lines().next().unwrap_or_default();
            format!("{}; --help lists every setting", first.trim_start_matches("error: "))
        }
    }
}

/// Whether `--help` does not show what the environment has of a variable.
fn is_secret<T: CommandFactory>(variable: &str) -> bool {
    T::command()
        .get_arguments()
        .any(|one| one.get_env().is_some_and(|env| env == variable) && one.is_hide_env_values_set())
}

/// A URL without its password: errors end in logs. None: it is no URL.
fn masked_url(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once("://")?;
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let Some((user_info, host)) = rest.rsplit_once('@') else { return Some(value.to_owned()) };
    let user = user_info.split(':').next().unwrap_or_default();
    Some(format!("{scheme}://{user}:***@{host}"))
}

/// `--listen-addr <LISTEN_ADDR>` → `LISTEN_ADDR`: a flag has its variable's name.
fn variable_of(argument: &str) -> String {
    argument
        .split(", ")
        .map(|one| {
            let flag = one.split([' ', '=']).next().unwrap_or(one);
            flag.trim_start_matches('-').replace('-', "_").to_uppercase()
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// A value parser: an integer from `min` to `max`.
pub fn integer<N>(min: N, max: N) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + std::fmt::Display + Copy,
{
    move |text| {
        text.parse()
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| format!("expected an integer from {min} to {max}"))
    }
}

/// A value parser: whole seconds from `min` to `max`.
pub fn seconds(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        integer(min, max)(text)
            .map(Duration::from_secs)
            .map_err(|_| format!("expected whole seconds from {min} to {max}"))
    }
}

/// A value parser: whole milliseconds from `min` to `max`.
pub fn milliseconds(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        integer(min, max)(text)
            .map(Duration::from_millis)
            .map_err(|_| format!("expected whole milliseconds from {min} to {max}"))
    }
}

/// For clap: a truth value.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

/// A value parser: any text but the empty one. `what` says what it names.
pub fn non_empty(what: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| {
        if text.is_empty() { Err(format!("expected {what}")) } else { Ok(text.to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[arg(long, default_value = "1", value_parser = integer(1_u16, 9))]
        workers: u16,
        #[arg(long)]
        table_name: String,
        #[arg(long, env, hide_env_values = true, conflicts_with = "token_file", value_parser = integer(1_u8, 9))]
        token: Option<u8>,
        #[arg(long)]
        token_file: Option<String>,
    }

    fn error_of(arguments: &[&str]) -> String {
        let all = ["tracker"].iter().chain(arguments);
        one_line::<Settings>(&Settings::try_parse_from(all).unwrap_err())
    }

    #[test]
    fn an_error_names_variable_value_and_what_is_accepted() {
        assert_eq!(
            error_of(&["--table-name", "t", "--workers", "0"]),
            r#"WORKERS="0": expected an integer from 1 to 9"#
        );
        assert_eq!(
            error_of(&["--table-name", "t", "--workers", "many"]),
            r#"WORKERS="many": expected an integer from 1 to 9"#
        );
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(masked_url("http://u:p@ss@h:1/x").unwrap(), "http://u:***@h:1/x");
        assert_eq!(masked_url("redis://h:1").unwrap(), "redis://h:1");
        assert_eq!(masked_url("abc"), None);
        assert_eq!(masked_url("# see https://h/\nk=secret"), None);
    }

    #[test]
    fn what_help_hides_is_not_shown() {
        for secret in ["hunter2", "# see https://h/\nk=hunter2"] {
            let arguments = ["--table-name=t", &format!("--token={secret}")];
            assert_eq!(error_of(&arguments), r#"TOKEN="***": expected an integer from 1 to 9"#);
        }
    }

    #[test]
    fn two_settings_that_exclude_each_other_are_named() {
        assert_eq!(
            error_of(&["--table-name=t", "--token=1", "--token-file=f"]),
            "TOKEN: cannot be set beside TOKEN_FILE; set one"
        );
    }

    #[test]
    fn a_missing_setting_is_named() {
        assert_eq!(error_of(&[]), "TABLE_NAME is required and not set; --help lists every setting");
    }

    #[test]
    fn an_unknown_flag_is_one_line() {
        assert_eq!(
            error_of(&["--frobnicate"]),
            "unexpected argument '--frobnicate' found; --help lists every setting"
        );
    }
}
