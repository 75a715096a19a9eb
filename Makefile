# One command each. PYTHON may name another interpreter: make up PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HANSE_DATA ?= hanse-data
# Options of `hanse up`: make up UP="--port 6432 --password secret"
UP ?=
# Bytecode, which an editable install does not make; where PYTHONDONTWRITEBYTECODE is set no start would.
COMPILE = @$(BIN)/python -m compileall -q src

.PHONY: up down test test-fast bench demo fmt lint

up: $(VENV)/installed
	$(BIN)/hanse up --detach --data $(HANSE_DATA) $(UP)

down: $(VENV)/installed
	$(BIN)/hanse down --data $(HANSE_DATA)

# Everything that CI runs.
test: lint
	$(BIN)/pytest -n 2

# Below a minute, without servers.
test-fast: $(VENV)/installed-dev
	$(BIN)/pytest -n 2 tests/unit tests/property

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks

demo: $(VENV)/installed-dev
	$(BIN)/hanse demo --data $(HANSE_DATA)

fmt: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Hanse needs Python 3.11 or later, and $(PYTHON) is older or missing: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; \
	  exit 1; }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(COMPILE)
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,demo]'
	$(COMPILE)
	@touch $@ $(VENV)/installed
