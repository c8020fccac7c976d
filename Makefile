# Millstream: `make help` lists what there is.
#
# PROFILE=dev     builds without optimisation (default: release for demo, demo-check and bench)
# PG=18           tests, goldens and demos on another PostgreSQL (12 to 18) than the one installed
# LOG=kafka       demo and demo-check through a real Kafka broker instead of the embedded log
# ARGS='…'        more arguments for the program or the tests

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO   ?= cargo
PROFILE ?= release
ARGS    ?=
LOG     ?=

target_dir := $(or $(CARGO_TARGET_DIR),target)
profile_dir := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
millstream := $(target_dir)/$(profile_dir)/millstream

ifeq ($(LOG),kafka)
needs_log := java
log_args  := $(if $(MILLSTREAM_TEST_KAFKA),--log kafka://$(MILLSTREAM_TEST_KAFKA),--kafka)
else
log_args  := $(if $(LOG),--log $(LOG))
endif

ifdef PG
export PGBIN := $(shell scripts/postgres.sh $(PG))
ifeq ($(PGBIN),)
$(error PostgreSQL $(PG) could not be had)
endif
endif

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: build-program ## the whole product on this machine, live in the terminal; Ctrl-C ends it
	@$(millstream) demo $(log_args) $(ARGS)

.PHONY: demo-check
demo-check: build-program ## the demo with a fixed workload, then target against source
	@$(millstream) demo --check $(log_args) $(ARGS)

.PHONY: compose-check
compose-check: ## the demo in containers: up, a fixed workload, compared, down
	@scripts/compose-check.sh

.PHONY: test
test: ## all tests; sets up PostgreSQL and Kafka
	@scripts/setup.sh build postgres java
	$(CARGO) test $(ARGS)

.PHONY: goldens
goldens: ## every recorded case; MILLSTREAM_GOLDENS=DIR takes others
	@scripts/setup.sh build postgres java
	@$(CARGO) test --quiet --test goldens -- $(ARGS)

.PHONY: chaos
chaos: ## capture killed at random steps and times, seeds printed: at most 200 rounds or 9 minutes; SECONDS=N, MILLSTREAM_SEED=N repeats one
	@scripts/setup.sh build postgres java
	MILLSTREAM_CHAOS=$(or $(SECONDS),540) $(CARGO) test --test it -- --ignored --nocapture crash::chaos $(ARGS)

.PHONY: soak
soak: ## the tests that take minutes: five million rows in one transaction, an idle slot, a broker behind a bad network
	@scripts/setup.sh build postgres java
	$(CARGO) test --test it -- --ignored --nocapture --test-threads 1 --skip crash::chaos --skip log_crash::child $(ARGS)

.PHONY: fuzz
fuzz: ## coverage-guided fuzzing of decoders, value texts, SQL and formats; SECONDS=60 for each target
	@scripts/setup.sh build fuzz
	for target in pgoutput values sql formats; do \
	  mkdir -p fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$target fuzz/corpus/$$target \
	    $$([ $$target = sql ] && echo tests/goldens/flinksql) -- \
	    -max_total_time=$(or $(SECONDS),60) -timeout=20 -rss_limit_mb=4096 -max_len=16384 -print_final_stats=1; \
	done

.PHONY: lint
lint: ## rustfmt, clippy, and cargo-deny where it is installed
	@scripts/setup.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	@scripts/deny.sh

.PHONY: fmt
fmt: ## formats the code
	$(CARGO) fmt

.PHONY: bench
bench: ## throughput and memory side by side with pg_recvlogical, then the micro-benchmarks
	@scripts/setup.sh build postgres
	$(CARGO) bench $(ARGS)

.PHONY: build-program
build-program:
	@scripts/setup.sh build postgres $(needs_log)
	$(CARGO) build --profile $(PROFILE) --bin millstream
