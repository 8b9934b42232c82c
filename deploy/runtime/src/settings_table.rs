//! Formats a program's settings as Markdown tables for docs/CONFIGURATION.md. Each program has a test that
//! compares the page with its `--help`.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

/// The page's path, relative to the workspace.
const PAGE: &str = "docs/CONFIGURATION.md";
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Why the page does not document a program's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsTableError {
    /// The page cannot be read or written.
    #[error("{PAGE}: {0}")]
    Page(std::io::ErrorKind),
    /// The page lacks one of the two comments around the program's section.
    #[error("{PAGE}: no line `{0}`")]
    NoComment(String),
    /// The section is out of date.
    #[error("{PAGE} differs from {0}'s settings; run the test with UPDATE_DOCS=1")]
    OutOfDate(String),
}

impl From<std::io::Error> for SettingsTableError {
    fn from(error: std::io::Error) -> Self {
        Self::Page(error.kind())
    }
}

/// Lists the settings of `command` that have an environment variable, one table per heading.
pub fn markdown(command: &Command) -> String {
    let mut text = String::new();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
        if !headings.contains(&argument.get_help_heading()) {
            headings.push(argument.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            let _ = write!(text, "**{heading}**\n\n");
        }
        text.push_str("| variable | default | |\n|---|---|---|\n");
        for argument in command.get_arguments() {
            if argument.get_env().is_some() && argument.get_help_heading() == heading {
                text.push_str(&row(argument));
            }
        }
        text.push('\n');
    }
    text
}

fn row(argument: &Arg) -> String {
    let name = argument.get_env().map(|name| name.to_string_lossy()).unwrap_or_default();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (help, stated) = match help.rsplit_once("[default: ") {
        Some((help, default)) => (help.trim().to_owned(), default.trim_end_matches(']').to_owned()),
        None => (help, String::new()),
    };
    let help = help.trim_end_matches('.');
    let values: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = match values.join(",") {
        _ if argument.is_required_set() => "required".to_owned(),
        value if !value.is_empty() => format!("`{value}`"),
        _ if stated.contains("://") => format!("`{stated}`"),
        _ => stated,
    };
    format!("| `{name}` | {default} | {} |\n", help.replace('|', "\\|"))
}

/// Compares the page's section on `program`, which is between two comments with its name, with the
/// settings in `Config`. If the environment has `UPDATE_DOCS`, rewrites the section instead.
pub fn check<Config: CommandFactory>(program: &str) -> Result<(), SettingsTableError> {
    let path = format!("{WORKSPACE}/{PAGE}");
    let page = std::fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- {program} -->"), format!("<!-- /{program} -->"));
    let no = |comment: &str| SettingsTableError::NoComment(comment.to_owned());
    let (head, rest) = page.split_once(&format!("{begin}\n\n")).ok_or_else(|| no(&begin))?;
    let (section, tail) = rest.split_once(&end).ok_or_else(|| no(&end))?;
    let expected = markdown(&Config::command());
    if section == expected {
        return Ok(());
    }
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return Err(SettingsTableError::OutOfDate(program.to_owned()));
    }
    Ok(std::fs::write(&path, format!("{head}{begin}\n\n{expected}{end}{tail}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_variables_by_heading_with_their_defaults() {
        let command = Command::new("x")
            .arg(Arg::new("a").long("a").env("A_ADDR").default_value("1:2").help("Address."))
            .arg(Arg::new("b").long("b").env("B_KEY").required(true).help("Key, a|b."))
            .arg(
                Arg::new("c")
                    .long("c")
                    .env("C_CPUS")
                    .help_heading("More")
                    .help("Threads. [default: cores]"),
            )
            .arg(Arg::new("d").long("d").help("Has no variable."));
        let expected = "| variable | default | |\n|---|---|---|\n\
                        | `A_ADDR` | `1:2` | Address |\n| `B_KEY` | required | Key, a\\|b |\n\n\
                        **More**\n\n| variable | default | |\n|---|---|---|\n\
                        | `C_CPUS` | cores | Threads |\n\n";
        assert_eq!(markdown(&command), expected);
    }
}
