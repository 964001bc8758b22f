# `make` alone lists the targets. Everything shares one profile and one target directory, so that the storage engine and the
# policy crates are compiled once: the checkout's target/, unless CARGO_TARGET_DIR names another.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deps demo test lint ci fmt fuzz soak liars clocks rollbacks

export CARGO_TARGET_DIR ?= $(CURDIR)/target

# Every build selects the whole workspace: cargo unites the features of what is selected, and another selection would
# compile the same crates again with others.
# nextest is faster and tells more; where it is missing, cargo's own runner runs the same tests.
NEXTEST := $(shell command -v cargo-nextest)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what cargo cannot bring: a C++ compiler, libclang, strace (YES=1 does not ask)
	@scripts/deps

demo: deps ## Tell the whole story once, on three real processes: decide, record, halt, prove, tamper
	cargo build --locked --workspace --bins
	@scripts/demo

# Tests of clusters start the program, which cargo does not build for them.
test: deps ## Run all tests
	cargo build --locked --workspace --bins
ifdef NEXTEST
	cargo nextest run --workspace --locked
	cargo test --workspace --locked --doc
else
	cargo test --workspace --locked
endif

lint: deps ## Check format, lints and documentation; changes no file
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --workspace --all-targets --locked --features ledger-proto/grpc -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@scripts/licenses

ci: lint test ## What the merge gate runs: lint, and the test command of the README

fmt: ## Format the code
	cargo fmt --all

soak: deps ## Kill, cut, break, replay into and fill clusters: SOAK_KILLS (30), SOAK_SECONDS (60), SOAK_FAULTS (5), SOAK_REPLAY (10), SOAK_ENTRIES (1000000)
	cargo build --locked --workspace --bins --example soak
	"$$CARGO_TARGET_DIR/debug/examples/soak" kills "$${SOAK_KILLS:-30}"
	"$$CARGO_TARGET_DIR/debug/examples/soak" partitions "$${SOAK_SECONDS:-60}"
	"$$CARGO_TARGET_DIR/debug/examples/soak" faults "$${SOAK_FAULTS:-5}"
	"$$CARGO_TARGET_DIR/debug/examples/soak" replay "$${SOAK_REPLAY:-10}"
	"$$CARGO_TARGET_DIR/debug/examples/soak" entries "$${SOAK_ENTRIES:-1000000}"

liars: deps ## Have one node of three lie for LIAR_STEPS (10000) steps, then two of five; LIAR_SEED repeats a run
	cargo build --locked --workspace --bins --example liars
	"$$CARGO_TARGET_DIR/debug/examples/liars" "$${LIAR_STEPS:-10000}" $${LIAR_SEED:-}

clocks: deps ## Have clocks go wrong around crashes in every order, hours of it; CLOCKS="--case N" repeats one, --from and --count choose a piece
	cargo build --locked --workspace --bins --example clocks
	"$$CARGO_TARGET_DIR/debug/examples/clocks" $${CLOCKS:-}

# Images are mounted where nobody else sees them, and are gone with the process.
rollbacks: deps ## Put disks back in time around crashes in every order, 324 cases of a seed; ROLLBACKS="--case N" repeats one, --seed N draws others
	cargo build --locked --workspace --bins --example rollbacks
	$$(unshare --mount true 2>/dev/null && echo unshare --mount) "$$CARGO_TARGET_DIR/debug/examples/rollbacks" $${ROLLBACKS:-}

fuzz: deps ## Run every fuzz target for FUZZ_SECONDS (600) each; needs cargo-fuzz
	@scripts/fuzz
