# make study    install and run the quick study, the whole paper in miniature; prints the three correlations and where the report is
# make test     everything that must hold before a change is merged; says at the end what failed
# make lab      JupyterLab on the tutorials, with interactive charts
# make docs     the documentation site, built and checked (needs Quarto)
# make notebooks  run every notebook and store its outputs

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
SOURCES := $(shell find transfer_study -type f -not -name '*.pyc') $(shell find data -type f) pyproject.toml README.md LICENSE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: study test lab docs notebooks bench clean

study: .venv/.package
	$(BIN)/transfer-study run quickstart

test: .venv/.dev
	$(BIN)/python tools/run_checks.py

lab: .venv/.dev
	TRANSFER_STUDY_CHARTS=interactive $(BIN)/jupyter lab --notebook-dir nbs --LabApp.default_url=/lab/tree/tutorials/five_minutes.ipynb

docs: .venv/.dev
	@command -v quarto > /dev/null || { echo "make docs needs Quarto: install it from https://quarto.org/docs/get-started/ and run make docs again"; exit 1; }
	$(BIN)/python tools/make_site.py  # nbdev would make a README of its own where it finds one older than the home page
	rm -rf _proc _docs  # nbdev copies only pages that changed: the others would be prepared twice, and pages of old names would stay
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/nbdev_docs
	$(BIN)/python tools/check_site.py _docs --pictures build/pictures

notebooks: .venv/.dev
	$(BIN)/nbdev_export
	$(BIN)/python tools/run_notebooks.py
	$(BIN)/nbdev_clean
	$(BIN)/python tools/make_site.py

bench: .venv/.dev
	for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark || exit 1; done

clean:
	rm -rf .venv build dist _proc _docs *.egg-info

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.package: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing; torch and its libraries are about 5 GB, so this takes some minutes"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/.package
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	@touch $@

# The wheel as a user gets it: the newest of every dependency, outside the checkout.
build/.wheel-checked: .venv/.dev $(SOURCES) tools/check_wheel.py
	$(BIN)/python tools/check_wheel.py
	@mkdir -p $(@D) && touch $@
