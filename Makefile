TARGET ?= $(shell uname -m)-unknown-linux-gnu
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
STATIC := $(TARGET_DIR)/$(TARGET)/release/redis-sidecar

# The shape of the demo's cluster: PODS pods, of which MASTERS are masters at first.
PODS ?= 6
MASTERS ?= 3

# How long `make simulate` and `make fuzz` play fresh seeds.
MINUTES ?= 10

# The seed of the one history to tell.
export SEED

# Tests that start servers wait more than they work.
export RUST_TEST_THREADS ?= $(shell echo $$(($$(nproc) + 1)))

.DEFAULT_GOAL := help
.PHONY: help demo test e2e matrix simulate fuzz mutants bench lint release redis-server renderers

help: ## List what make can do.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: redis-server release ## Watch a cluster form on this machine, without Kubernetes (PODS=6 MASTERS=3).
	cargo build --package testbed --bin demo
	@PODS=$(PODS) MASTERS=$(MASTERS) AGENT=$(STATIC) cargo run --quiet --package testbed --bin demo

test: redis-server renderers ## Run every test, also those with real servers (SERVERS=all, or names: with each of these).
ifdef SERVERS
	scripts/matrix $(SERVERS)
else
	cargo test --workspace --no-fail-fast
endif

e2e: ## Run the manifests on a real Kubernetes, KUBECONFIG's or one booted here (ONLY="roll drained": some).
	tests/kubernetes/run $(ONLY)

matrix: ## Run the tests with each server that is supported, fetching it where it is missing.
	scripts/matrix

simulate: ## Play fresh histories in the simulator (MINUTES=10), or tell one (SEED=n).
ifdef SEED
	cargo test --profile simulate --test simulation replay -- --ignored --nocapture
else
	SIMULATE_SECONDS=$$(($(MINUTES) * 60)) cargo test --profile simulate --test simulation fresh_seeds -- --ignored --nocapture
endif

fuzz: ## Play fresh seeds against the parsers and the HTTP side (MINUTES=10).
	FUZZ_MINUTES=$(MINUTES) cargo test --test fuzz -- --nocapture

mutants: ## Remove each safety rule once, and see that the simulator notices (ONLY="s1 s12": some alone).
	scripts/mutants $(ONLY)

bench: redis-server release ## Measure, side by side with redis-cli (ROWS=form-6,idle: some alone).
	ROWS=$(ROWS) AGENT=$(STATIC) cargo run --release --package testbed --bin bench

lint: ## Check formatting and lints.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

release: ## Build the static binary that ships.
	cargo static --target $(TARGET)
	@ls -lh $(STATIC) | awk '{ print $$5, $$NF }'

redis-server:
	@scripts/ensure-redis

renderers:
	@scripts/ensure-renderers > /dev/null
