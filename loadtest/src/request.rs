//! The requests of a scenario: draws them at random and writes them as bytes.

use crate::popularity::Zipf;
use crate::scenario::value::Status;
use crate::scenario::{Connections, Endpoint, MAX_STEPS, Method, Scenario};

mod program;
mod template;

pub use program::{DISABLED, Program, disabled, programs};
pub use template::Follower;
use template::{EndpointTemplate, Flavour, Part, Template};

/// Number of different ids of unknown programs.
const UNKNOWN_IDS: u32 = 1_000;

/// Somebody who makes requests: each of a visitor's requests names the same program and has the same user agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    number: u64,
    program: usize,
    user_agent: usize,
    /// Ids of the visitor's events by endpoint; 0 if there is none yet.
    pub ids: [u128; MAX_STEPS],
}

/// A kind of request: an endpoint and a variant.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// Name in reports.
    pub name: String,
    /// Name of its endpoint.
    pub endpoint: String,
    /// Whether it is a `HEAD` request, whose response has no body.
    pub is_head: bool,
    /// Share of accepted requests that are sent once more, and how long after, on average, in nanoseconds.
    pub repeat: (f64, f64),
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
            endpoint: endpoint.name.0.clone(),
            is_head: endpoint.method == Method::Head,
            repeat: match flavour {
                Flavour::Plain => (endpoint.repeat.0, endpoint.delay.0.as_nanos() as f64),
                _ => (0.0, 0.0),
            },
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
    /// The last endpoint with a weight: rounding may leave the sum of weights below 1.
    last_drawn: usize,
    programs: Vec<Program>,
    disabled: Program,
    unknown_prefix: String,
    popularity: Zipf,
    /// Cumulative shares of disabled, unknown and mismatching requests.
    shares: [f64; 3],
    /// What follows the path, for each user agent.
    heads: Vec<String>,
    /// Id of the run: it is part of every `{random}`, so that no two runs send the same.
    run_id: String,
}

/// The end of the user agents of a run's requests, which identifies its rows.
pub fn mark(run_id: &str) -> String {
    format!("run/{run_id}")
}

impl Traffic {
    /// Requests of the run `run_id` to `host` (the value of the `Host` header). Every user agent ends in
    /// the run's [`mark`].
    pub fn new(scenario: &Scenario, host: &str, run_id: &str) -> Self {
        let requests = &scenario.requests;
        let mark = mark(run_id);
        let close = match requests.connections {
            Connections::KeepAlive => "",
            Connections::New => "Connection: close\r\n",
        };
        // Those that follow others are not drawn.
        let weight = |endpoint: &Endpoint| {
            if endpoint.after.is_some() { 0.0 } else { endpoint.weight.0 }
        };
        let sum: f64 = scenario.endpoints.iter().map(weight).sum();
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
                    cumulative += weight(endpoint) / sum;
                    cumulative
                })
                .collect(),
            endpoints: EndpointTemplate::all(&scenario.endpoints),
            last_drawn: scenario.endpoints.iter().rposition(|e| weight(e) > 0.0).unwrap_or(0),
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
            run_id: run_id.to_owned(),
        }
    }

    /// Draws a kind of request: an index in `kinds`.
    pub fn draw_kind(&self, random: &mut fastrand::Rng) -> usize {
        let dice = random.f64();
        let endpoint = self.weights.partition_point(|&up_to| up_to <= dice);
        let endpoint = endpoint.min(self.last_drawn);
        let dice = random.f64();
        let flavour = match self.shares.iter().position(|&up_to| dice < up_to) {
            Some(0) => Flavour::Disabled,
            Some(1) => Flavour::Unknown,
            Some(_) => Flavour::Mismatching,
            None => Flavour::Plain,
        };
        endpoint * Flavour::ALL.len() + flavour as usize
    }

    /// Draws a visitor.
    pub fn draw_visitor(&self, random: &mut fastrand::Rng) -> Visitor {
        Visitor {
            number: random.u64(..),
            program: self.popularity.draw(random),
            user_agent: random.usize(..self.heads.len()),
            ids: [0; MAX_STEPS],
        }
    }

    /// The kinds of request that may follow an accepted one of this kind.
    pub fn followers(&self, kind: usize) -> &[Follower] {
        if kind % Flavour::ALL.len() == Flavour::Plain as usize {
            &self.endpoints[kind / Flavour::ALL.len()].followers
        } else {
            &[]
        }
    }

    /// Number of the endpoint of a kind: the position of its ids in [`Visitor::ids`].
    pub fn step(&self, kind: usize) -> usize {
        kind / Flavour::ALL.len()
    }

    /// The id that the row of an event of this kind has to be linked to; 0 if it is not.
    pub fn link(&self, kind: usize, visitor: &Visitor) -> u128 {
        let endpoint = &self.endpoints[kind / Flavour::ALL.len()];
        endpoint.link.map_or(0, |step| visitor.ids[step])
    }

    /// Appends a request of this kind by `visitor` to `bytes`. The same `random` gives the same bytes.
    pub fn write(
        &self,
        kind: usize,
        visitor: &Visitor,
        random: &mut fastrand::Rng,
        bytes: &mut Vec<u8>,
    ) {
        let endpoint = kind / Flavour::ALL.len();
        let flavour = Flavour::ALL[kind % Flavour::ALL.len()];
        let template = &self.endpoints[endpoint];
        bytes.extend_from_slice(template.method.as_bytes());
        bytes.push(b' ');
        self.fill(&template.path, flavour, visitor, random, bytes);
        if flavour == Flavour::Mismatching {
            bytes.push(if template.path.has_query { b'&' } else { b'?' });
            bytes.extend_from_slice(b"checksum=mismatch");
        }
        bytes.extend_from_slice(self.heads[visitor.user_agent].as_bytes());
        for header in &template.headers {
            self.fill(header, flavour, visitor, random, bytes);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &template.body {
            let body = self.body(body, template.batch, flavour, visitor, random);
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
    }

    fn body(
        &self,
        template: &Template,
        batch: u32,
        flavour: Flavour,
        visitor: &Visitor,
        random: &mut fastrand::Rng,
    ) -> Vec<u8> {
        let mut body = Vec::new();
        if batch == 1 {
            self.fill(template, flavour, visitor, random, &mut body);
            return body;
        }
        for number in 0..batch {
            body.push(if number == 0 { b'[' } else { b',' });
            // Each event of a batch is another visitor's.
            let visitor = self.draw_visitor(random);
            self.fill(template, flavour, &visitor, random, &mut body);
        }
        body.push(b']');
        body
    }

    fn fill(
        &self,
        template: &Template,
        flavour: Flavour,
        visitor: &Visitor,
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
            Flavour::Plain | Flavour::Mismatching => &self.programs[visitor.program],
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
                    bytes.extend_from_slice(self.run_id.as_bytes());
                    bytes.extend_from_slice(format!("{:016x}", random.u64(..)).as_bytes());
                }
                Part::Visitor => {
                    bytes.extend_from_slice(self.run_id.as_bytes());
                    bytes.extend_from_slice(format!("{:016x}", visitor.number).as_bytes());
                }
                Part::Address => {
                    // 198.18.0.0/15 is for benchmarks.
                    let [_, second, third, fourth, ..] = visitor.number.to_be_bytes();
                    let address = format!("198.{}.{third}.{fourth}", 18 + second % 2);
                    bytes.extend_from_slice(address.as_bytes());
                }
                Part::IdOf(step) => {
                    let id = uuid::Uuid::from_u128(visitor.ids[*step]);
                    bytes.extend_from_slice(
                        id.as_hyphenated().encode_lower(&mut [0; 36]).as_bytes(),
                    );
                }
            }
        }
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
                let kind = traffic.draw_kind(&mut random);
                let visitor = traffic.draw_visitor(&mut random);
                traffic.write(kind, &visitor, &mut random, &mut bytes);
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
            "GET /event/loadtest-0 HTTP/1.1\r\nHost: host:80\r\nUser-Agent: a b run/mark\r\n\r\n"
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

    /// Two runs of the same seed, too: an id that repeats would look like an event that was lost.
    #[test]
    fn random_texts_of_two_runs_differ() {
        let scenario = format!(
            "{PHASE}[[endpoint]]\nname = \"e\"\npath = \"/e/{{programId}}?t={{random}}\"\n"
        );
        let scenario = Scenario::parse(&scenario, "test").unwrap();
        let texts = |run: &str| -> std::collections::BTreeSet<Vec<u8>> {
            let (traffic, mut random) =
                (Traffic::new(&scenario, "h", run), fastrand::Rng::with_seed(1));
            (0..100)
                .map(|_| {
                    let mut bytes = Vec::new();
                    let visitor = traffic.draw_visitor(&mut random);
                    traffic.write(0, &visitor, &mut random, &mut bytes);
                    let text = String::from_utf8(bytes).unwrap();
                    text.split([' ', '=']).nth(2).unwrap().as_bytes().to_vec()
                })
                .collect()
        };
        let (first, second) = (texts("0123abcd"), texts("89abcdef"));
        assert_eq!(first.len(), 100);
        assert!(first.is_disjoint(&second));
        assert!(first.iter().all(|text| text.starts_with(b"0123abcd")));
    }

    #[test]
    fn steps_of_a_journey_carry_the_visitors_ids() {
        let scenario = "[[endpoint]]\nname = \"view\"\npath = \"/v/{programId}?p={address}\"\n[[endpoint]]\nname = \"click\"\npath = \"/c/{programId}?impression_id={view.id}&t={visitor}\"\nheaders = [\"X-Forwarded-For: {address}\"]\nafter = \"view\"\nprobability = 0.5\ndelay = \"1s\"\n";
        let (traffic, drawn) = requests(scenario, 200);
        assert!(
            drawn.iter().all(|(_, text)| text.starts_with("GET /v/")),
            "the click is not drawn"
        );
        let [click] = traffic.followers(0) else { panic!("one follower") };
        assert_eq!((click.kind, click.probability, click.delay), (4, 0.5, 1e9));
        let mut random = fastrand::Rng::with_seed(1);
        let mut visitor = traffic.draw_visitor(&mut random);
        visitor.ids[0] = 0x01a1_fd87_81ac_7202_b10a_070d_1de8_7f87;
        let write = |kind| {
            let mut bytes = Vec::new();
            traffic.write(kind, &visitor, &mut fastrand::Rng::with_seed(2), &mut bytes);
            String::from_utf8(bytes).unwrap()
        };
        let (view, click) = (write(0), write(4));
        assert_eq!(click, write(4), "a repeat is the same");
        let program = |text: &str| text.split(['/', '?']).nth(2).unwrap().to_owned();
        assert_eq!(program(&view), program(&click));
        assert!(
            click.contains("impression_id=01a1fd87-81ac-7202-b10a-070d1de87f87&t=mark"),
            "{click}"
        );
        let address = view.split(['=', ' ']).nth(2).unwrap();
        assert!(
            address.starts_with("198.1")
                && click.contains(&format!("X-Forwarded-For: {address}\r\n")),
            "{click}"
        );
        assert_eq!((traffic.link(0, &visitor), traffic.link(4, &visitor)), (0, visitor.ids[0]));
    }
}
