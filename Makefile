# What a developer runs. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: run test interop chain proxy fuzz bench bench-scale bench-overload bench-micro lint advisories doc help

run: ## Start the service on an SQLite file in ./data
	cargo run --release

test: ## Run every test, on SQLite and on a PostgreSQL that is started for it
	scripts/throwaway-postgres run -- cargo test --locked

interop: ## Try the signatures with client libraries from PyPI and npm, both ways
	scripts/interop

chain: ## Read did:sage from a contract on a chain that is started for it
	scripts/chain

proxy: ## See that proxies, configured as in README, let through only what is accepted
	scripts/check-proxy

# What it finds is kept below fuzz/artifacts, what it learns below fuzz/corpus.
fuzz: ## Give the readers of signed requests arbitrary bytes for 5 minutes; needs nightly Rust
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p fuzz/corpus/signature_fields
	cargo +nightly fuzz run signature_fields fuzz/corpus/signature_fields fuzz/seeds -- -max_total_time=300

lint: ## Check formatting, lints, documentation, metrics, and the dependencies' licences and sources
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	$(MAKE) doc
	scripts/check-metrics
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check bans licenses sources

# Not part of lint: it needs the advisory database from the network, and what it says depends
# on the day, not on the change.
advisories: ## Check the dependencies for known vulnerabilities
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check advisories

# How often, how long, and which rows: `make bench ROUNDS=1 SECONDS=2 ONLY=claims/redis,/256`,
# `make bench-scale ONLY=live/sqlite`.
ROUNDS ?= 3
SECONDS ?= 5
ONLY ?=

bench: ## Measure it beside Redis, pgbench and others; the report is in target/bench
	scripts/bench compare --rounds $(ROUNDS) --seconds $(SECONDS) --only "$(ONLY)"

bench-scale: ## Measure claims beside up to 30 million live nonces, and during a purge
	scripts/bench scale --rounds $(ROUNDS) --seconds $(SECONDS) --only "$(ONLY)"

bench-overload: ## Measure what it does with four times as much as it can do
	scripts/bench overload

bench-micro: ## Measure the parts by themselves
	cargo bench --locked --bench micro

doc: ## Build the library's documentation
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
