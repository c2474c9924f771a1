# What a person and CI run; every target that needs the set-up does it first, and a finished set-up costs no time.
SHELL := /bin/sh
PYTHON := .venv/bin/python
CLUSTER_PYTHON := .venv-cluster/bin/python
TIDEGATE := .venv/bin/tidegate
UV = $$(if [ -x .tools/uv/bin/uv ]; then echo .tools/uv/bin/uv; else echo uv; fi)
COMPILE = $(UV) pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --universal
# Tests that check rules of the repository rather than behaviour.
RULES := tests/unit/test_architecture*.py tests/unit/test_*locks*.py tests/unit/test_docs*.py
DOCTESTED := functions cli samples/subscriber/dedupe.py local/supervisor local/event_grid local/databricks/cluster
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-chaos fuzz check up down status bench lock clean

help: ## List every target
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make TARGET\n"} /^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## Prepare this clone: Python environments, Azurite, Spark jars, demo data
	@sh local/setup/bootstrap.sh --verbose

.PHONY: prepared
prepared:
	@sh local/setup/bootstrap.sh

demo: prepared ## Run the whole loop on the local cloud and show what happened
	@$(TIDEGATE) demo

test: prepared ## Run all tests: unit, fuzzing, the cluster's (in its own environment), contract, integration, end to end, simulation, some kills
	@echo "== unit tests"
	@$(PYTHON) -m pytest tests/unit
	@$(PYTHON) -m pytest --doctest-modules $(DOCTESTED)
	@echo "== fuzzing of everything that comes from outside"
	@$(PYTHON) -m pytest tests/fuzz
	@echo "== unit tests of the wheels, in the cluster's environment"
	@.venv-cluster/bin/python -m pytest tests/cluster -c tests/cluster/pytest.ini
	@for level in contract integration e2e; do \
	  echo "== $$level tests"; \
	  $(PYTHON) -m pytest tests/$$level || exit 1; \
	done
	@echo "== a few of the kills that make test-chaos runs"
	@$(PYTHON) -m pytest tests/kills -m quick
	@echo "== simulation: 2,000 schedules, and the defects that they must find"
	@$(PYTHON) -m tests.simulation
	@$(PYTHON) -m pytest tests/simulation

test-chaos: prepared ## Kill every process at every named point on the real stack, and check what is left; one by ONLY=name
	@$(PYTHON) -m pytest tests/kills --verbose $(if $(ONLY),-k '$(ONLY)')

chaos: prepared ## Simulate 2,000 schedules full of faults, or SCHEDULES=; tell one story by SEED=; break the code by DEFECT=
	@$(PYTHON) -m tests.simulation $(if $(SCHEDULES),--schedules $(SCHEDULES)) $(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST)) $(if $(DEFECT),--defect "$(DEFECT)")

fuzz: prepared ## Feed INPUTS= (1,000,000) inputs to everything that comes from outside; the same ones again by SEED=
	@$(PYTHON) -m tests.fuzz --inputs $(or $(INPUTS),1000000) $(if $(SEED),--seed $(SEED))

check: prepared ## Check format, lint, types, import rules, locks and pipelines.toml
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m mypy --config-file databricks_runtime/mypy.ini
	@$(PYTHON) -m mypy --config-file samples/mypy.ini
	@$(PYTHON) -m pytest -q $(wildcard $(RULES))
	@$(TIDEGATE) check

up: prepared ## Start the local cloud, on free ports or from PORT_BASE= on; its state is kept in .local/
	@$(TIDEGATE) up $(if $(PORT_BASE),--port-base $(PORT_BASE))

down: ## Stop the local cloud; its state stays
	@if [ -x $(TIDEGATE) ]; then $(TIDEGATE) down; else echo "The local cloud is not running."; fi

status: prepared ## Show what runs, and where
	@$(TIDEGATE) status || [ $$? = 3 ]

bench: prepared ## Measure; one measurement by ONLY=name
	@$(PYTHON) -m bench $(if $(ONLY),--only $(ONLY))

lock: prepared ## Compile every lock file again from what the project declares
	@sh local/setup/lock.sh

clean: down ## Stop the local cloud and remove what set-up, the local cloud and the tools made
	@rm -rf .venv .venv-cluster .tools .local dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage mlruns
