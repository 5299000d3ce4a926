# Two commands for a newcomer; each sets up all it needs in .venv (and .venv-oldest):
#   make demo   a real language model on this machine, before and after calibration
#   make test   everything that CI runs: lint, types, docs, notebook, and the tests on the newest
#               and on the oldest versions of what we depend on

PYTHON ?= python3
VENV := .venv
COMMA := ,
BIN := $(VENV)/bin
OLDEST := .venv-oldest
# Nothing is to be compiled: a dependency without a wheel for this machine is an error.
INSTALL := -m pip install --quiet --disable-pip-version-check --only-binary :all:

# For the tests of the transformers backend. The newest release brings gigabytes of CUDA libraries on
# Linux where an older one may be at hand for the CPU alone; TORCH= leaves these tests out.
TORCH ?= torch==2.13.0

# There are no wheels of the oldest versions for Python 3.13 and later.
FITS := $(shell $(PYTHON) -c 'import sys; print((3, 11) <= sys.version_info < (3, 13))')

# Engines for the tests of clusters; CLUSTER= leaves these tests out. pyspark has no wheels, and nothing
# in it is to be compiled.
CLUSTER ?= yes

# Workers of pytest, each with one thread of linear algebra and of language models: threads that wait
# for each other on busy cores make both many times slower.
WORKERS ?= auto
unit oldest: export OMP_NUM_THREADS := 1
unit oldest: export OPENBLAS_NUM_THREADS := 1
PYTEST := -m pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: demo test lint types unit oldest no-oldest docs notebook benchmark chaos clean

demo: $(VENV)/.demo
	$(BIN)/skllm-calib demo

# What keeps one core busy goes first, two at a time; the tests then have all cores.
test:
	$(MAKE) --jobs=2 lint types docs notebook $(if $(CLUSTER),$(VENV)/.cluster) \
	  $(if $(filter True,$(FITS)),$(OLDEST)/.installed)
	$(MAKE) unit $(if $(filter True,$(FITS)),oldest,no-oldest)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev $(if $(CLUSTER),$(VENV)/.cluster)
	$(BIN)/python $(PYTEST) --cov --cov-report=term

# Here scipy is as users have it; the newest one runs in its array API mode (tests/conftest.py).
oldest: $(OLDEST)/.installed
	SCIPY_ARRAY_API= $(OLDEST)/bin/python $(PYTEST) -m "not local_llm and not cluster"

no-oldest:
	@echo "Left out: the oldest versions need Python 3.11 or 3.12 (make PYTHON=python3.12 oldest)"

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

notebook: $(VENV)/.dev
	$(BIN)/python notebooks/execute.py

benchmark: $(VENV)/.dev
	$(BIN)/python benchmarks/prefix_reuse.py

# What becomes of rows whose server fails in a hundred ways, of runs that are stopped, and of replies
# that are nearly right (docs/reliability.rst).
ROWS ?= 2000
SEED ?= 0
chaos: $(VENV)/.dev
	PYTHONPATH=tests/evidence/backends $(BIN)/python tests/chaos/tally.py --rows $(ROWS) --seed $(SEED)
	FUZZ_PROFILE=chaos $(BIN)/python $(PYTEST) tests/chaos -k fuzz

clean:
	rm -rf $(VENV) $(OLDEST) docs/_build docs/generated demo-output .coverage

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || (echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python $(INSTALL) -e ".[demo]"
	$(BIN)/skllm-calib download smollm2
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(if $(TORCH),$(BIN)/python $(INSTALL) $(TORCH))
	$(BIN)/python $(INSTALL) -e ".[dev$(if $(TORCH),$(COMMA)transformers)]"
	$(BIN)/skllm-calib download smollm2
	@touch $@ $(VENV)/.demo

# Not by the name of this package: what runs beside it must not see it reinstalled.
$(VENV)/.cluster: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
	  print(*p["project"]["optional-dependencies"]["cluster"], sep="\n")' \
	  | $(BIN)/python $(INSTALL) --no-binary pyspark -r /dev/stdin \
	  || echo "Tests of clusters are left out: not every engine can be installed on this Python"
	@touch $@

$(OLDEST)/.installed: pyproject.toml .ci/oldest.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || (echo "The oldest versions need Python 3.11 or 3.12; say which: make PYTHON=python3.12 oldest"; exit 1)
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python $(INSTALL) -c .ci/oldest.txt -e ".[demo,tables]" hypothesis polars pytest pytest-timeout pytest-xdist skops
	@touch $@
