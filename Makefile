# Two commands for a newcomer; each sets up all it needs in .venv:
#   make demo   a real language model on this machine, before and after calibration
#   make test   everything that CI runs: lint, types, tests, docs, notebook

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Nothing is to be compiled: a dependency without a wheel for this machine is an error.
WHEELS := --only-binary :all:

.PHONY: demo test lint types unit docs notebook benchmark clean

demo: $(VENV)/.demo
	$(BIN)/skllm-calib demo

test: lint types docs notebook unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest --cov --cov-report=term

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

notebook: $(VENV)/.dev
	$(BIN)/python notebooks/execute.py

benchmark: $(VENV)/.dev
	$(BIN)/python benchmarks/prefix_reuse.py

clean:
	rm -rf $(VENV) docs/_build docs/generated demo-output .coverage

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || (echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) $(WHEELS) -e ".[demo]"
	$(BIN)/skllm-calib download smollm2
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) $(WHEELS) -e ".[dev]"
	$(BIN)/skllm-calib download smollm2
	@touch $@ $(VENV)/.demo
