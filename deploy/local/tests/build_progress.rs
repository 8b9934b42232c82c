//! `deploy/local/build`, which reports how far cargo is: with a stand-in for cargo.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const CARGO: &str = r#"#!/bin/sh
echo '   Compiling slow v1.0.0' >&2
printf '    Building [=>    ] 1/3: slow\r' >&2
printf 'warning: unused variable\n  --> src/lib.rs:1:1\n\n   note: more\n' >&2
echo '{"reason":"compiler-artifact","target":{"name":"slow","kind":["lib"]}}'
printf '    Building [===>  ] 2/3: other\r' >&2
printf 'error[E0308]: mismatched types' >&2
exit 101
"#;

fn build_with(cargo: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("cargo");
    std::fs::write(&program, cargo).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build");
    Command::new("python3").arg(script).arg(program).arg("build").output().unwrap()
}

#[test]
fn passes_warnings_errors_and_the_exit_status_on() {
    let output = build_with(CARGO);

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        errors,
        "warning: unused variable\n  --> src/lib.rs:1:1\n\n   note: more\nerror[E0308]: mismatched types\n"
    );
    assert_eq!(output.status.code(), Some(101));
    assert!(output.stdout.is_empty());
}
