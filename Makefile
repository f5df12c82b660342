# Every target sets up what it needs in $(VENV); python3 (3.11 or newer), make and git are enough.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= results/demo
DRAWS ?= desk
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
RECORD := $(VENV)/.record-installed

.DEFAULT_GOAL := help
.PHONY: help setup record demo test check check-versions verify bench profiles package package-every docs docs-run lock clean

help:
	@echo "make demo     sweep expert caches of gpt-oss-20b on an 8 GB card, with figures and a page"
	@echo "make test     all tests"
	@echo "make check    lint, format, types (of the examples too), import rules, stray addresses, long functions, crowded folders"
	@echo "make check-versions  check, and tests of units and contracts, under Python 3.11, 3.12 and 3.13"
	@echo "make verify   theory and measurements against the simulator (slow)"
	@echo "make bench    benchmarks"
	@echo "make profiles refit the shipped profiles: WHEEL=FILE, an aiconfigurator-core wheel"
	@echo "make docs     the documentation, with examples' reports as live pages, into docs/_build/html; REPORTS=all: the chooser too"
	@echo "make docs-run every command and every example on its pages"
	@echo "make package  the wheel and the sdist: size, contents, and the demo from a folder without the sources"
	@echo "make package-every  the same in an empty environment of every Python that is here"
	@echo "make setup    only the environment, in $(VENV)"
	@echo "make record   torch and transformers too: to measure and to record (tests of both skip without)"
	@echo "make lock     resolve the dependencies anew"

setup: $(DEV)

# $(call installed,LOCK): the packages of requirements/LOCK.lock, then moesim itself, editable.
define installed
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "moesim needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "Setting up $(VENV) (once, a minute or two)" ; $(PYTHON) -m venv $(VENV) ; } || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install python3-venv." >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$(1).lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef

$(RUNTIME): requirements/runtime.lock pyproject.toml
	$(call installed,runtime)

$(DEV): $(RUNTIME) requirements/dev.lock
	$(call installed,dev)

record: $(RECORD)

# Not locked: which build of torch fits depends on the machine.
$(RECORD): $(DEV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[record]'
	@touch $@

demo: $(RUNTIME)
	@$(BIN)/moesim demo --out $(DEMO)

# Each worker goes through folders of its own, so that what one compiles or prepares the other finds.
# Sources are read once, whatever the environment says: tests start some hundred processes.
test: $(DEV)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist worksteal --benchmark-disable \
	  --hypothesis-profile=$(DRAWS) tests

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_names.py
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_examples.py

check-versions:
	@$(PYTHON) scripts/check_versions.py

verify: $(DEV)
	$(BIN)/python -m verification
	$(BIN)/pytest -n auto --dist worksteal -m "few or long" --hypothesis-profile=many tests

# A benchmark is a script, or a test_*.py for pytest-benchmark; agreement.py is what they share.
bench: $(DEV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[bench]' \
	  || echo "the libraries of benchmarks/curve_speed.py cannot be installed here: it runs without"
	@for script in $(filter-out benchmarks/test_% benchmarks/agreement.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script || exit 1; done
	$(if $(wildcard benchmarks/test_*.py),$(BIN)/pytest benchmarks --benchmark-sort=name)
	$(BIN)/python scripts/benchmark_figure.py

profiles: $(DEV)
	$(BIN)/python scripts/profiles.py "$(WHEEL)"

package: $(DEV)
	$(BIN)/python scripts/check_package.py

package-every: $(DEV)
	$(BIN)/python scripts/check_package.py --every

docs-run: $(DEV)
	$(BIN)/pytest -n auto tests/cli/test_docs.py

docs: $(DEV)
	$(BIN)/python scripts/reports.py docs/_build/live/reports $(REPORTS)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile pyproject.toml --quiet \
  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate

# The build backend is locked too, so that the editable install needs nothing more.
lock: $(DEV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(COMPILE) --extra build -o requirements/runtime.lock
	@$(COMPILE) --extra build --extra dask --extra dev --extra docs -c requirements/runtime.lock -o requirements/dev.lock

clean:
	rm -rf $(VENV) .versions docs/_build build dist results/demo verification/results
