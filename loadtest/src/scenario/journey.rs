//! Endpoints that follow others: what a visitor does after an impression or a click.

use super::endpoint::{Endpoint, MAX_STEPS, Method};
use super::error::Conflict;

/// Checks that every step follows one that is above it, so that journeys end, and that the ids it names are known by
/// then.
pub(super) fn check(endpoints: &[Endpoint]) -> Result<(), Conflict> {
    let is_journey = |endpoint: &Endpoint| endpoint.after.is_some() || endpoint.repeat.0 > 0.0;
    if endpoints.iter().any(is_journey) && endpoints.len() > MAX_STEPS {
        return Err(Conflict::TooManySteps);
    }
    for (number, endpoint) in endpoints.iter().enumerate() {
        let before = ancestors(&endpoints[..number], endpoint);
        let after = endpoint.after.iter().map(|name| name.0.as_str());
        for needed in after.chain(endpoint.referenced()) {
            let Some(step) = before.iter().find(|step| step.name.0 == needed) else {
                return Err(Conflict::NotBefore(endpoint.name.0.clone(), needed.to_owned()));
            };
            if !has_id(step) {
                return Err(Conflict::NotFollowable(step.name.0.clone()));
            }
        }
        if endpoint.repeat.0 > 0.0 && !has_id(endpoint) {
            return Err(Conflict::NotFollowable(endpoint.name.0.clone()));
        }
    }
    Ok(())
}

/// Requests that each request of the schedule leads to on average, itself included, if all are accepted.
pub(super) fn requests_per_arrival(endpoints: &[Endpoint]) -> f64 {
    let first = |endpoint: &&Endpoint| endpoint.after.is_none();
    let weights: f64 = endpoints.iter().filter(first).map(|endpoint| endpoint.weight.0).sum();
    let mut counts: Vec<f64> = Vec::new();
    for endpoint in endpoints {
        let count = match &endpoint.after {
            None => endpoint.weight.0 / weights.max(f64::MIN_POSITIVE),
            // The parent is above: it has a count.
            Some(name) => {
                let parent = endpoints.iter().position(|other| other.name == *name);
                let parent = parent.and_then(|parent| counts.get(parent)).copied();
                parent.unwrap_or(0.0) * endpoint.probability.0
            }
        };
        counts.push(count);
    }
    let with_repeats = counts.iter().zip(endpoints).map(|(count, e)| count * (1.0 + e.repeat.0));
    with_repeats.sum()
}

/// Whether each accepted response has the id of one event.
fn has_id(endpoint: &Endpoint) -> bool {
    endpoint.recorded && endpoint.batch.0 == 1 && endpoint.method != Method::Head
}

/// The steps before `endpoint`, the last one first, as far as they are among `above`.
fn ancestors<'a>(above: &'a [Endpoint], endpoint: &Endpoint) -> Vec<&'a Endpoint> {
    let parent = |step: &Endpoint| {
        let name = step.after.as_ref()?;
        above.iter().find(|other| other.name == *name)
    };
    // A step among `above` may name one below it; the check of that step fails.
    std::iter::successors(parent(endpoint), |step| parent(step)).take(MAX_STEPS).collect()
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    fn error(endpoints: &str) -> String {
        let phase =
            "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 10\nduration = \"1s\"\n";
        match Scenario::parse(&format!("{phase}{endpoints}"), "f") {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn step(name: &str, path: &str, rest: &str) -> String {
        format!("[[endpoint]]\nname = \"{name}\"\npath = \"{path}\"\n{rest}\n")
    }

    #[test]
    fn steps_follow_steps_above_them() {
        let view = step("view", "/v", "");
        let click = step("click", "/c?impression_id={view.id}", "after = \"view\"");
        let buy =
            step("buy", "/b?click_id={click.id}&v={view.id}", "after = \"click\"\nrepeat = 0.1");
        assert_eq!(error(&format!("{view}{click}{buy}")), "");
        for (endpoints, expected) in [
            (format!("{click}{view}"), "endpoint \"click\" needs \"view\" before it"),
            (
                format!("{view}{}", step("c", "/c", "after = \"c\"")),
                "endpoint \"c\" needs \"c\" before it",
            ),
            (format!("{view}{}", step("c", "/c?i={view.id}", "")), "endpoint \"c\" needs \"view\""),
            (
                format!("{view}{}", step("c", "/c?i={other.id}", "after = \"view\"")),
                "needs \"other\"",
            ),
            (step("h", "/h", "method = \"HEAD\"\nrepeat = 0.5"), "\"h\" cannot be followed"),
            (click.replace("after = \"view\"", ""), "endpoint \"click\" needs \"view\""),
            (step("a", "/a", "headers = [\"no header\"]"), "expected a header such as"),
            (step("a", "/a", "headers = [\"X: {adress}\"]"), "expected one of the placeholders"),
        ] {
            assert!(error(&endpoints).contains(expected), "{expected}: {}", error(&endpoints));
        }
        let scenario = format!(
            "{view}{}{}",
            step("a", "/a", "weight = 3"),
            click.replace("after", "probability = 0.5\nafter")
        );
        let phase =
            "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 10\nduration = \"1s\"\n";
        let scenario = Scenario::parse(&format!("{phase}{scenario}"), "f").unwrap();
        assert!((super::requests_per_arrival(&scenario.endpoints) - 1.125).abs() < 1e-9);
        let many: String = (0..9).map(|n| step(&format!("e{n}"), "/e", "")).collect();
        assert_eq!(error(&many), "");
        assert!(
            error(&format!("{many}{}", step("z", "/z", "after = \"e0\"")))
                .contains("up to 8 endpoints")
        );
    }
}
