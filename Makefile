# make train: set up and train a DNC on repeat copy (ARGS="--max_length=3" adds flags)
# make test:  set up and run all tests
# make lint:  style and types
# make benchmarks: set up and measure all that docs/performance.md shows (ARGS="step_time" one)
# PYTHON chooses the interpreter, VENV the folder of the virtual environment.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

.PHONY: train test lint benchmarks clean

train: $(VENV)/.ready
	$(BIN)/python train.py $(ARGS)

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

benchmarks: $(VENV)/.ready-benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"dncx needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; try make PYTHON=python3.13")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.ready-lint: $(VENV)/.ready-test
	$(BIN)/python -m pip install --quiet --group lint
	@touch $@

$(VENV)/.ready-benchmarks: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --group benchmarks
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
