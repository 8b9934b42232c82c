//! `core-data get`: prints what Redis holds for a program.

use adtrack_runtime::output;

use super::arguments::GetArguments;
use super::exit::{Exit, Failure};
use super::redis::{Redis, StoredValue};

pub async fn run(arguments: &GetArguments) -> Result<Exit, Failure> {
    let program_id = &arguments.program_id;
    let redis = Redis::new(&arguments.redis)?;
    let reader = redis.connect().await?;
    match reader.read(std::slice::from_ref(program_id)).await?.pop() {
        Some(StoredValue::Update(update)) => {
            output::line(update.to_json());
            Ok(Exit::Success)
        }
        Some(StoredValue::Unreadable(problem)) => {
            let message =
                format!("what Redis holds for {program_id} is not a valid program: {problem}");
            Err(Failure::new(Exit::Data, message))
        }
        Some(StoredValue::Nothing) | None if reader.holds_core_data().await? => {
            let message = format!(
                "Redis does not hold {program_id}: it was never published, or deleted long ago"
            );
            Err(Failure::new(Exit::Differs, message))
        }
        Some(StoredValue::Nothing) | None => Err(Failure::new(Exit::Differs, no_core_data())),
    }
}

/// The message for a Redis that is not marked as holding core data.
pub fn no_core_data() -> String {
    "Redis may hold no core data at all (the key adtrack:loaded is missing): nothing was published yet, or \
     Redis restarted empty; publish all core data, then run core-data mark-loaded"
        .to_owned()
}
