# make help says what each target does. Without one: make demo.
.PHONY: help demo test check lint style tiny sharma-tiny torture bench test-browser test-slurm cells how-to install lock clean
.DEFAULT_GOAL := demo
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PIP := bin/python -m pip install --quiet --disable-pip-version-check
LOCK := build/uv/bin/uv pip compile pyproject.toml --quiet --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock"
# Whether .venv may stay: its Python is new enough, and the one that PYTHON names where that was given.
NEW := import sys; sys.exit(sys.version_info < (3, 11))
SYSTEM := $(shell command -v $(PYTHON) 2> /dev/null)
MINOR := import sys; print(sys.version_info[:2])
ifneq ($(wildcard $(BIN)/python),)
FITS := $(shell $(BIN)/python -c '$(NEW)' 2> /dev/null && echo yes)
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c '$(MINOR)' 2> /dev/null),$(shell $(BIN)/python -c '$(MINOR)' 2> /dev/null))
FITS :=
endif
endif
endif
SUITE = python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder
export PATH := $(BIN):$(PATH)
unexport PYTHONPATH

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'CORES=4 make ...: processors (2). PYTHON=python3.12 make ...: the Python of .venv (3.11 or newer).'

demo: $(VENV)/.installed-run ## the study demo: from raw data to the report, in minutes
	snakemake -c$(CORES)

tiny: $(VENV)/.installed-run ## one instance of every kind of table and figure, trained for real
	snakemake -c$(CORES) --config study=tiny

sharma-tiny: $(VENV)/.installed-run ## figures of Sharma et al. (2024) in miniature, by real training
	snakemake -c$(CORES) --config study=sharma-tiny

test: $(VENV)/.installed-dev ## the tests of the program
	$(SUITE) --ignore=tests/browser --ignore=tests/pages

check: lint ## before each commit, in a minute: style, types, the tests that are not slow
	$(SUITE) --ignore=tests/browser --ignore=tests/pages -m "not slow"

lint: style ## style, types, snakemake --lint
	snakemake --lint
	mypy

style: $(VENV)/.installed-dev ## style alone
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow

# To docs/evidence/performance.md; nothing else running.
bench: $(VENV)/.installed-run ## speed beside the conventional way; half an hour
	python benchmarks/run.py

# Chromium is installed where it is missing (as root, Debian).
test-browser: $(VENV)/.installed-dev ## the report in a real headless Chromium
	command -v chromium > /dev/null && command -v chromedriver > /dev/null || \
		(apt-get update -qq && apt-get install -y -qq chromium chromium-driver)
	python -m pytest tests/browser

# The test installs, starts and stops it itself.
test-slurm: $(VENV)/.installed-dev ## the workflow on a real Slurm (as root, Debian)
	python tests/slurm/run.py

cells: $(VENV)/.installed-dev ## study cifar10-cells in miniature: slices on three machines, merged
	python tests/cells/run.py

how-to: $(VENV)/.installed-dev ## the pages of the documentation, followed on copies of the tree; notebooks
	$(SUITE) tests/pages
	python tests/how_to/run.py

torture: $(VENV)/.installed-dev ## kills a workflow at random moments (TORTURE_KILLS, 50; TORTURE_SEED); compares what it ends with
	python tests/torture/run.py

install: $(VENV)/.installed-run ## what running needs, into .venv

# Made anew when the lock changes. The lock brings the setuptools that builds the project.
$(VENV)/.installed-%: requirements/%.txt pyproject.toml $(if $(FITS),,python)
	test -x $(BIN)/python || $(SYSTEM) -m venv $(VENV)
	$(VENV)/$(PIP) --require-hashes -r $<
	$(VENV)/$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# Before a .venv is made, or made anew: a Python that will do.
.PHONY: python
python:
	@test -n "$(SYSTEM)" && $(SYSTEM) -c '$(NEW)' 2> /dev/null || { echo "error: $(PYTHON) is missing or older than Python 3.11;" \
		"name another: PYTHON=python3.12 make ..." >&2; exit 1; }
	@! test -e $(VENV) || { echo "$(VENV): of another Python; made anew"; rm -rf $(VENV); }

# From pyproject.toml: what the project needs (run) and that with all its extras (dev), every file by its hash. A version
# stays as it is locked until pyproject.toml asks for another; without the folder requirements, all are the newest.
lock: ## the versions and hashes of all packages, anew
	$(PYTHON) -m venv build/uv
	build/uv/$(PIP) uv==0.13.8
	mkdir -p requirements
	$(LOCK) --all-extras --output-file requirements/dev.txt
	$(LOCK) --constraints requirements/dev.txt --output-file requirements/run.txt

clean: ## deletes results and .snakemake
	rm -rf results .snakemake
