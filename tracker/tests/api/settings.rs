//! The tracker's binary and its settings.

use std::process::{Command, Output};

use adtrack_runtime::settings_table;
use tracker::config::Config;

fn tracker(flags: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tracker"))
        .args(flags)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn invalid_setting_exits_with_64_and_one_line() {
    for (variable, value, accepted) in [
        ("LISTEN_ADDR", "8080", "expected ADDRESS:PORT"),
        ("MANAGEMENT_ADDR", "localhost:9090", "expected ADDRESS:PORT"),
        ("WORKERS", "0", "expected an integer from 1 to 1024"),
        ("CACHE_CAPACITY", "many", "expected an integer"),
        ("CACHE_TTL_SECONDS", "0", "expected whole seconds from 1"),
        ("NEGATIVE_CACHE_TTL_SECONDS", "-1", "expected whole seconds"),
        ("CACHE_STALE_SECONDS", "1d", "expected whole seconds"),
        ("SHUTDOWN_GRACE_SECONDS", "x", "expected whole seconds"),
        ("JOURNAL_MAX_BYTES", "1GiB", "expected an integer"),
        ("JOURNAL_SYNC", "often", "expected never, always, or an interval"),
        ("JOURNAL_SYNC", "0ms", "expected never, always, or an interval"),
        ("LINGER_MS", "0", "expected whole milliseconds from 1"),
        ("SAMPLE_PROGRAMS", "yes", "expected true or false"),
        ("SHUTDOWN_DELAY_SECONDS", "x", "expected whole seconds"),
        ("REDIS_URL", "redis://127.0.0.1/notadb", "expected redis://"),
        ("SPILL_URL", "/tmp/spill", "expected s3://"),
        ("EVENT_STREAM", "", "expected the name of a Kinesis stream"),
        ("REDIS_URL", "http://127.0.0.1", "expected redis://"),
        ("REDIS_PORT", "70000", "70000 is not in 0..=65535"),
        ("REDIS_PASSWORD_FILE", "/nowhere/password", "expected a readable file"),
        ("CONVERSION_KEYS_FILE", "/nowhere/keys", "expected a readable file of lines"),
        ("MAX_CONNECTIONS", "0", "expected an integer from 1"),
        ("REQUEST_TIMEOUT_SECONDS", "0", "expected whole seconds from 1"),
        ("COOKIE_MAX_AGE_DAYS", "401", "expected an integer from 0 to 400"),
        ("COOKIE_DOMAIN", ".shop.example", "expected a domain without a leading dot"),
        ("COOKIE_SAMESITE", "no", "expected one of lax, strict, none"),
        ("PRIVACY_SIGNALS", "dnt", "expected one of gpc-and-dnt, gpc, none"),
        ("TCF_VENDOR_ID", "0", "expected an integer from 1 to 65535"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "expected addresses and CIDRs"),
        ("CORS_ALLOWED_ORIGINS", "https://shop.example/", "expected `*`, or origins"),
        ("DEFAULT_FALLBACK_URL", "shop.example", "expected an http or https URL"),
        ("DEFAULT_FALLBACK_URL", "https://shop.example/{x}", "expected an http or https URL"),
        ("LINK_KEYS_FILE", "/nowhere/keys", "expected a readable file of lines"),
        ("LINK_KEYS_FILE", env!("CARGO_MANIFEST_DIR"), "expected a readable file of lines"),
        (
            "LINK_KEYS_FILE",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "line 1 is not `id=secret`",
        ),
        ("ECS_AGENT_URI", "169.254.170.2", "expected an http URL"),
        ("ECS_AGENT_URI", "https://169.254.170.2/", "expected an http URL"),
        ("PROTECT_AFTER_SECONDS", "0", "expected whole seconds from 1"),
        ("RATE_LIMIT", "0", "expected requests per second, from 1 to 10000, or RATE/BURST"),
        ("RATE_LIMIT", "50/0", "such as 50/200"),
        ("RATE_LIMIT_EXEMPT", "10.0.0.0/33", "expected addresses and CIDRs"),
        ("RATE_LIMIT_PATHS", "/health", "expected one of /event, /impression, /click"),
        ("RATE_LIMIT_DIRECT_CLIENTS", "yes", "expected true or false"),
        // Otherwise, all clients behind a load balancer would count as one.
        ("RATE_LIMIT", "50/200", "set TRUSTED_PROXIES to the load balancer's networks, or"),
        ("RUST_LOG", "a=b=c", "expected a level or EnvFilter directives"),
        ("LOG_FORMAT", "xml", "expected one of json, text"),
    ] {
        let output = tracker(&[], &[(variable, value)]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{variable}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.contains(variable) && errors.contains(accepted), "{errors}");
        assert!(value.is_empty() || errors.contains(value), "{errors}");
    }
}

#[test]
fn invalid_url_error_hides_the_password() {
    let output = tracker(&[], &[("REDIS_URL", "redis://user:hunter2@127.0.0.1/notadb")]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(errors.contains("user:***@") && !errors.contains("hunter2"), "{errors}");
}

#[test]
fn invalid_key_file_error_names_the_line_and_hides_the_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# keys\nk=aHVudGVyMg==\n").unwrap();
    let output = tracker(&[], &[("CONVERSION_KEYS_FILE", file.path().to_str().unwrap())]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(64), 1));
    assert!(
        errors.contains("line 2 has a secret of less than 32 bytes") && !errors.contains("aHVu"),
        "{errors}"
    );
}

#[test]
fn keys_in_a_variable_are_never_shown() {
    for variable in ["LINK_KEYS", "CONVERSION_KEYS"] {
        let output = tracker(&[], &[(variable, "# keys\nk=aHVudGVyMg==")]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(64), 1));
        let expected = format!("{variable}=\"***\": line 2 has a secret of less than 32 bytes");
        assert!(errors.contains(&expected) && !errors.contains("aHVu"), "{errors}");

        let key = "k=CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=";
        let output = tracker(&["--help"], &[(variable, key)]);
        assert!(output.status.success());
        assert!(!String::from_utf8(output.stdout).unwrap().contains("CwsL"));

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key).unwrap();
        let path = file.path().to_str().unwrap();
        let output = tracker(&[], &[(variable, key), (&format!("{variable}_FILE"), path)]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(64), 1));
        let expected = format!("{variable}_FILE: cannot be set together with {variable}; set one");
        assert!(errors.contains(&expected) && !errors.contains("CwsL"), "{errors}");
    }
}

#[test]
fn help_names_every_setting() {
    let output = tracker(&["--help"], &[]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for variable in [
        "LISTEN_ADDR",
        "MANAGEMENT_ADDR",
        "REDIS_URL",
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_PASSWORD_FILE",
        "REDIS_CHANNEL",
        "EVENT_STREAM",
        "CACHE_CAPACITY",
        "CACHE_TTL_SECONDS",
        "NEGATIVE_CACHE_TTL_SECONDS",
        "CACHE_STALE_SECONDS",
        "JOURNAL_MAX_BYTES",
        "JOURNAL_DIR",
        "JOURNAL_SYNC",
        "SPILL_URL",
        "LINGER_MS",
        "SHUTDOWN_GRACE_SECONDS",
        "SHUTDOWN_DELAY_SECONDS",
        "WORKERS",
        "SAMPLE_PROGRAMS",
        "CONVERSION_KEYS_FILE",
        "MAX_CONNECTIONS",
        "REQUEST_TIMEOUT_SECONDS",
        "COOKIE_MAX_AGE_DAYS",
        "COOKIE_DOMAIN",
        "COOKIE_SAMESITE",
        "PRIVACY_SIGNALS",
        "TCF_VENDOR_ID",
        "TRUSTED_PROXIES",
        "CORS_ALLOWED_ORIGINS",
        "DEFAULT_FALLBACK_URL",
        "LINK_KEYS_FILE",
        "LINK_KEYS",
        "CONVERSION_KEYS",
        "ECS_AGENT_URI",
        "PROTECT_AFTER_SECONDS",
        "RATE_LIMIT",
        "RATE_LIMIT_EXEMPT",
        "RATE_LIMIT_PATHS",
        "RATE_LIMIT_DIRECT_CLIENTS",
        "RUST_LOG",
        "LOG_FORMAT",
    ] {
        assert!(help.contains(&format!("[env: {variable}")), "{variable}: {help}");
        let flag = variable.to_lowercase().replace('_', "-");
        assert!(help.contains(&format!("--{flag} ")), "{flag}");
    }
}

#[test]
fn address_in_use_exits_with_a_clear_message() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tracker(
        &[
            "--listen-addr",
            &address,
            "--management-addr=127.0.0.1:0",
            "--journal-max-bytes=131072",
            &format!("--journal-dir={}", folder.path().display()),
        ],
        &[("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")],
    );
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.contains("LISTEN_ADDR") && log.contains("choose another address"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_reports_whether_the_tracker_serves() {
    let app = crate::helpers::Setup::default().start().await;
    let address = app.url.strip_prefix("http://").unwrap();
    let port = address.rsplit(':').next().unwrap();
    for served in [address, &format!("0.0.0.0:{port}")] {
        let output = tracker(&["healthcheck"], &[("LISTEN_ADDR", served)]);
        assert_eq!(output.status.code(), Some(0), "{served}: {output:?}");
        assert!(output.stderr.is_empty());
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    // One address refuses the connection; the other accepts it and never responds.
    for unhealthy in ["127.0.0.1:1", &silent] {
        let output = tracker(&["healthcheck"], &[("LISTEN_ADDR", unhealthy)]);
        assert_eq!(output.status.code(), Some(1), "{unhealthy}");
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.starts_with(&format!("tracker healthcheck: {unhealthy}: ")), "{errors}");
    }
}

#[test]
fn documentation_lists_every_setting() {
    assert_eq!(settings_table::check::<Config>("tracker"), Ok(()));
}
