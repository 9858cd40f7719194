# The contributor's day. `make demo` and `make test` set up what they need.
.PHONY: help setup demo test check format clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := .venv/bin
READY := .venv/ready

help:
	@echo "make demo    fill a small universe from the simulator: no key, no server"
	@echo "make test    run all tests"
	@echo "make check   lint, types, architecture, and whether Dagster loads the definitions"
	@echo "make setup   only install, into .venv"
	@echo "make format  put the code into its form"
	@echo "make clean   stop the demo and remove what it and the tools made"

setup: $(READY)

$(READY): pyproject.toml constraints.txt scripts/make-venv
	@scripts/make-venv
	@echo "Installing into .venv (a minute or two, once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/backfill demo

test: $(READY)
	@$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && \
	DAGSTER_HOME=$$home $(BIN)/dagster definitions validate -w workspace.yaml  # a home of its own: no server is started

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	@if [ -x $(BIN)/backfill ] && [ -d .demo ]; then BACKFILL_DATA_DIR=.demo DATABASE_URL= $(BIN)/backfill db stop; fi
	rm -rf .demo logs .logs_queue .nux .telemetry .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
