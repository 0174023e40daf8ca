# make demo: everything from raw data to the report, on scikit-learn's digits.
# make test: the whole test suite.
.PHONY: demo test lint tiny torture bench test-environment test-browser test-slurm cells install clean
.DEFAULT_GOAL := demo
SHELL := /bin/bash
PYTHON ?= python3
CORES ?= 2
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
unexport PYTHONPATH

demo: $(VENV)/.installed
	snakemake -c$(CORES)
	@echo "The report: results/demo/report.html"

tiny: $(VENV)/.installed
	snakemake -c$(CORES) --config study=tiny

test: $(VENV)/.installed-dev
	python -m pytest -n $(CORES) --dist loadfile --ignore=tests/browser

lint: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy

# Speed beside the conventional way, to docs/evidence/performance.md; half an hour, nothing else running.
bench: $(VENV)/.installed
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

# Kills a whole workflow at random moments (TORTURE_KILLS, 50) and compares what it ends with.
torture: $(VENV)/.installed-dev
	python tests/torture/run.py

# The pip part of environment.yml, in an environment of its own.
test-environment: $(VENV)/.installed
	rm -rf build/environment && $(PYTHON) -m venv build/environment
	python -c "import yaml; print('\n'.join(yaml.safe_load(open('environment.yml'))['dependencies'][-1]['pip']))" > build/requirements.txt
	build/environment/bin/python -m pip install --quiet --disable-pip-version-check -r build/requirements.txt
	PYTHONPATH=src build/environment/bin/python -m pipeline check
	rm -rf build

install: $(VENV)/.installed

# Made anew when the pins change; PYTHON must be 3.11 or newer.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf results .snakemake
