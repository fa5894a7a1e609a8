# make setup | demo | test | lint | bench | audit | train | docs | wheel | check-wheel: everything happens in .venv of this checkout.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
THREADS := $(or $(OMP_NUM_THREADS),2)
PROCESSES ?= 2

.PHONY: setup demo test lint audit bench train docs wheel check-wheel
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

# Test files are spread over processes of one thread each, which keeps two cores busier than one process of two threads.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

# Licences, and known vulnerabilities of the pins; ends with an error where no service can be asked.
audit: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[audit]'
	$(BIN)/python tools/audit.py

# The site, in site/: warnings are errors.
docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs site
	@echo 'site/index.html'

# Wheel and source archive, in dist/; then everything once in a fresh environment of every Python found.
wheel: setup
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build --outdir dist .

check-wheel: wheel
	$(BIN)/python tools/check_wheel.py

# Every group beside its peers, 17 minutes on two idle cores, and workers, 14; some: make bench ONLY='recon files'; go on where it was
# interrupted: make bench MORE=--resume. denoising-diffusion-pytorch asks for torchvision, which its network does not need.
bench: setup
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt denoising-diffusion-pytorch
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python benchmarks/run.py $(if $(ONLY),--groups $(ONLY)) $(MORE)
ifndef ONLY
	$(BIN)/python benchmarks/load_ui.py --json benchmarks/results/ui.json
endif
	$(BIN)/python benchmarks/report.py
ifndef ONLY
	$(BIN)/python benchmarks/bench_workers.py --json benchmarks/results/workers.json
endif

# The shipped weights again, from simulated people alone. Restorer: 500 sinograms of 127 subjects, 20 minutes on 2 cores.
# Generator: 500 sinograms (15 prompts) of 255 subjects, 75 minutes of processor time. Translator: about 500 pairs of each of
# five tasks, 28 minutes of processor time. Second look: 16,000 regions in the low-dose pairs, 25 to mark, 9 to train.
RESTORE := brain:170 chest:165 abdomen:165
RESTORE_STORES := $(foreach size,$(RESTORE),runs/$(firstword $(subst :, ,$(size))).zarr)
REGIONS := brain head-neck chest abdomen pelvis
TRACERS := FDG:34:0 DOPA:33:1 PSMA:33:2
PROMPTS := $(foreach tracer,$(TRACERS),$(foreach region,$(REGIONS),$(tracer):$(region)))
PROMPT_STORES := $(foreach tracer,FDG DOPA PSMA,$(foreach region,$(REGIONS),runs/prompts/$(tracer)-$(region).zarr))

train: setup
	mkdir -p runs/prompts
	for size in $(RESTORE); do \
	  $(BIN)/allpet simulate runs/$${size%:*}.zarr --region $${size%:*} -n $${size#*:} --seed 0 || exit $$?; done
	for prompt in $(PROMPTS); do set -- $$(echo $$prompt | tr : ' '); \
	  $(BIN)/allpet simulate runs/prompts/$$1-$$4.zarr --tracer $$1 --region $$4 -n $$2 --seed $$3 \
	    --slices-per-subject 2 || exit $$?; done
	OMP_NUM_THREADS=$(THREADS) $(BIN)/allpet train --data $(RESTORE_STORES) --out runs/base --recipe low-dose --max-minutes 20
	OMP_NUM_THREADS=1 $(BIN)/allpet train --data $(PROMPT_STORES) --out runs/base --recipe base --max-minutes 75
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m allpet.train.emphasis runs/base $(PROMPT_STORES)
	$(BIN)/python -m allpet.study pairs --out runs/pairs
	OMP_NUM_THREADS=1 $(BIN)/allpet train --data runs/pairs/*.zarr --out runs/base --recipe tasks --max-minutes 28
	OMP_NUM_THREADS=1 $(BIN)/allpet train --data runs/pairs/low-dose_*.zarr --out runs/base --recipe attention --max-minutes 9
	$(BIN)/python -m allpet.train.calibrate runs/base
