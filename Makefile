# make train: set up and train a DNC on repeat copy (ARGS="--max_length=3" adds flags)
# make test:  set up and run all tests
# make lint:  style and types
# make benchmarks: set up and measure all that docs/performance.md shows (ARGS="step_time" one)
# make docs: set up and build the documentation site in docs/_build/html
# make dist: build and check the files of a release in dist/
# PYTHON chooses the interpreter, VENV the folder of the virtual environment.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
DIST := $(VENV)-dist/bin
# Containers often turn off Python's bytecode files, which speed up the many starts of Python here.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: train test lint benchmarks docs dist clean

# After Ctrl-C the run is saved (exit code 130), which is no error; the trap lets the shell see it.
train: $(VENV)/.ready
	@echo "python train.py $(ARGS)"
	@trap : INT; $(BIN)/python train.py $(ARGS) || { code=$$?; [ $$code -eq 130 ] || exit $$code; }

test: $(VENV)/.ready-test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.ready-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms \
	  .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

benchmarks: $(VENV)/.ready-benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

# Warnings are errors: a broken link, a missing image, a name that is not in the reference. All pages
# are read and written again, or an earlier warning would be missed; only tutorials are cached.
docs: $(VENV)/.ready-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet \
	  --fresh-env --write-all -d docs/_build/doctrees $(ARGS) docs docs/_build/html
	@echo "the site is docs/_build/html/index.html"

dist: $(VENV)-dist/.ready
	rm -rf dist
	$(DIST)/python -m build --installer uv
	$(DIST)/twine check --strict dist/*

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  f"dncx needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; try make PYTHON=python3.13")'
	@echo "making the virtual environment $(VENV): about 5 s"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@echo "installing dncx, JAX and what they need, once: 1 to 2 minutes, 250 MB to download"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	@echo "installing what the tests need, once: about 1 minute"
	@$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.ready-lint: $(VENV)/.ready-test
	@echo "installing the linters, once: about 30 s"
	@$(BIN)/python -m pip install --quiet --group lint
	@touch $@

$(VENV)/.ready-benchmarks: $(VENV)/.ready
	@echo "installing PyTorch to compare with, once: several minutes"
	@$(BIN)/python -m pip install --quiet --group benchmarks
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@echo "installing what the documentation site needs, once: about 30 s"
	@$(BIN)/python -m pip install --quiet --group docs
	@touch $@

# Separate from the other tools, so that it needs neither JAX nor dncx.
$(VENV)-dist/.ready: pyproject.toml
	@echo "installing what a release needs, once: about 20 s"
	@$(PYTHON) -m venv $(VENV)-dist
	@$(DIST)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(DIST)/python -m pip install --quiet --group dist
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-dist dist docs/_build .pytest_cache .ruff_cache
