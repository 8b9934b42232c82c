//! A phase of a scenario, as its TOML table.

use std::time::Duration;

use serde::Deserialize;

use super::value::{Count, Period, Rate};
use crate::schedule::Shape;

/// A `[[phase]]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Table")]
pub struct Phase(Shape);

impl Phase {
    /// How the rate changes during the phase.
    pub fn shape(self) -> Shape {
        self.0
    }

    /// The same phase with every rate multiplied by `by`.
    pub fn scale(self, by: f64) -> Self {
        Self(match self.0 {
            Shape::Constant { rate, duration } => Shape::Constant { rate: rate * by, duration },
            Shape::Ramp { from, to, duration } => {
                Shape::Ramp { from: from * by, to: to * by, duration }
            }
            Shape::Step { from, to, steps, duration } => {
                Shape::Step { from: from * by, to: to * by, steps, duration }
            }
            Shape::Spike { base, peak, before, rise, hold, after } => {
                Shape::Spike { base: base * by, peak: peak * by, before, rise, hold, after }
            }
        })
    }
}

impl From<Shape> for Phase {
    fn from(shape: Shape) -> Self {
        Self(shape)
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Constant,
    Ramp,
    Step,
    Spike,
}

/// All members that a phase may have. Its kind decides which of them it needs. One table instead of an
/// enum tagged by `kind`, because serde loses the positions of a tagged enum's values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kind: Kind,
    rate: Option<Rate>,
    from: Option<Rate>,
    to: Option<Rate>,
    steps: Option<Count<1_000>>,
    base: Option<Rate>,
    peak: Option<Rate>,
    duration: Option<Period>,
    before: Option<Period>,
    rise: Option<Period>,
    hold: Option<Period>,
    after: Option<Period>,
}

/// Why a phase's members do not make a phase of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum InvalidPhase {
    #[error("a phase of kind {kind:?} needs {member}")]
    Missing { kind: &'static str, member: &'static str },
    #[error("a phase of kind {kind:?} has no {member}; it has {}", .needed.join(", "))]
    Surplus { kind: &'static str, member: &'static str, needed: &'static [&'static str] },
}

impl Table {
    fn members(&self) -> [(&'static str, bool); 11] {
        [
            ("rate", self.rate.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("steps", self.steps.is_some()),
            ("base", self.base.is_some()),
            ("peak", self.peak.is_some()),
            ("duration", self.duration.is_some()),
            ("before", self.before.is_some()),
            ("rise", self.rise.is_some()),
            ("hold", self.hold.is_some()),
            ("after", self.after.is_some()),
        ]
    }

    /// Checks that the members `needed` are present, and no others.
    fn expect(
        &self,
        kind: &'static str,
        needed: &'static [&'static str],
    ) -> Result<(), InvalidPhase> {
        for (member, is_present) in self.members() {
            match (needed.contains(&member), is_present) {
                (true, false) => {
                    return Err(InvalidPhase::Missing { kind, member });
                }
                (false, true) => {
                    return Err(InvalidPhase::Surplus { kind, member, needed });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl TryFrom<Table> for Phase {
    type Error = InvalidPhase;

    fn try_from(table: Table) -> Result<Self, InvalidPhase> {
        match table.kind {
            Kind::Constant => table.expect("constant", &["rate", "duration"]),
            Kind::Ramp => table.expect("ramp", &["from", "to", "duration"]),
            Kind::Step => table.expect("step", &["from", "to", "steps", "duration"]),
            Kind::Spike => {
                table.expect("spike", &["base", "peak", "before", "rise", "hold", "after"])
            }
        }?;
        let rate = |value: Option<Rate>| value.map_or(0.0, |rate| rate.0);
        let period = |value: Option<Period>| value.map_or(Duration::ZERO, |period| period.0);
        Ok(Self(match table.kind {
            Kind::Constant => {
                Shape::Constant { rate: rate(table.rate), duration: period(table.duration) }
            }
            Kind::Ramp => Shape::Ramp {
                from: rate(table.from),
                to: rate(table.to),
                duration: period(table.duration),
            },
            Kind::Step => Shape::Step {
                from: rate(table.from),
                to: rate(table.to),
                steps: table.steps.map_or(2, |steps| steps.0),
                duration: period(table.duration),
            },
            Kind::Spike => Shape::Spike {
                base: rate(table.base),
                peak: rate(table.peak),
                before: period(table.before),
                rise: period(table.rise),
                hold: period(table.hold),
                after: period(table.after),
            },
        }))
    }
}
