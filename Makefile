# make demo: everything from raw data to the report, on scikit-learn's digits.
# make check: what a person runs before each commit. make test: the whole test suite.
.PHONY: demo test check lint style tiny torture bench test-browser test-slurm cells how-to install lock clean
.DEFAULT_GOAL := demo
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PIP := bin/python -m pip install --quiet --disable-pip-version-check
LOCK := build/uv/bin/uv pip compile pyproject.toml --quiet --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock"
export PATH := $(BIN):$(PATH)
unexport PYTHONPATH

demo: $(VENV)/.installed-run
	snakemake -c$(CORES)
	@echo "The report: results/demo/report.html"

tiny: $(VENV)/.installed-run
	snakemake -c$(CORES) --config study=tiny

test: $(VENV)/.installed-dev
	python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder --ignore=tests/browser

# Before each commit, in a minute: style, types, and the tests that are not slow.
check: lint
	python -m pytest -n $(CORES) --dist loadfile --no-loadscope-reorder --ignore=tests/browser -m "not slow"

lint: style
	snakemake --lint
	mypy

style: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow

# Speed beside the conventional way, to docs/evidence/performance.md; half an hour, nothing else running.
bench: $(VENV)/.installed-run
	python benchmarks/run.py

# The report in a real headless Chromium, which is installed where it is missing (as root, Debian).
test-browser: $(VENV)/.installed-dev
	command -v chromium > /dev/null && command -v chromedriver > /dev/null || \
		(apt-get update -qq && apt-get install -y -qq chromium chromium-driver)
	python -m pytest tests/browser

# The workflow on a real Slurm that the test installs (as root, Debian), starts and stops itself.
test-slurm: $(VENV)/.installed-dev
	python tests/slurm/run.py

# Study cifar10-cells in miniature: slices on three machines, merged by the workflow.
cells: $(VENV)/.installed-dev
	python tests/cells/run.py

# The how-to pages that extend the program, followed on a copy of the tree and run in study nano.
how-to: $(VENV)/.installed-dev
	python tests/how_to/run.py

# Kills a whole workflow at random moments (TORTURE_KILLS, 50; TORTURE_SEED) and compares what it ends with.
torture: $(VENV)/.installed-dev
	python tests/torture/run.py

install: $(VENV)/.installed-run

# Made anew when the lock changes; PYTHON must be 3.11 or newer. The lock brings the setuptools that builds the project.
$(VENV)/.installed-%: requirements/%.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/$(PIP) --require-hashes -r $<
	$(VENV)/$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# From pyproject.toml: what the project needs (run) and that with all its extras (dev), every file by its hash. A version
# stays as it is locked until pyproject.toml asks for another; without the folder requirements, all are the newest.
lock:
	$(PYTHON) -m venv build/uv
	build/uv/$(PIP) uv==0.13.8
	mkdir -p requirements
	$(LOCK) --all-extras --output-file requirements/dev.txt
	$(LOCK) --constraints requirements/dev.txt --output-file requirements/run.txt

clean:
	rm -rf results .snakemake
