//! The texts of a scenario's requests, with placeholders for what differs from request to request.

use crate::scenario::{Endpoint, next_placeholder};

/// Ends of texts after which an id links an event to the one that led to it.
const LINKS: [&str; 4] = ["click_id=", "impression_id=", "\"clickId\":\"", "\"impressionId\":\""];

/// The variant of a request: a valid one, or one that the tracker has to treat in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Plain,
    Disabled,
    Unknown,
    Mismatching,
}

impl Flavour {
    pub(super) const ALL: [Self; 4] =
        [Self::Plain, Self::Disabled, Self::Unknown, Self::Mismatching];
}

/// A request that may follow another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Follower {
    /// Index of its kind.
    pub kind: usize,
    /// Probability that it follows.
    pub probability: f64,
    /// How long after the response, on average, in nanoseconds.
    pub delay: f64,
}

#[derive(Debug)]
pub(super) struct EndpointTemplate {
    pub(super) method: &'static str,
    pub(super) path: Template,
    pub(super) headers: Vec<Template>,
    pub(super) body: Option<Template>,
    pub(super) batch: u32,
    pub(super) content_type: String,
    pub(super) followers: Vec<Follower>,
    /// The endpoint to whose event the row has to be linked.
    pub(super) link: Option<usize>,
}

impl EndpointTemplate {
    pub(super) fn all(endpoints: &[Endpoint]) -> Vec<Self> {
        let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.0.as_str()).collect();
        endpoints.iter().map(|endpoint| Self::new(endpoint, endpoints, &names)).collect()
    }

    fn new(endpoint: &Endpoint, endpoints: &[Endpoint], names: &[&str]) -> Self {
        let path = Template::new(&endpoint.path.0, names);
        let body = endpoint.body.as_ref().map(|body| Template::new(&body.0, names));
        let follows =
            |(_, other): &(usize, &Endpoint)| other.after.as_ref() == Some(&endpoint.name);
        let followers =
            endpoints.iter().enumerate().filter(follows).map(|(index, other)| Follower {
                kind: index * Flavour::ALL.len() + Flavour::Plain as usize,
                probability: other.probability.0,
                delay: other.delay.0.as_nanos() as f64,
            });
        Self {
            method: endpoint.method.name(),
            link: path.link().or_else(|| body.as_ref().and_then(Template::link)),
            path,
            headers: endpoint.headers.iter().map(|line| Template::new(&line.0, names)).collect(),
            body,
            batch: endpoint.batch.0,
            content_type: endpoint.content_type.0.clone(),
            followers: followers.collect(),
        }
    }
}

/// Text with placeholders for what differs from request to request.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) parts: Vec<Part>,
    pub(super) has_query: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    ProgramId,
    Checksum,
    CustomerId,
    Random,
    Visitor,
    Address,
    /// The id of the visitor's event of this endpoint.
    IdOf(usize),
}

impl Template {
    /// `endpoints`: the names of the scenario's endpoints.
    fn new(text: &str, endpoints: &[&str]) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((range, name)) = next_placeholder(rest) {
            let (before, after) = (&rest[..range.start], &rest[range.end..]);
            let part = match name {
                "programId" => Part::ProgramId,
                "checksum" => Part::Checksum,
                "customerId" => Part::CustomerId,
                "random" => Part::Random,
                "visitor" => Part::Visitor,
                "address" => Part::Address,
                other => {
                    let step = other.strip_suffix(".id");
                    let step = step.and_then(|name| endpoints.iter().position(|e| *e == name));
                    // The scenario was checked: there is no other placeholder.
                    step.map_or_else(|| Part::Text(format!("{{{other}}}")), Part::IdOf)
                }
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Self { parts, has_query: text.contains('?') }
    }

    /// The endpoint whose id follows the name of a link: a conversion that names a click and an impression is linked
    /// to the click.
    fn link(&self) -> Option<usize> {
        let pairs = self.parts.iter().zip(self.parts.iter().skip(1));
        let links = pairs.filter_map(|(text, id)| match (text, id) {
            (Part::Text(text), Part::IdOf(step)) => {
                LINKS.iter().position(|link| text.ends_with(link)).map(|rank| (rank % 2, *step))
            }
            _ => None,
        });
        links.min().map(|(_, step)| step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_placeholders_in_any_order() {
        let template = Template::new("/{random}/{programId}?c={b.id}", &["a", "b"]);
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            template.parts,
            [text("/"), Part::Random, text("/"), Part::ProgramId, text("?c="), Part::IdOf(1)]
        );
    }

    #[test]
    fn a_conversion_is_linked_to_its_click() {
        let link = |text: &str| Template::new(text, &["view", "click"]).link();
        assert_eq!(link("/c?impression_id={view.id}"), Some(0));
        assert_eq!(link("/b?impression_id={view.id}&click_id={click.id}"), Some(1));
        assert_eq!(link("{\"clickId\":\"{click.id}\"}"), Some(1));
        assert_eq!(link("/b?sub={click.id}"), None);
    }
}
