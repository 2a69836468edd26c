# make run      every notebook executed, then rendered to build/html/index.html
# make test     lint, unit tests, and every notebook and solution compared with its stored output
# make test-all what takes longer: other dtypes and models, teaching paths, engines, the lowest versions of all packages
# make lint     ruff, mypy, and the layers of helpers
# make lab      JupyterLab, at the first notebook
# make refresh  execute the notebooks in place and clean them, after a change that is meant to change their output
# make doctor  what works on this machine, what to do about what does not, and a line to hand in
#
# PYTHON=python3.12 make run    chooses the interpreter;  make clean  forgets the environment and all that was built.
# The first call installs the exact versions of constraints.txt into .venv. After that nothing here uses the network.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first of these that is Python 3.11 or newer, unless you say which.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo $$p && break; done)

VENV := .venv
PY := $(VENV)/bin/python
# Changes with these two files and this folder's place, so an environment that fits them is never touched again.
STAMP := $(VENV)/installed-$(firstword $(shell { cat pyproject.toml constraints.txt; pwd; } | cksum))

# What is installed beside the required packages; environment.yml names the same.
EXTRAS := dev,browser

NOTEBOOKS := $(PY) -m tools.notebooks
# Two at a time, each file (each notebook) by one of them from its first cell to its last; ARGS="-n 0" for one at a time.
PYTEST := $(PY) -m pytest -n 2 --dist loadscope \
  --nbval-current-env --nbval-sanitize-with tests/nbval.cfg --nbval-cell-timeout 300
# Here one test is one whole notebook, so whoever is free takes the next; by files, one of two would have nearly all.
WHOLE := $(PY) -m pytest -n 2 --dist worksteal
# A part of test-all, and how long it took: $(call part,NAME,COMMAND)
part = start=$$(date +%s); $(2) || failed="$$failed $(1)"; echo "== $(1): $$(( $$(date +%s) - start )) s"
# The notebooks and the tests must not need a network; JupyterLab may be used to download the released model.
run refresh test test-all test-lowest: export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: help install run test test-all test-lowest lint lab refresh render doctor clean
help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -10

install: $(STAMP)
$(STAMP):
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	  echo "This needs Python 3.11 or newer; $(or $(PYTHON),python3) is" \
	    "$$(command -v "$(or $(PYTHON),python3)" >/dev/null && "$(or $(PYTHON),python3)" --version 2>&1 || echo not there)."; \
	  echo "Install one, or name one that is there: PYTHON=/path/to/python3.12 make $(MAKECMDGOALS)"; exit 1; } >&2
	@$(PY) -c '$(NEW_ENOUGH)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV) || { \
	  echo "Python could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing the packages of constraints.txt into $(VENV) (a few minutes, once) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt 'setuptools>=77'
	@$(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt \
	  --no-build-isolation --editable '.[$(EXTRAS)]' > $(VENV)/install.log 2>&1 || { \
	  tail -20 $(VENV)/install.log; echo "The packages could not be installed; all of it is in $(VENV)/install.log" ; exit 1; } >&2
	@rm -f $(VENV)/installed-*; touch $@

run: $(STAMP)
	@$(NOTEBOOKS) run

render: $(STAMP)
	@$(NOTEBOOKS) render

refresh: $(STAMP)
	@$(NOTEBOOKS) refresh

test: lint
	@$(PYTEST) --nbval tests notebooks $(ARGS)

# Every part runs, and what fails in one fails the whole. The engines start workers of their own, so they come alone.
test-all: $(STAMP)
	@failed=; \
	  $(call part,elsewhere and paths,$(WHOLE) -m "elsewhere or paths" tests/test_notebooks_elsewhere.py tests/test_paths.py $(ARGS)); \
	  $(call part,engines,$(PY) -m pytest -n 0 -rs -m engines tests/test_encode.py $(ARGS)); \
	  $(call part,lowest,$(PY) -m tools.lowest); \
	  test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

test-lowest: $(STAMP)
	@$(PY) -m tools.lowest

lint: $(STAMP)
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && $(VENV)/bin/lint-imports --no-cache

lab: $(STAMP)
	@$(PY) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/$(firstword $(wildcard notebooks/01_*.ipynb)) $(ARGS)

doctor: $(STAMP)
	@$(PY) -m helpers.doctor $(ARGS)

clean:
	rm -rf $(VENV) build
