# Joulemesh: `make` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
FUZZ ?=
export PROMPT ?=
export KILL ?=
export WAN ?=
export HOUR ?=
export ONLY ?=
export JSON ?=
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)

# Four workers on two cores, for tests of networks often wait: tests/conftest.py lets them take turns with those that compute.
# A file's tests stay together, for they share what is slow to start; tests/support/scheduling.py says which files do.
PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check lint types walls docs bench load fuzz siege contracts contract gas twins crash heal soak sdks clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

.venv/installed: pyproject.toml constraints.txt scripts/check_system.py
	@$(PYTHON) scripts/check_system.py
	echo "Installing into .venv (about two minutes the first time) ..."
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(INSTALL) --editable '.[engine]'
	touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what the tests need ..."
	$(INSTALL) --group dev --editable '.[engine,sim,postgres]'
	touch $@

demo: .venv/installed ## Run the main job on this machine: ledger, three nodes, a paid answer (PROMPT="..." asks something else, KILL=1 kills a node, WAN=1 puts hosts apart, POLICY=eu-only routes by law, HOUR=18 by the price of power, VENUE=evm settles on a test chain)
	@exec $(BIN)/joule demo $${KILL:+--kill} $${WAN:+--wan} $${POLICY:+--policy "$$POLICY"} $${HOUR:+--hour "$$HOUR"} $${VENUE:+--venue "$$VENUE"} $${PROMPT:+"$$PROMPT"}

test: .venv/installed-dev contracts ## Linters, types, architecture rules, docs and every test (about ten minutes on two idle cores)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync lint types walls docs
	$(BIN)/python -m pytest -q $(PARALLEL)

check: .venv/installed-dev lint types walls ## The fast half of `make test`
	@$(BIN)/python -m pytest -q $(PARALLEL) tests/unit tests/property tests/vectors -m "not slow"

lint: .venv/installed-dev ## Style
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types: .venv/installed-dev ## Types, strictly
	@$(BIN)/mypy

walls: .venv/installed-dev ## Which package may import what
	@$(BIN)/lint-imports

docs: .venv/installed-dev ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# What is committed is enough to run everything; the compiler and the test chain are for tests. Where npm or its registry is
# not there, `make test` goes on, and the tests that need them are skipped and say so.
contracts/node_modules/installed: contracts/package-lock.json
	@command -v npm > /dev/null || { echo "No npm here: tests of the settlement contract will be skipped."; exit 0; }
	[ ! -L contracts/node_modules ] || exit 0
	echo "Fetching the Solidity compiler and a test chain ..."
	if cd contracts && npm ci --silent --ignore-scripts --fetch-retries 1 --fetch-timeout 20000; then
		touch node_modules/installed
	else
		echo "npm could not fetch them: tests of the settlement contract will be skipped."
	fi

contracts: contracts/node_modules/installed ## Fetch what the settlement contract is compiled and tested with, by npm

contract: contracts ## Compile the settlement contract again, into the package
	@cd contracts && node build.js

gas: .venv/installed-dev contracts ## Measure the settlement contract's gas on a test chain, against targets; writes contracts/gas.json
	@PYTHONPATH=.:tests/support $(BIN)/python -m scripts.measure_gas

twins: .venv/installed-dev contracts ## The Python rules and the contract, at length, and whether mutants of each are found (minutes)
	@TWINS=long SOAK=1 $(BIN)/python -m pytest -q --timeout 7200 tests/integration/contract

soak: .venv/installed-dev contracts ## Every test at length: whole markets of minutes, every page's commands as printed, three times as many random cases (about half an hour)
	@SOAK=1 $(BIN)/python -m pytest -q $(PARALLEL)

sdks: ## Fetch clients of OpenAI's API into runs/sdks, which the gateway is tried with: LiteLLM, LangChain, OpenAI's own
	@mkdir -p runs/sdks && python3 -m venv runs/sdks/venv
	@runs/sdks/venv/bin/pip install --quiet openai litellm mcp langchain-openai
	@cd runs/sdks && npm install --silent --ignore-scripts --no-save --prefix . openai

crash: .venv/installed-dev ## The ledger killed at every write and at 200 random moments under load, on SQLite and PostgreSQL (minutes)
	@CRASH=long $(BIN)/python -m pytest -q -s --timeout 7200 tests/integration/ledger/test_ledger_kills.py

heal: .venv/installed-dev ## Answers in whose middle legs die or are cut off: 30 of each as processes, 600 in memory, then 2,000 sessions with all that goes wrong (half an hour; cuts need root)
	@export SOAK=1 JOULE_KILLS=30 JOULE_CUTS=30 JOULE_DISTURBED_JOBS=600 JOULE_SOAK_SESSIONS=2000 JOULE_CROWDS=300
	$(BIN)/python -m pytest -q $(PARALLEL) tests/e2e/test_e2e_healing.py tests/unit/pipeline/test_pipeline_disturbed.py tests/unit/pipeline/test_pipeline_returns.py tests/unit/pipeline/test_pipeline_pages.py

bench: .venv/installed-dev ## Benchmarks: each runs both sides in one go and prints a ratio
	@for each in scripts/bench_*.py; do echo "== $$each"; PYTHONPATH=.:tests/support $(BIN)/python $$each; done

load: .venv/installed-dev ## Streams through one gateway while nodes are killed and come back, against targets (STREAMS=64 FOR=600)
	@PYTHONPATH=.:tests/support $(BIN)/python scripts/load_gateway.py $(or $(STREAMS),64) $(or $(FOR),600)

fuzz: .venv/installed-dev ## Fuzz every decoder of bytes from outside; goes on where it was stopped (FUZZ="--help" says more)
	@exec $(BIN)/python -m scripts.fuzzing $(FUZZ)

siege: .venv/installed-dev ## Attacks on a running network beside honest jobs, against targets (ONLY="data offers" picks some, JSON=1 for programs)
	@PYTHONPATH=.:tests/support $(BIN)/python -m scripts.siege $${JSON:+--json} $${ONLY:-}

clean: ## Remove what was built and installed here
	@rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
