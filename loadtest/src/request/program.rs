//! The programs of a scenario.

use crate::scenario::Scenario;

/// Id of the disabled program, without the scenario's prefix.
pub const DISABLED: &str = "disabled";

/// A program that requests can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Program id.
    pub id: String,
    /// Checksum; empty if the scenario only names the program by its id.
    pub checksum: String,
    /// Customer id; 0 if the scenario only names the program by its id.
    pub customer_id: u32,
}

/// The programs of a scenario, the most popular first.
pub fn programs(scenario: &Scenario) -> Vec<Program> {
    let given = scenario.programs.ids.iter().map(|id| Program {
        id: id.0.clone(),
        checksum: String::new(),
        customer_id: 0,
    });
    if !scenario.programs.ids.is_empty() {
        return given.collect();
    }
    let prefix = &scenario.programs.prefix.0;
    (0..scenario.programs.count.0)
        .map(|number| Program {
            id: format!("{prefix}{number}"),
            checksum: (100 + number).to_string(),
            customer_id: number % 100 + 1,
        })
        .collect()
}

/// The disabled program of a scenario.
pub fn disabled(scenario: &Scenario) -> Program {
    Program {
        id: format!("{}{DISABLED}", scenario.programs.prefix.0),
        checksum: "99".to_owned(),
        customer_id: 99,
    }
}
