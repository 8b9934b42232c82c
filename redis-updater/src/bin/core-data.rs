//! Feeds core data, and shows what became of it.

use std::process::ExitCode;

use adtrack_runtime::cli;
use redis_updater::core_data::arguments::Arguments;
use redis_updater::core_data::run;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = match cli::parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    match run(&arguments.command).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("core-data: {failure}");
            failure.exit.into()
        }
    }
}
