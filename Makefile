# make setup | demo | test | lint | bench | train: everything happens in .venv of this checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
THREADS := $(or $(OMP_NUM_THREADS),2)

.PHONY: setup demo test lint bench train
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo 'error: $(PYTHON) is not Python 3.11 to 3.13; name one: make PYTHON=python3.12'; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@echo 'installing into .venv (a few minutes the first time)'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/allpet demo --out demo-out

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest

bench: setup
	$(BIN)/python benchmarks/bench_projector.py --json benchmarks/results/projector.json

# The shipped weights again, from simulated data alone (about 20 minutes on 2 cores).
train: setup
	$(BIN)/allpet train --data runs/train.zarr --out runs/base
