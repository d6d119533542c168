# Kastra's everyday verbs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
FUZZ ?= 5000
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo install lint format type test crash security fuzz bench clean

help: ## List these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-9s %s\n", $$1, $$2}'

$(VENV)/run.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kastra needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/dev.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Kastra needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/run.stamp

demo: $(VENV)/run.stamp ## Set up, apply the example manifests and run the recipe workflow
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh manifests/demo.sh

install: $(VENV)/dev.stamp ## Set up the development environment in .venv (needs a C++ compiler for annoy)

lint: $(VENV)/dev.stamp ## Lint, formatting, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## Reformat and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

type: $(VENV)/dev.stamp ## Types, checked twice
	$(BIN)/mypy
	$(BIN)/pyright

test: $(VENV)/dev.stamp ## Set up and run the test suite
	$(BIN)/python -m pytest -n auto --dist worksteal || { \
	  echo "What failed is tried once more, alone. What passes now is a defect all the same: it depends on time or on order."; \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 10; }

crash: $(VENV)/dev.stamp ## kill -9, power loss and disk faults at every point
	$(BIN)/python -m pytest tests/crash --crash=full --crash-report=docs/crash-report.md -q

security: $(VENV)/dev.stamp ## Hostile input of all sorts, at full volume
	KASTRA_FUZZ_EXAMPLES=1000 $(BIN)/python -m pytest tests/security --crash=full -q -n auto --dist worksteal

fuzz: $(VENV)/dev.stamp ## Wrong requests by the ten thousand (FUZZ=50000 for more of each)
	KASTRA_FUZZ_EXAMPLES=$(FUZZ) $(BIN)/python -m pytest tests/security/test_fuzzed_*.py tests/security/test_published_openapi.py -q -n auto --dist worksteal

bench: $(VENV)/dev.stamp ## Measure, and compare with the targets
	$(BIN)/python -m bench

clean: ## Remove what the targets above made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
