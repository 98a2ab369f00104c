# Two commands do everything on a machine that has python3, pip and make: `make demo` and `make test`.
# Python >= 3.12 is found or fetched by uv, which itself comes from the package index into .tools/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
# Compiled bytecode makes imports 2-4 times faster where writing it at run time is off.
export UV_COMPILE_BYTECODE := 1
export UV_LINK_MODE := copy

DEMO := demo
STUDIES := 1000
# make transfer: its folder, how many phantoms, how long each of the two models trains.
TRANSFER := transfer
TRANSFER_STUDIES := 1800
TRANSFER_STEPS := 1800
# Test files side by side.
JOBS := 2

.PHONY: help demo transfer test setup lint format locks faults bench clean

help:
	@sed -n 's/^## //p' Makefile

## make demo    the whole way on a phantom: DICOM, records, training, retrieval, classification (minutes)
demo: .venv/.demo
	@bash launch/demo.sh $(PY) $(DEMO) $(STUDIES)

## make transfer   phantoms, and models trained on them alone, for bench.transfer to ask about real hearts (about an hour)
transfer: .venv/.demo
	@bash launch/transfer.sh $(PY) $(TRANSFER) $(TRANSFER_STUDIES) $(TRANSFER_STEPS)

## make test    the tests, warnings as errors
test: .venv/.dev
	$(PY) -m pytest -m "not slow" -n $(JOBS) --dist loadfile $(ARGS)

## make setup   only the environment, with what the tests need
setup: .venv/.dev

## make lint    ruff, pyright, the import rules, shellcheck
lint: .venv/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(PY) -m pytest tests/test_imports.py
	.venv/bin/shellcheck launch/*.sh launch/slurm.sbatch .ci/run

## make faults  the slow tests: faults at their full number, and the demo's controls
faults: .venv/.dev
	$(PY) -m pytest -m slow $(ARGS)

## make bench   side by side with what others do, into docs/benchmarks.md (an hour on an idle machine)
bench: .venv/.dev
	$(PY) -m bench --fresh --out docs/benchmarks.md

## make locks   resolve requirements/*.txt anew from pyproject.toml
locks: $(UV)
	@lock() { $(UV) pip compile -q pyproject.toml "$$@" --universal --python-version 3.12 --generate-hashes --no-header --no-annotate; }; \
	lock --extra preprocess -o requirements/demo.txt; \
	lock --extra dev -o requirements/dev.txt; \
	lock --extra preprocess --extra tpu -o requirements/tpu.txt; \
	lock --extra preprocess --extra cuda -o requirements/cuda.txt; \
	echo uv | $(UV) pip compile -q - --universal --python-version 3.8 --generate-hashes --no-header --no-annotate -o requirements/bootstrap.txt

clean:
	rm -rf .venv .tools $(DEMO) $(TRANSFER) build *.egg-info

.tools/bin/uv: requirements/bootstrap.txt
	python3 -m pip install --quiet --disable-pip-version-check --require-hashes --upgrade --target .tools -r $<
	@touch $@

.venv/bin/python: | $(UV)
	$(UV) venv --quiet --allow-existing .venv

# The smaller environment never takes away what the larger one has brought.
.venv/.demo: requirements/demo.txt pyproject.toml | $(UV) .venv/bin/python
	@test -e .venv/.dev || $(UV) pip sync --quiet --python $(PY) --require-hashes requirements/demo.txt
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | $(UV) .venv/bin/python
	$(UV) pip sync --quiet --python $(PY) --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@
