# One word per chore. `make help` lists them.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo sample serve test lint bench docs clean

help: ## list the chores
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.core ## start a sample API, issue keys and walk through real calls
	@$(BIN)/python examples/demo.py

sample: $(VENV)/.core ## leave the sample API running
	@$(BIN)/python examples/demo.py --serve --port 5000

# A database that somebody named, or that is there from the last time, is served as it is.
serve: $(VENV)/.server ## start the server with a database of its own, full of made-up keys, and say how to call it
	@KEYDESK_DEVELOPMENT=true $(BIN)/keydesk serve \
		$(if $(or $(KEYDESK_STORE),$(KEYDESK_CONFIG),$(wildcard instance/keydesk.db)),,--demo)

test: lint ## everything: lint, types, import rules and all tests
	@$(BIN)/pytest

lint: $(VENV)/.dev ## ruff, mypy strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/.dev ## measure; prints the tables of docs/performance.md
	@$(BIN)/python -m bench

docs: $(VENV)/.dev ## write the generated pages of docs/reference
	@$(BIN)/python docs/generate_reference.py

clean: ## remove the environment and what tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis src/*.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Keydesk needs Python 3.11 or later; install it, or run: make PYTHON=/path/to/python"; exit 1; }
	@echo "Making the environment in $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Keydesk into $(VENV) ..."
	@$(PIP) -e '.[pages]'
	@touch $@

$(VENV)/.server: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Keydesk with its server into $(VENV) ..."
	@$(PIP) -e '.[server]'
	@touch $@ $(VENV)/.core

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing Keydesk and the tools of its developers into $(VENV) ..."
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.core $(VENV)/.server
