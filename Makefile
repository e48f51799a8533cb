# What a developer runs. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: run test clients interop chain proxy image fuzz bench bench-scale bench-overload bench-micro lint advisories doc docs help

run: ## Start the service on an SQLite file in ./data
	cargo run --release

test: ## Run every test, on SQLite and on a PostgreSQL that is started for it
	@command -v age >/dev/null || scripts/install age age
	scripts/throwaway-postgres run -- cargo test --locked

clients: ## Try the clients in TypeScript and Python with the service, on both databases
	scripts/clients

interop: ## Try the signatures with client libraries from PyPI and npm, both ways
	scripts/interop

chain: ## Read did:sage from a contract on a chain that is started for it
	scripts/chain

proxy: ## See that proxies, configured as in docs/proxies.md, let through only what is accepted
	scripts/check-proxy

image: ## Build the container image, and try it
	scripts/image

# What it finds is kept below fuzz/artifacts, what it learns below fuzz/corpus.
fuzz: ## Give the readers of signed requests arbitrary bytes for 5 minutes; needs nightly Rust
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	mkdir -p fuzz/corpus/signature_fields
	cargo +nightly fuzz run signature_fields fuzz/corpus/signature_fields fuzz/seeds -- -max_total_time=300

lint: ## Check formatting, lints, layers, documentation, links, metrics, and the dependencies' licences and sources
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	@# By itself, without the features that only the service asks of what both depend on.
	cargo clippy --locked --all-targets --package onceguard-core -- -D warnings
	scripts/check-layers
	$(MAKE) doc
	scripts/check-links
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
	cargo bench --locked --profile dist --bench micro

doc: ## Build the documentation of the service's library and of onceguard-core
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

docs: ## Build the book of docs/ in target/book
	scripts/check-links
	@command -v mdbook >/dev/null || cargo install --locked mdbook
	mdbook build docs

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
