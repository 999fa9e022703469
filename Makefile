# The commands of this project; `make` alone lists them. Python 3.11 or newer is all it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes

.DEFAULT_GOAL := help
.PHONY: help setup run serve test quick check fmt lock fault attack clients mutants simulate bench bench-peers docs rolling clean

# Modules of tests are compiled once, not by each process that runs them.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(VENV)/.stamp-run ## build .venv from the locked requirements

run: setup ## serve on http://localhost:8000 with everything it needs
	@exec $(BIN)/python -m service run

serve: setup ## serve with Gunicorn, as in production (settings: docs/configuration.md)
	@exec $(BIN)/python -m service serve

test: $(VENV)/.stamp-test ## all tests
	$(BIN)/python -m tests

quick: check ## lint, types, unit and contract tests, simulation: within a minute
	$(BIN)/python -m tests --quick

check: $(VENV)/.stamp-test ## lint, formatting, types, unused code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/vulture
	$(BIN)/mypy

fmt: $(VENV)/.stamp-test ## format, and mend what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

fault: $(VENV)/.stamp-test ## only the tests that kill, stall and cut real processes
	$(BIN)/python -m pytest tests/fault -m fault

attack: $(VENV)/.stamp-test ## attackers beside a well-behaved tenant; prints the table of docs/security.md
	$(BIN)/python -m tests.attack

clients: $(VENV)/.stamp-test ## ask every client library; writes the table of docs/clients.md
	$(BIN)/python -m tests.clients --write

mutants: $(VENV)/.stamp-test ## plant faults into a copy; says which of them the tests notice
	$(BIN)/python -m tests.mutants

simulate: $(VENV)/.stamp-test ## a minute of simulated histories; says which one breaks a rule
	$(BIN)/python -m tests.simulation

bench: $(VENV)/.stamp-test ## measure; prints the figures of docs/performance.md
	$(BIN)/python -m tests.load

bench-peers: $(VENV)/.stamp-test ## measure nginx, resumable-stream and LiteLLM in the place of the service
	$(BIN)/python -m tests.load.peers

rolling: ## replace the replicas of docker compose by the newly built image, cutting nothing
	sh deploy/compose/rolling.sh

docs: $(VENV)/.stamp-test ## write what is generated of docs/api.md, deploy and the scripts' types
	$(BIN)/python -m tests.docs.reference --write
	$(BIN)/python -m tests.docs.lua_types --write
	$(BIN)/python -m tests.deploy.prometheusrule --write
	$(BIN)/python -m tests.deploy.chart --write

# Needs uv (https://docs.astral.sh/uv/). Without hashes or with other versions nothing installs.
lock: ## renew the lock files from pyproject.toml
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate -o deploy/requirements.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra tracing -c deploy/requirements.txt -o deploy/requirements-tracing.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra local -c deploy/requirements.txt -o deploy/requirements-local.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra dev --extra local -c deploy/requirements.txt -o tests/requirements.txt
	for group in tests/clients/python/*/requirements.in tests/load/peers/*/requirements.in tests/deploy/tools/requirements.in; do \
		uv pip compile $$group --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate -o $${group%.in}.txt || exit 1; done

clean: ## remove .venv, caches and the local store
	rm -rf $(VENV) .chat .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find service tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The .pth line makes `.venv/bin/python -m service` work from any directory, without a build step.
$(VENV)/.stamp-run: deploy/requirements-local.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("The service needs Python 3.11 \
	or newer, and $(PYTHON) is %d.%d: make $(MAKECMDGOALS) PYTHON=python3.12" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked requirements into $(VENV) ..."
	@$(PIP) -r deploy/requirements-local.txt
	@$(BIN)/python -c 'import pathlib, sysconfig; \
	pathlib.Path(sysconfig.get_path("purelib"), "chat-service.pth").write_text("$(CURDIR)\n")'
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-run tests/requirements.txt
	@echo "Installing what the tests need ..."
	@$(PIP) -r tests/requirements.txt
	@touch $@
