//! `core-data get`: what Redis holds for a program.

use super::arguments::GetArguments;
use super::exit::{Exit, Failure};
use super::output;
use super::redis::{Held, Redis};

/// Prints it as JSON, with its version.
pub async fn run(arguments: &GetArguments) -> Result<Exit, Failure> {
    let program_id = &arguments.program_id;
    let redis = Redis::new(&arguments.redis)?;
    let reader = redis.connect().await?;
    match reader.read(std::slice::from_ref(program_id)).await?.pop() {
        Some(Held::Update(update)) => {
            output::line(update.to_json());
            Ok(Exit::Success)
        }
        Some(Held::Unreadable(problem)) => {
            let message = format!("what Redis holds for {program_id} is no program: {problem}");
            Err(Failure::new(Exit::Data, message))
        }
        Some(Held::Nothing) | None if reader.holds_core_data().await? => {
            let message =
                format!("{program_id} is not there: never published, or deleted long ago");
            Err(Failure::new(Exit::Differs, message))
        }
        Some(Held::Nothing) | None => Err(Failure::new(Exit::Differs, no_core_data())),
    }
}

/// Why nothing is there where nothing is there at all.
pub fn no_core_data() -> String {
    "Redis holds no core data at all (the key adtrack:loaded is missing): nothing was published yet, \
     or it came back empty and has to be fed anew"
        .to_owned()
}
