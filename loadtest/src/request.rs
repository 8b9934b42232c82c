//! The requests of a scenario: draws them at random and writes them as bytes.

use crate::popularity::Zipf;
use crate::scenario::value::Status;
use crate::scenario::{Connections, Endpoint, Method, Scenario};

/// Id of the disabled program, without the scenario's prefix.
pub const DISABLED: &str = "disabled";
/// Number of different ids of unknown programs.
const UNKNOWN_IDS: u32 = 1_000;

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

/// The variant of a request: a valid one, or one that the tracker has to treat in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Plain,
    Disabled,
    Unknown,
    Mismatching,
}

impl Flavour {
    const ALL: [Self; 4] = [Self::Plain, Self::Disabled, Self::Unknown, Self::Mismatching];
}

/// A kind of request: an endpoint and a variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Name in reports.
    pub name: String,
    /// Whether it is a `HEAD` request, whose response has no body.
    pub is_head: bool,
    /// Number of events that a 2xx or 3xx response accepts.
    pub events: u64,
    expect: Vec<u16>,
}

impl Kind {
    fn new(endpoint: &Endpoint, flavour: Flavour) -> Self {
        let (note, expect) = match flavour {
            Flavour::Disabled if !endpoint.expect_disabled.is_empty() => {
                (", disabled program", &endpoint.expect_disabled)
            }
            Flavour::Disabled => (", disabled program", &endpoint.expect),
            Flavour::Plain => ("", &endpoint.expect),
            Flavour::Unknown => (", unknown program", &endpoint.expect_unknown),
            Flavour::Mismatching => (", wrong checksum", &endpoint.expect_mismatching),
        };
        Self {
            name: format!("{}{note}", endpoint.name.0),
            is_head: endpoint.method == Method::Head,
            events: endpoint.events(),
            expect: expect.iter().map(|Status(status)| *status).collect(),
        }
    }

    /// The statuses that the scenario expects.
    pub fn expected_statuses(&self) -> impl Iterator<Item = u16> {
        self.expect.iter().copied()
    }

    /// Whether the scenario expects this status.
    pub fn expects(&self, status: u16) -> bool {
        self.expect.contains(&status)
    }
}

/// A source of random requests of a scenario to a host.
#[derive(Debug)]
pub struct Traffic {
    /// The kinds of request. Elsewhere, a kind is its index in here.
    pub kinds: Vec<Kind>,
    endpoints: Vec<EndpointTemplate>,
    /// Cumulative weights of the endpoints; the last is 1.
    weights: Vec<f64>,
    programs: Vec<Program>,
    disabled: Program,
    unknown_prefix: String,
    popularity: Zipf,
    /// Cumulative shares of disabled, unknown and mismatching requests.
    shares: [f64; 3],
    /// What follows the path, for each user agent.
    heads: Vec<String>,
}

#[derive(Debug)]
struct EndpointTemplate {
    method: &'static str,
    path: Template,
    body: Option<Template>,
    batch: u32,
    content_type: String,
}

impl Traffic {
    /// Requests to `host` (the value of the `Host` header). Every user agent ends in `mark`, which
    /// identifies the run's rows.
    pub fn new(scenario: &Scenario, host: &str, mark: &str) -> Self {
        let requests = &scenario.requests;
        let close = match requests.connections {
            Connections::KeepAlive => "",
            Connections::New => "Connection: close\r\n",
        };
        let sum: f64 = scenario.endpoints.iter().map(|endpoint| endpoint.weight.0).sum();
        let mut cumulative = 0.0;
        Self {
            kinds: scenario
                .endpoints
                .iter()
                .flat_map(|endpoint| Flavour::ALL.map(|flavour| Kind::new(endpoint, flavour)))
                .collect(),
            weights: scenario
                .endpoints
                .iter()
                .map(|endpoint| {
                    cumulative += endpoint.weight.0 / sum;
                    cumulative
                })
                .collect(),
            endpoints: scenario.endpoints.iter().map(EndpointTemplate::new).collect(),
            programs: programs(scenario),
            disabled: disabled(scenario),
            unknown_prefix: format!("{}unknown-", scenario.programs.prefix.0),
            popularity: Zipf::new(scenario.program_count(), scenario.programs.zipf.0),
            shares: [
                requests.disabled.0,
                requests.disabled.0 + requests.unknown.0,
                requests.disabled.0 + requests.unknown.0 + requests.mismatching.0,
            ],
            heads: requests
                .user_agents
                .iter()
                .map(|agent| {
                    let agent = &agent.0;
                    format!(" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent} {mark}\r\n{close}")
                })
                .collect(),
        }
    }

    /// Draws a request and appends it to `bytes`. Returns the index of its kind in `kinds`.
    pub fn write(&self, random: &mut fastrand::Rng, bytes: &mut Vec<u8>) -> usize {
        let dice = random.f64();
        let endpoint = self.weights.partition_point(|&up_to| up_to <= dice);
        let endpoint = endpoint.min(self.endpoints.len() - 1);
        let dice = random.f64();
        let flavour = match self.shares.iter().position(|&up_to| dice < up_to) {
            Some(0) => Flavour::Disabled,
            Some(1) => Flavour::Unknown,
            Some(_) => Flavour::Mismatching,
            None => Flavour::Plain,
        };
        let template = &self.endpoints[endpoint];
        bytes.extend_from_slice(template.method.as_bytes());
        bytes.push(b' ');
        self.fill(&template.path, flavour, random, bytes);
        if flavour == Flavour::Mismatching {
            bytes.push(if template.path.has_query { b'&' } else { b'?' });
            bytes.extend_from_slice(b"checksum=mismatch");
        }
        bytes.extend_from_slice(self.heads[random.usize(..self.heads.len())].as_bytes());
        if let Some(body) = &template.body {
            let body = self.body(body, template.batch, flavour, random);
            let length = body.len();
            let head = format!(
                "Content-Type: {}\r\nContent-Length: {length}\r\n\r\n",
                template.content_type
            );
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&body);
        } else {
            bytes.extend_from_slice(b"\r\n");
        }
        endpoint * Flavour::ALL.len() + flavour as usize
    }

    fn body(
        &self,
        template: &Template,
        batch: u32,
        flavour: Flavour,
        random: &mut fastrand::Rng,
    ) -> Vec<u8> {
        let mut body = Vec::new();
        if batch == 1 {
            self.fill(template, flavour, random, &mut body);
            return body;
        }
        for number in 0..batch {
            body.push(if number == 0 { b'[' } else { b',' });
            self.fill(template, flavour, random, &mut body);
        }
        body.push(b']');
        body
    }

    fn fill(
        &self,
        template: &Template,
        flavour: Flavour,
        random: &mut fastrand::Rng,
        bytes: &mut Vec<u8>,
    ) {
        let unknown;
        let program = match flavour {
            Flavour::Disabled => &self.disabled,
            Flavour::Unknown => {
                unknown = Program {
                    id: format!("{}{}", self.unknown_prefix, random.u32(..UNKNOWN_IDS)),
                    checksum: "0".to_owned(),
                    customer_id: 0,
                };
                &unknown
            }
            Flavour::Plain | Flavour::Mismatching => &self.programs[self.popularity.draw(random)],
        };
        for part in &template.parts {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::ProgramId => bytes.extend_from_slice(program.id.as_bytes()),
                Part::Checksum => bytes.extend_from_slice(program.checksum.as_bytes()),
                Part::CustomerId => {
                    bytes.extend_from_slice(program.customer_id.to_string().as_bytes());
                }
                Part::Random => {
                    bytes.extend_from_slice(format!("{:016x}", random.u64(..)).as_bytes());
                }
            }
        }
    }
}

impl EndpointTemplate {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            method: endpoint.method.name(),
            path: Template::new(&endpoint.path.0),
            body: endpoint.body.as_deref().map(Template::new),
            batch: endpoint.batch.0,
            content_type: endpoint.content_type.0.clone(),
        }
    }
}

/// Text with placeholders for what differs from request to request.
#[derive(Debug)]
struct Template {
    parts: Vec<Part>,
    has_query: bool,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    ProgramId,
    Checksum,
    CustomerId,
    Random,
}

impl Template {
    fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        let placeholders = [
            ("{programId}", (|| Part::ProgramId) as fn() -> Part),
            ("{checksum}", || Part::Checksum),
            ("{customerId}", || Part::CustomerId),
            ("{random}", || Part::Random),
        ];
        while let Some((at, name, part)) = placeholders
            .iter()
            .filter_map(|(name, part)| Some((rest.find(name)?, *name, part)))
            .min_by_key(|(at, _, _)| *at)
        {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            parts.push(part());
            rest = &rest[at + name.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Self { parts, has_query: text.contains('?') }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASE: &str =
        "description = \"d\"\n[[phase]]\nkind = \"constant\"\nrate = 10\nduration = \"1s\"\n";

    fn requests(scenario: &str, count: usize) -> (Traffic, Vec<(usize, String)>) {
        let scenario = Scenario::parse(&format!("{PHASE}{scenario}"), "test").unwrap();
        let traffic = Traffic::new(&scenario, "host:80", "mark");
        let mut random = fastrand::Rng::with_seed(3);
        let drawn = (0..count)
            .map(|_| {
                let mut bytes = Vec::new();
                let kind = traffic.write(&mut random, &mut bytes);
                (kind, String::from_utf8(bytes).unwrap())
            })
            .collect();
        (traffic, drawn)
    }

    #[test]
    fn writes_an_http_request() {
        let (_, drawn) =
            requests("[programs]\ncount = 1\n[requests]\nuser_agents = [\"a b\"]\n", 1);
        assert_eq!(
            drawn[0].1,
            "GET /event/loadtest-0 HTTP/1.1\r\nHost: host:80\r\nUser-Agent: a b mark\r\n\r\n"
        );
    }

    #[test]
    fn draws_each_kind_by_its_share() {
        let (traffic, drawn) =
            requests("[requests]\nunknown = 0.2\ndisabled = 0.1\nmismatching = 0.3\n", 20_000);
        let share = |name: &str, needle: &str| {
            let of_kind: Vec<_> =
                drawn.iter().filter(|(kind, _)| traffic.kinds[*kind].name == name).collect();
            assert!(of_kind.iter().all(|(_, text)| text.contains(needle)), "{name}");
            of_kind.len() as f64 / drawn.len() as f64
        };
        for (name, needle, expected) in [
            ("event", "GET /event/loadtest-", 0.4),
            ("event, unknown program", "GET /event/loadtest-unknown-", 0.2),
            ("event, disabled program", "GET /event/loadtest-disabled ", 0.1),
            ("event, wrong checksum", "?checksum=mismatch HTTP/1.1", 0.3),
        ] {
            let share = share(name, needle);
            assert!((share - expected).abs() < 0.02, "{name}: {share}");
        }
        let unknown = traffic.kinds.iter().find(|kind| kind.name.contains("unknown")).unwrap();
        assert!(unknown.expects(404) && !unknown.expects(200));
    }

    #[test]
    fn writes_a_batch_as_an_array() {
        let (traffic, drawn) = requests(
            "[programs]\ncount = 1\n[[endpoint]]\nname = \"batch\"\nmethod = \"POST\"\npath = \"/events\"\nbatch = 2\nbody = '{\"programId\":\"{programId}\",\"customerId\":{customerId}}'\n",
            1,
        );
        let (head, body) = drawn[0].1.split_once("\r\n\r\n").unwrap();
        let one = r#"{"programId":"loadtest-0","customerId":1}"#;
        assert_eq!(body, format!("[{one},{one}]"));
        assert!(head.starts_with("POST /events HTTP/1.1\r\n"), "{head}");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        assert_eq!(traffic.kinds[0].events, 2);
    }

    #[test]
    fn draws_endpoints_by_weight() {
        let (_, drawn) = requests(
            "[[endpoint]]\nname = \"a\"\npath = \"/a?p={programId}\"\nweight = 3\n[[endpoint]]\nname = \"b\"\nmethod = \"HEAD\"\npath = \"/b\"\n",
            8_000,
        );
        let heads = drawn.iter().filter(|(_, text)| text.starts_with("HEAD /b ")).count();
        assert!((1_800..2_200).contains(&heads), "{heads}");
    }

    #[test]
    fn finds_placeholders_in_any_order() {
        let template = Template::new("/{random}/{programId}");
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(template.parts, [text("/"), Part::Random, text("/"), Part::ProgramId]);
    }
}
