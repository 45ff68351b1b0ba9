# make quickstart   pretrain with and without BatchFormer and judge both, on the CPU in minutes
# make test         run the tests
# make check        lint, format, types, tests
# make bench        measure everything beside its peers on the CPU (quiet machine, 15 minutes)
# make bench-gpu    the same on a GPU; make bench-judge: the evaluation alone
# make venv         create the environment only
# make torture      try what must survive anything, a minute per row, and print the table
# make check-gpu    all that wants a GPU in 12 minutes, without installing; PYTHON=name WHEELS=folder
#
# SEED=n sets the seed of data and runs of the quickstart; VENV=folder the environment's place;
# PYTHON=name the interpreter it is made from; REQUIRE='package>=1' adds to what is installed;
# JOBS=n the processes that run the tests (auto: one per core, 8 at most);
# ROWS='name ...' of the torture (all), MINUTES=n for each of them; 0 only prints;
# ROUNDS=n of the benchmarks (7 is what to report from); DATA=folder: CIFAR-10 for the GPU's.
# check-gpu runs PYTHON itself, which has torch; WHEELS=folder: of what it lacks, for this run alone;
# CHECK_ARGS=--tiny tries it on a CPU; bench/README.md says more.

SEED ?= 0
VENV ?= .venv
PYTHON ?= python3
REQUIRE ?=
PYTEST_ARGS ?=
JOBS ?= auto
ROUNDS ?= 1
ROWS ?=
MINUTES ?= 1
CHECK_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help bench bench-gpu bench-judge check-gpu quickstart whole-number-seed test torture check lint format-check types venv

help:
	@sed -n '/^# make /s/^# //p' Makefile

# ---- environment: made once, and again when what it is made from changes

STAMP := $(VENV)/ssl-bf-$(shell cat setup.cfg pyproject.toml | sha256sum | cut -c1-16)
PIP = "$(VENV)/bin/python" -m pip install -q
WANTED = -e '.[dev]' $(if $(REQUIRE),'$(REQUIRE)')

# Empty, or one line that names what the machine lacks.
MISSING = $(shell \
	command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON): not found, expected python3 >= 3.11; sudo apt install python3 python3-venv"; exit; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON): is $$($(PYTHON) -V 2>&1), expected >= 3.11; install a newer one and give it as PYTHON=python3.12"; exit; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		echo "python3-venv: missing ($(PYTHON) cannot create environments); sudo apt install python3-venv")

venv: $(STAMP)

# The mark `ssl-bf-unfinished` stays behind when the installation is interrupted: what we made, whole
# or in part, is emptied and made anew; an environment of the user's own is added to, never emptied.
$(STAMP):
	$(if $(MISSING),$(error $(MISSING)))
	@echo "creating the environment $(VENV) (once; about 7 GB, 1 to 4 minutes) ..."
	@if ls "$(VENV)"/ssl-bf-* >/dev/null 2>&1; then clear=--clear; fi; $(PYTHON) -m venv $$clear "$(VENV)"
	@touch "$(VENV)/ssl-bf-unfinished"
	@if $(PIP) uv && VIRTUAL_ENV="$(abspath $(VENV))" "$(VENV)/bin/uv" pip install -q $(WANTED); then :; \
		else echo "uv could not install; trying pip ..." && $(PIP) $(WANTED); fi
	@mv "$(VENV)/ssl-bf-unfinished" "$@"

# ---- the checks; one after the other, so that pytest's summary is the last line of `make check`

.NOTPARALLEL:

check: lint format-check types test

lint: $(STAMP)
	"$(VENV)/bin/ruff" check .

format-check: $(STAMP)
	"$(VENV)/bin/ruff" format --check .

types: $(STAMP)
	"$(VENV)/bin/mypy"

test: $(STAMP)
	"$(VENV)/bin/python" -m pytest -n $(JOBS) --maxprocesses 8 $(PYTEST_ARGS)

# ---- what must survive anything; figures add up in tests/torture/figures.jsonl

torture: $(STAMP)
	OMP_NUM_THREADS=1 "$(VENV)/bin/python" -m tests.torture $(ROWS) --minutes $(MINUTES)

# ---- the benchmarks

BENCHES := $(filter-out check_gpu,$(basename $(notdir $(shell grep -l '^def main' bench/*.py))))
GPU_ROWS = kornia_views moco_v3_step pipeline time_to_accuracy
JUDGE = $(filter knn logistic memory probe retrieval,$(BENCHES))
run_each = for each in $(1); do "$(VENV)/bin/python" -m bench.$$each --rounds $(ROUNDS) $(2) || exit 1; done

bench: $(STAMP)
	$(call run_each,$(filter-out $(GPU_ROWS),$(BENCHES)))

bench-gpu: $(STAMP)
	$(call run_each,$(BENCHES),--device cuda $(if $(DATA),--data $(DATA)))

bench-judge: $(STAMP)
	$(call run_each,$(JUDGE))

# No environment is made: a machine with a GPU has a torch that was built for it.
check-gpu:
	@$(PYTHON) -c 'import torch, torchvision' 2>/dev/null || { echo \
		"$(PYTHON): cannot import torch and torchvision, expected both; name one that can as PYTHON=" >&2; exit 2; }
	$(PYTHON) -m bench.check_gpu $(if $(WHEELS),--wheels "$(WHEELS)") $(if $(DATA),--data "$(DATA)") $(CHECK_ARGS)

# ---- the quickstart

without = runs/quickstart/without_relation
with = runs/quickstart/with_batchformer
seeds = seed=$(SEED) data.seed=$(SEED)
bad_seed = $(shell case '$(subst ','\'',$(SEED))' in (''|*[!0-9]*) echo bad;; esac)

whole-number-seed:
	$(if $(bad_seed),$(error SEED=$(SEED): expected a whole number >= 0, as in SEED=1 make quickstart),@:)

quickstart: whole-number-seed $(STAMP)
	"$(VENV)/bin/ssl-bf" pretrain quickstart relation.name=none run.directory=$(without) run.overwrite=true $(seeds)
	"$(VENV)/bin/ssl-bf" pretrain quickstart run.directory=$(with) run.overwrite=true speed.like=$(without) $(seeds)
	"$(VENV)/bin/linear-eval" run quickstart backbone=$(with)/backbone.safetensors \
		"baselines=[pixels, random, $(without)/backbone.safetensors]" --overwrite output=runs/quickstart/results.json $(seeds)
	"$(VENV)/bin/linear-eval" report $(without) $(with) runs/quickstart/results.json --output runs/quickstart/report.html
