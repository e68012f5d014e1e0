# Everything here works on a machine with Python 3.11 or newer, make and a package index.
# Another Python:  make test PYTHON=python3.13 VENV=.venv-3.13
# Arguments:       make demo ARGS="--seconds 5"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE = $(wildcard src tests scripts benchmarks)
CHECKS := check-format check-lint check-types check-floors check-sync-face check-sizes \
	check-bare-import check-cli-reference check-docs

# Three processes share the tests, a file or a class at a time. For one: make test ARGS="-n 0"
SIDE_BY_SIDE := -n 3 --dist loadscope --no-loadscope-reorder

# The theme's advertisement for its successor is not a warning about our pages.
export NO_MKDOCS_2_WARNING := 1

# Where it is set, each of the hundreds of processes that the tests start would compile the code again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench torture torture-kills torture-postgres torture-power torture-history docs format \
	sync-face schema-fixture $(CHECKS)

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

# Most of what is installed is never imported, so it is compiled when it is, which is a quarter quicker.
# The stamp comes last, so an environment that was interrupted half-made is made again from nothing.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c '' 2>/dev/null || \
		{ echo "no working '$(PYTHON)' found: install Python 3.11 or newer, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Holdfast needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1): say make PYTHON=python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) (about a minute)..."
	@rm -f $@
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --requirement requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(READY) ## create the environment that all others need

demo: $(READY) ## kill, race and rewrite against a real store, and count what is left
	@$(BIN)/holdfast demo $(ARGS)

test: $(READY) ## run the tests
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

check: $(CHECKS) ## everything that needs no test run: format, lint, types, floors, freshness
	@echo "all checks passed"

bench: $(READY) ## measure against the machine's own limit, and beside other stores
	@$(BIN)/python -m benchmarks $(ARGS)

# ARGS goes to both, so it can hold what both know: --seed and --json.
torture: $(READY) ## the long kill storms, then a million power failures
	@$(MAKE) --no-print-directory torture-kills
	@$(MAKE) --no-print-directory torture-postgres ARGS=
	@$(MAKE) --no-print-directory torture-power

torture-kills: $(READY) ## the long kill storm alone
	@$(BIN)/python -m holdfast.testing.torture $(ARGS)

torture-postgres: $(READY) ## 100 kills and 20 failovers of PostgreSQL servers, under load
	@$(BIN)/python -m holdfast.testing.postgres.torture $(ARGS)

torture-power: $(READY) ## a million power failures alone
	@$(BIN)/python -m holdfast.testing.powerloss $(ARGS)

torture-history: $(READY) ## the long history check
	@$(BIN)/python -m holdfast.testing.checking --operations 400000 --kills 100 $(ARGS)

docs: $(READY) ## write the command line's reference, then build the docs into site/
	@$(BIN)/python scripts/cli_reference.py
	@$(BIN)/mkdocs build --strict
	@echo "open site/index.html"

format: $(READY) ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff check --quiet --fix-only $(CODE)
	@$(BIN)/ruff format $(CODE)

sync-face: $(READY) ## write the sync store again from the async one
	@$(BIN)/python scripts/generate_sync.py

schema-fixture: $(READY) ## keep a store of a new schema version for the tests
	@$(BIN)/python scripts/schema_fixture.py

check-format: $(READY)
	@echo "== format"
	@$(BIN)/ruff format --quiet --check --diff $(CODE)

check-lint: $(READY)
	@echo "== lint"
	@$(BIN)/ruff check --quiet $(CODE)

check-types: $(READY)
	@echo "== types"
	@$(BIN)/mypy --no-error-summary $(CODE)

check-floors: $(READY)
	@echo "== floors"
	@found=$$($(BIN)/lint-imports) || { echo "$$found"; exit 1; }

check-sync-face: $(READY)
	@echo "== sync face fresh"
	@$(BIN)/python scripts/generate_sync.py --check

check-sizes: $(READY)
	@echo "== sizes"
	@$(BIN)/python scripts/check_sizes.py

check-bare-import: $(READY)
	@echo "== import without extras"
	@$(BIN)/python scripts/check_bare_import.py

check-cli-reference: $(READY)
	@echo "== command line reference fresh"
	@$(BIN)/python scripts/cli_reference.py --check

# With --quiet, --strict would let warnings pass.
check-docs: $(READY)
	@echo "== docs"
	@site=$$(mktemp -d) && trap 'rm -rf "$$site"' EXIT && \
		found=$$($(BIN)/mkdocs build --strict --site-dir "$$site" 2>&1) || { echo "$$found"; exit 1; }
