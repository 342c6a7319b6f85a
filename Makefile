# Two commands that set up everything they need: `make quickstart` and `make test`. PYTHON=python3.12 picks another Python.

PYTHON ?= python3
VENV := .venv
BASE_VENV := .venv-base
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Test processes, of one thread each: two threads in each of two would take turns at the same cores.
JOBS ?= 2
export PYTHONUNBUFFERED := 1

.PHONY: quickstart test test-all test-system gpu-rows lint setup setup-base python-is-new-enough

quickstart: setup
	$(VENV)/bin/python -m dofsuite.fit experiments/quickstart.yaml

# No network and no accelerator: what the tests need is made by the two set-ups.
test: setup setup-base
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE DOFSUITE_BASE_PYTHON=$(BASE_VENV)/bin/python \
		$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=30

# Whole quickstarts and full-size renders too; only what needs an accelerator or downloaded weights is left out.
test-all: setup setup-base
	DOFSUITE_BASE_PYTHON=$(BASE_VENV)/bin/python $(VENV)/bin/python -m pytest -m "not gpu and not weights"

# The page in a browser, and jobs under a SLURM of one node: as root, with Debian's chromium, slurmctld, slurmd,
# slurm-client and munge; what is missing is skipped, and says so.
test-system: setup
	$(VENV)/bin/python $(PIP_INSTALL) --editable '.[app]'
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest -m slow tests/app tests/cluster -rs

# What one GPU has to show, in stages (STAGES="lens text2image" for some of them).
gpu-rows: setup
	PYTHON=$(VENV)/bin/python bash experiments/gpu_rows.sh $(STAGES)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

setup: $(VENV)/.installed
setup-base: $(BASE_VENV)/.installed

# torch goes first, so that everything after it is chosen to fit the pinned version.
$(VENV)/.installed: pyproject.toml constraints.txt | python-is-new-enough
	@echo "Setting up $(VENV) (once; a few minutes, most of them torch)."
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python $(PIP_INSTALL) torch
	@$(VENV)/bin/python $(PIP_INSTALL) --editable ".[train,photo,app,demo,dev]"
	@touch $@

# The base install in an environment of its own: the tests prove that optics and metrics need nothing else.
$(BASE_VENV)/.installed: pyproject.toml constraints.txt | python-is-new-enough
	@echo "Setting up $(BASE_VENV), the base install that a test checks (once)."
	@test -x $(BASE_VENV)/bin/pip || $(PYTHON) -m venv --clear $(BASE_VENV)
	@$(BASE_VENV)/bin/python $(PIP_INSTALL) torch
	@$(BASE_VENV)/bin/python $(PIP_INSTALL) --editable .
	@touch $@

python-is-new-enough:
	@command -v $(PYTHON) >/dev/null \
		|| { echo "dofsuite needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name yours as in make PYTHON=python3.12 test." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "dofsuite needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V): name a newer one, as in make PYTHON=python3.12 test." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) lacks its venv module: install it (on Debian and Ubuntu: apt install python3-venv) and start again." >&2; exit 1; }
