# `make demo` and `make test` do all their set-up on a machine that has Python 3.11, pip, make and gcc.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Networks this small are fastest on one thread, and two processes with two threads each would be ruinous.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test slow check format bench docs clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed  ## the main job on scikit-learn's digits
	$(BIN)/datafree demo

test: $(VENV)/installed  ## the default tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

slow: $(VENV)/installed  ## the long tests; MNIST is looked for in $$DATAFREE_DATA
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed  ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(MAKE) test

format: $(VENV)/installed  ## writes the format and mends what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed  ## the benchmarks that a laptop can run
	$(BIN)/python benchmarks/inversion_step.py --out benchmarks/results/inversion_step.json
	$(BIN)/python benchmarks/ladder.py --out benchmarks/results/ladder.json

docs: $(VENV)/installed  ## the pages, as docs/_build/index.html; warnings are errors
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build

clean:
	rm -rf $(VENV) runs
