# The commands of the project. CI calls the same targets.
#
#   make run     the whole pipeline on this machine, in the foreground
#   make test    everything that must hold

SHELL := /bin/bash
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
# What `make run` writes; a second stack of this clone says which file is its own.
ENV_FILE := $(TARGET)/local-stack.env
# Shows how far a build is, by a script in Python; a machine without Python has cargo's own report.
BUILD := $(if $(shell command -v python3),deploy/local/build )cargo build --locked --workspace --bins

.PHONY: help build run demo count loadtest spike soak test lint bench bench-functions fan-out scaling instructions page schemathesis prove chaos advisories fmt redis-server release check-deploy image packages replay mutants

help: ## lists the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: redis-server build ## the whole pipeline on this machine, until Ctrl-C
	@exec $(TARGET)/debug/local-stack --stop-with-parent

demo: ## in a second terminal: sends mixed requests and a core-data change, shows the resulting rows
	@test -f "$(ENV_FILE)" || { echo "$(ENV_FILE) is not there: start a local stack with 'make run' in another terminal."; exit 1; }
	@. "$(ENV_FILE)" && exec "$$BIN/loadtest" demo

count: ## in a second terminal: sends 10,000 requests at 500/s and counts their rows
	@test -f "$(ENV_FILE)" || { echo "$(ENV_FILE) is not there: start a local stack with 'make run' in another terminal."; exit 1; }
	@. "$(ENV_FILE)" && exec "$$BIN/loadtest" count --requests 10000 --rate 500

loadtest: redis-server release ## a quick load test of a stack of its own; prints the report's path
	@$(RELEASE)/loadtest run quick

spike: redis-server release ## a campaign: 500/s, up to 20,000/s, about a minute there; fails if an event is lost or doubled (3 minutes)
	@$(RELEASE)/loadtest run spike --fail-if 'lost>0' --fail-if 'doubled>0'

soak: redis-server release ## 15 minutes at 5,000/s; fails if an event is lost or memory or file handles grow
	@$(RELEASE)/loadtest run soak --fail-if 'lost>0' --fail-if 'doubled>0' --fail-if 'rss.growth>30mb' --fail-if 'files.growth>50'

build: ## the programs as `make run` and `make test` use them, in target/debug
	@$(BUILD)

release: ## the programs as they are deployed and measured, in target/release
	@$(BUILD) --release

redis-server:
	@deploy/local/install-redis-server

test: redis-server ## the whole test suite, against real servers
	@$(BUILD)
	cargo test --locked --workspace --tests

lint: ## formatting, clippy with warnings denied, docs, licenses, bans
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet
	deploy/checks/cargo-deny --locked check bans licenses sources
	deploy/checks/scaling --check docs/SCALING.md
	deploy/checks/module-circles

bench: redis-server ## CPU, instructions and system calls of the tracker, of comparable servers, and of the functions (about 15 minutes)
	@$(BUILD) --release
	@cargo build --release --locked -p tracker --example peers
	@deploy/checks/bench
	@deploy/checks/peers/instructions
	@deploy/checks/peers/compare
	@deploy/checks/peers/limits
	@deploy/checks/peers/batch
	@$(MAKE) --no-print-directory bench-functions

bench-functions: redis-server ## CPU, memory and round trips of the Lambda functions (about 2 minutes)
	@$(BUILD) --release
	@cargo build --release --locked --workspace --example functions
	@deploy/checks/functions

fan-out: redis-server ## measures what a core-data change costs Redis and 50 trackers (90 s)
	@$(BUILD) --release
	@deploy/checks/fan-out

scaling: ## what 1,000 to 1,000,000 events/s need, by docs/SCALING.md's formulas and simulations
	@deploy/checks/scaling

page: redis-server ## the page script in a headless Chromium, against the local stack
	@deploy/checks/page/check

schemathesis: redis-server ## both listeners, exercised from their OpenAPI descriptions
	@deploy/checks/schemathesis

instructions: ## fails if the request handler exceeds its instruction budget (callgrind)
	@deploy/checks/peers/instructions

prove: redis-server ## the long tests: 50 kills, outages, 200,000 programs, millions of inputs, mutants, the image (about an hour; root)
	@$(BUILD)
	ADTRACK_PROVE=1 cargo test --locked -p local-stack --test faults --test archive -- --nocapture --test-threads=1
	@$(BUILD) --release
	ADTRACK_PROVE=1 cargo test --locked --release -p local-stack --test core_data -- --nocapture --test-threads=1
	ADTRACK_PROVE=1 cargo test --locked --release -p local-stack --test hot_program -- --nocapture --test-threads=1
	ADTRACK_PROVE=1 cargo test --locked --release -p core-data --test core_data all_programs -- --nocapture
	ADTRACK_PROVE=1 cargo test --locked --workspace --test damage -- --nocapture
	PROPTEST_CASES=1000000 cargo test --locked --release -p adtrack-proto aggregate
	PROPTEST_CASES=1000000 cargo test --locked --release -p tracker --lib delivery::journal::record
	PROPTEST_CASES=1000000 cargo test --locked --release -p tracker --lib never_panics_or_hangs_on_a_damaged_file
	PROPTEST_CASES=20000 cargo test --locked --release -p tracker --lib is_a_queue_that_survives_restarts
	PROPTEST_CASES=1000000 cargo test --locked --release -p tracker --lib delivery::spill
	deploy/checks/kpl-interop
	deploy/checks/valkey
	deploy/checks/mutate --all
	deploy/checks/image

chaos: redis-server ## random faults for an hour (MINUTES=m): nothing lost, doubled, stale or stuck; SEED=n [EPOCH=k] replays
	@$(BUILD)
	ADTRACK_CHAOS_MINUTES=$(or $(MINUTES),60) ADTRACK_CHAOS_SEED=$(SEED) ADTRACK_CHAOS_EPOCH=$(EPOCH) \
	ADTRACK_CHAOS_WITHOUT=$(WITHOUT) cargo test --locked --workspace --test chaos keeps_its_promises -- --nocapture

mutants: redis-server ## mutation tests: what no test of its own crate notices (hours; PART=proto: minutes)
	@deploy/checks/mutants $(PART)

check-deploy: ## all of deploy/ that can be checked without an AWS account (3 minutes)
	@deploy/checks/deploy-all

image: ## builds all stages of deploy/Dockerfile, and runs the image read-only as user 65532 (needs root)
	@deploy/checks/image

packages: redis-server ## builds and inspects the Lambda packages of both architectures, and runs them (40 minutes the first time)
	@cargo build --release --locked --package local-stack --example functions
	@deploy/checks/packages

replay: redis-server release ## on the local stack: the smoke test, and a poison record that is repaired and redriven
	@deploy/checks/replay

advisories: ## checks dependencies for known vulnerabilities; needs the network
	deploy/checks/cargo-deny --locked check advisories

fmt: ## formats the code
	cargo fmt --all
