# Everything is done inside .venv; nothing is installed by hand. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Files of tests side by side, the longest first: `make test JOBS=4`. Only one at a time can use a server of the user's.
JOBS   := $(if $(MIRA_TEST_REDIS_URL),0,2)

.DEFAULT_GOAL := help
.PHONY: help install run test test-docker check format bench bench-pacing chaos clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 or newer, or name it: make PYTHON=python3.12 run"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; name one: make PYTHON=python3.12 run"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: this Python has no venv module: on Debian and Ubuntu, install the package python3-venv"; exit 2; }
	@echo "Setting up .venv (once; a minute or so) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(STAMP) ## Set up .venv with everything (run and test do it too)
	@echo "Ready. Next: source $(BIN)/activate, then: mira-queue doctor"

run: $(STAMP) ## Answer the 100 example requests: on Mira when MIRA_API_KEY is set, else on the simulator
	@mkdir -p out && cp examples/requests.jsonl out/requests.jsonl
	@$(BIN)/mira-queue run out/requests.jsonl --simulate-without-key

test: $(STAMP) ## Run all tests (embedded server, real workers, simulator; no service needed)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-docker: $(STAMP) ## Test the compose stack on a Docker Engine (takes minutes)
	@MIRA_TEST_DOCKER=1 $(BIN)/python -m pytest tests/docker -rs

check: $(STAMP) ## Format, lint, types, import arrows
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Put the code into the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(STAMP) ## Print the measurements that the documents quote
	@$(BIN)/python -m bench

bench-pacing: $(STAMP) ## Print how near the account's limit we get, beside the documented loop
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python -m bench.pacing

chaos: $(STAMP) ## Kill everything at random for a while, then add up
	@$(BIN)/python -m tests.chaos

clean: ## Remove what make made (.venv, caches, out/); queue state and answers elsewhere stay
	rm -rf $(VENV) out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
