# `make demo` and `make test` do all their set-up on a machine that has Python 3.11, pip, make and gcc.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Networks this small are fastest on one thread, and two processes with two threads each would slow each other down.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow torture check format bench docs browser build clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## compare the methods on scikit-learn's digits
	$(BIN)/datafree demo

test: $(VENV)/installed  ## the default tests; those that need a browser are skipped without one (see `make browser`)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

slow: $(VENV)/installed  ## the long tests; MNIST is looked for in $$DATAFREE_DATA
	$(BIN)/python -m pytest -m slow

torture: $(VENV)/installed  ## kills, faults, corruptions, hostile files, random command lines: 22 minutes on two cores, resumable
	PYTHONPATH=tests $(BIN)/python -m torture --out runs/torture

check: $(VENV)/installed  ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(MAKE) test

format: $(VENV)/installed  ## format the code and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed  ## the benchmarks that a laptop can run
	$(BIN)/python benchmarks/step.py --out benchmarks/results/step.json
	$(BIN)/python benchmarks/demo.py --out benchmarks/results/demo.json

docs: $(VENV)/installed  ## build docs/_build/index.html; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build

browser: $(VENV)/installed  ## install Chromium (Debian and Ubuntu, as root) and its driver, for the tests of the docs
	$(PIP) --editable '.[browser]'
	@command -v chromium || { echo "installing Debian's package chromium with apt-get"; \
		apt-get update -qq && apt-get install --yes -qq --no-install-recommends chromium; } || \
		echo "chromium could not be installed; the tests that need a browser will be skipped"

build: $(VENV)/installed  ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) runs dist docs/_build
