//! The scenarios that come with the program.

/// The built-in scenarios: name and TOML.
pub const BUILT_IN: [(&str, &str); 5] = [
    ("quick", include_str!("quick.toml")),
    ("spike", include_str!("spike.toml")),
    ("soak", include_str!("soak.toml")),
    ("cold-start", include_str!("cold-start.toml")),
    ("journey", include_str!("journey.toml")),
];
