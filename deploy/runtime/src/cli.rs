//! Reads the configuration from environment variables and flags with clap. Its errors are meant for
//! operators: one line that names the variable, its value and what is accepted, and exit status 64
//! (`EX_USAGE` in sysexits.h).

use std::fmt::Display;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use crate::{errln, output};

/// The exit status for an invalid configuration: `EX_USAGE`.
pub const EXIT_USAGE: u8 = 64;

/// Reads the configuration. An error is the status to exit with: success after `--help` and `--version`,
/// otherwise [`EXIT_USAGE`], after printing one line on standard error.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::text(error.render());
            output::finish(ExitCode::SUCCESS)
        }
        _ => usage_error(one_line::<T>(&error)),
    })
}

/// Prints `problem` on standard error, and returns the exit status for an invalid configuration.
pub fn usage_error(problem: impl Display) -> ExitCode {
    print_problem(problem);
    ExitCode::from(EXIT_USAGE)
}

/// Prints `problem` on standard error, and returns the exit status of a failure.
pub fn failure(problem: impl Display) -> ExitCode {
    print_problem(problem);
    ExitCode::FAILURE
}

fn print_problem(problem: impl Display) {
    errln!("{}: {problem}", output::program_name());
}

/// Formats clap's error as `LISTEN_ADDR="x": expected …`.
fn one_line<T: CommandFactory>(error: &clap::Error) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let name_of = |argument: String| name_of(&T::command(), &argument);
    let argument = text(ContextKind::InvalidArg).map(name_of);
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
            let other = text(ContextKind::PriorArg).map(name_of);
            format!(
                "{argument}: cannot be set together with {}; set one",
                other.unwrap_or_default()
            )
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

/// Whether the variable's value must not be shown, as in `--help`.
fn is_secret<T: CommandFactory>(variable: &str) -> bool {
    T::command()
        .get_arguments()
        .any(|one| one.get_env().is_some_and(|env| env == variable) && one.is_hide_env_values_set())
}

/// Masks the password in a URL, because errors end up in logs. Returns `None` if `value` is not a URL.
fn masked_url(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once("://")?;
    if !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let Some((user_info, host)) = rest.rsplit_once('@') else { return Some(value.to_owned()) };
    let user = user_info.split(':').next().unwrap_or_default();
    Some(format!("{scheme}://{user}:***@{host}"))
}

/// Converts `--listen-addr <LISTEN_ADDR>` to `LISTEN_ADDR`, the variable of the same setting, and
/// `--count <PROGRAMS>` to `--count` if there is no such variable.
fn name_of(command: &Command, argument: &str) -> String {
    let names = argument.split(", ").map(|one| {
        let flag = one.split([' ', '=']).next().unwrap_or(one);
        variable_of(command, flag.trim_start_matches('-')).unwrap_or_else(|| flag.to_owned())
    });
    names.collect::<Vec<_>>().join(", ")
}

/// The variable of a setting of the command or of one of its subcommands.
fn variable_of(command: &Command, flag: &str) -> Option<String> {
    let own = command.get_arguments().find(|one| one.get_long() == Some(flag));
    let own = own.and_then(|one| Some(one.get_env()?.to_string_lossy().into_owned()));
    own.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}

/// A value parser for integers from `min` to `max`.
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

/// A value parser for whole seconds from `min` to `max`.
pub fn seconds(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        integer(min, max)(text)
            .map(Duration::from_secs)
            .map_err(|_| format!("expected whole seconds from {min} to {max}"))
    }
}

/// A value parser for whole milliseconds from `min` to `max`.
pub fn milliseconds(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        integer(min, max)(text)
            .map(Duration::from_millis)
            .map_err(|_| format!("expected whole milliseconds from {min} to {max}"))
    }
}

/// A value parser for `true` and `false`.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

/// A value parser for any non-empty text. `what` says in the error what the text names.
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
        #[arg(long, env, default_value = "1", value_parser = integer(1_u16, 9))]
        workers: u16,
        #[arg(long, env)]
        table_name: String,
        #[arg(long, env, hide_env_values = true, conflicts_with = "token_file", value_parser = integer(1_u8, 9))]
        token: Option<u8>,
        #[arg(long, env)]
        token_file: Option<String>,
    }

    #[derive(Debug, Parser)]
    enum Subcommand {
        Mark {
            #[arg(long, value_name = "PROGRAMS", value_parser = integer(0_u8, 9))]
            count: u8,
            #[arg(long, env = "REDIS_PORT", value_parser = integer(0_u8, 9))]
            port: Option<u8>,
        },
    }

    fn error_of(arguments: &[&str]) -> String {
        let all = ["tracker"].iter().chain(arguments);
        one_line::<Settings>(&Settings::try_parse_from(all).unwrap_err())
    }

    #[test]
    fn names_variable_value_and_accepted_values() {
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
    fn names_the_flag_of_a_setting_without_a_variable() {
        let error = |arguments: &[&str]| {
            let all = ["core-data", "mark"].iter().chain(arguments);
            one_line::<Subcommand>(&Subcommand::try_parse_from(all).unwrap_err())
        };
        assert_eq!(error(&["--count=x"]), r#"--count="x": expected an integer from 0 to 9"#);
        assert_eq!(error(&[]), "--count is required and not set; --help lists every setting");
        assert_eq!(
            error(&["--count=1", "--port=x"]),
            r#"REDIS_PORT="x": expected an integer from 0 to 9"#
        );
    }

    #[test]
    fn masks_the_password_in_a_url() {
        assert_eq!(masked_url("http://u:p@ss@h:1/x").unwrap(), "http://u:***@h:1/x");
        assert_eq!(masked_url("redis://h:1").unwrap(), "redis://h:1");
        assert_eq!(masked_url("abc"), None);
        assert_eq!(masked_url("# see https://h/\nk=secret"), None);
    }

    #[test]
    fn masks_values_that_help_hides() {
        for secret in ["hunter2", "# see https://h/\nk=hunter2"] {
            let arguments = ["--table-name=t", &format!("--token={secret}")];
            assert_eq!(error_of(&arguments), r#"TOKEN="***": expected an integer from 1 to 9"#);
        }
    }

    #[test]
    fn names_both_conflicting_settings() {
        assert_eq!(
            error_of(&["--table-name=t", "--token=1", "--token-file=f"]),
            "TOKEN: cannot be set together with TOKEN_FILE; set one"
        );
    }

    #[test]
    fn names_a_missing_setting() {
        assert_eq!(error_of(&[]), "TABLE_NAME is required and not set; --help lists every setting");
    }

    #[test]
    fn reports_an_unknown_flag_in_one_line() {
        assert_eq!(
            error_of(&["--frobnicate"]),
            "unexpected argument '--frobnicate' found; --help lists every setting"
        );
    }
}
