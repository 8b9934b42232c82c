//! `--fail-if 'p99>10%'` of a comparison: conditions on the change of a figure. Pure.

use std::str::FromStr;

use super::FIGURES;

/// A condition under which a comparison fails: a figure changed by more than so much.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub(super) text: String,
    /// Index in FIGURES.
    pub(super) figure: usize,
    /// Whether the change fails if it is above `change`; else if it is below.
    is_above: bool,
    /// As a share: 0.1 is 10 %.
    change: f64,
}

/// Why a text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a change such as p99>10% or rate<-5%, of one of {}",
    FIGURES.map(|figure| figure.key).join(", ")
)]
pub struct InvalidCondition;

impl FromStr for Condition {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, InvalidCondition> {
        let compact: String = text.split_whitespace().collect();
        let at = compact.find(['>', '<']).ok_or(InvalidCondition)?;
        let (key, rest) = compact.split_at(at);
        let figure = FIGURES.iter().position(|figure| figure.key == key).ok_or(InvalidCondition)?;
        let number = rest[1..].strip_suffix('%').ok_or(InvalidCondition)?;
        let percent: f64 = number.parse().map_err(|_| InvalidCondition)?;
        if !percent.is_finite() {
            return Err(InvalidCondition);
        }
        let is_above = rest.starts_with('>');
        Ok(Self { figure, is_above, change: percent / 100.0, text: compact })
    }
}

impl Condition {
    /// Whether the change from one value to the other crosses the condition.
    pub(super) fn is_crossed(&self, from: f64, to: f64) -> bool {
        let change = if from == to { 0.0 } else { (to - from) / from };
        if self.is_above { change > self.change } else { change < self.change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossed(text: &str, from: f64, to: f64) -> bool {
        text.parse::<Condition>().unwrap().is_crossed(from, to)
    }

    #[test]
    fn compares_the_change_in_percent() {
        assert!(crossed("p99>10%", 100.0, 111.0) && !crossed("p99 > 10%", 100.0, 109.0));
        assert!(crossed("rate<-5%", 100.0, 94.0) && !crossed("rate<-5%", 100.0, 96.0));
        assert!(crossed("errors>0%", 0.0, 0.1) && !crossed("errors>0%", 0.0, 0.0));
    }

    #[test]
    fn explains_what_is_not_a_condition() {
        for text in ["", "p99", "p99>5", "p98>5%", "p99>x%", "p99>nan%", "p99=5%"] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(error.contains("such as p99>10%"), "{error}");
        }
    }
}
