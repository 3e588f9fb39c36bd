# Every command makes its own environment first; `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash
PY := .venv/bin/python
# Processes that share the tests: more than processors, since the tests wait more than they compute.
JOBS := 3
# Where this is set, each of the many processes of a test compiles all that it imports.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-long test-pythons test-arm64 check format bench bench-compress docs lock env tflite clean

help: ## list the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env:
	@scripts/env dev

tflite: # an environment of its own for tflite-runtime; exit code 3 means: no Python fits here
	@scripts/env agent-tflite || [ $$? = 3 ]

demo: env tflite ## train a model, push it to three devices, watch telemetry and two refusals
	@.venv/bin/fleet demo

test: env tflite ## all tests but the long ones, with a real broker, database and object store
	@scripts/system-packages
	@$(PY) -m pytest -m "not long and not bench" -n $(JOBS) --no-loadscope-reorder

test-long: env tflite test-pythons ## every crash point, long outages, all Pythons; FLEET_BENCH_DATA=FOLDER: also its models
	@scripts/system-packages
	@$(PY) -m pytest -m "long or bench" --timeout=1800

test-pythons: ## agent and shared on Python 3.10, 3.11, 3.12 and 3.13, each in an environment of its own
	@scripts/test-pythons

test-arm64: env ## install, enrol, push and infer in an arm64 Debian (root, or sudo; makes it the first time)
	@scripts/test-arm64

check: env ## format, lint, strict types, import rules, drift of generated documents
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/mypy --python-version 3.10 -p fleet_shared -p fleet_agent
	@.venv/bin/lint-imports --no-cache
	@$(PY) scripts/docs --check

format: env ## format the code and mend what ruff can mend
	@.venv/bin/ruff check --fix --quiet . || true
	@.venv/bin/ruff format .

bench: env tflite ## print the benchmarks' tables and write them as JSON under .bench/
	@$(PY) -m tests.bench

bench-compress: env ## compression methods beside TensorFlow Model Optimization: DATA=FOLDER, ARGS=--quick
	@scripts/env bench-tfmot || [ $$? = 3 ]
	@$(PY) -m tests.bench.compress $(if $(DATA),--data $(DATA)) $(ARGS)

docs: env ## write the generated documents
	@$(PY) scripts/docs

lock: ## compile all locks again with the newest versions
	@scripts/lock

clean: ## remove environments and caches
	@rm -rf .venv .venvs .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis
