# make demo: everything from raw data to the report, on scikit-learn's digits.
# make test: the whole test suite.
.PHONY: demo test lint tiny nano test-slurm install clean
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
	snakemake all claims -c$(CORES) --config study=tiny

test: $(VENV)/.installed-dev
	python -m pytest

lint: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint
	mypy

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
