# Every target works inside .venv and creates it if needed. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Test processes: `make test JOBS=4`. Tests on the user's own server (MIRA_TEST_REDIS_URL) run one at a time.
JOBS   := $(if $(MIRA_TEST_REDIS_URL),0,3)
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install run serve unit test test-bench test-docker test-sdks check format docs errors-doc bench bench-pacing chaos chaos-gateway release clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 or newer, or name one: make PYTHON=python3.12 run"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; name one: make PYTHON=python3.12 run"; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "make: this Python has no venv module: on Debian and Ubuntu, install the package python3-venv"; exit 2; }
	@echo "Creating .venv (once, takes about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(STAMP) ## Create .venv with all dependencies (other targets do it too)
	@echo "Ready. Next: source $(BIN)/activate, then: mira-queue doctor"

run: $(STAMP) ## Run the 100 example requests on Mira if MIRA_API_KEY is set, else on the simulator
	@mkdir -p out && cp examples/requests.jsonl out/requests.jsonl
	@$(BIN)/mira-queue run out/requests.jsonl --simulate-without-key

serve: $(STAMP) ## Serve OpenAI's API on Mira if MIRA_API_KEY is set, else on the simulator
	@$(BIN)/mira-queue serve --simulate-without-key

unit: $(STAMP) ## Run the unit tests (under 30 s)
	@$(PYTEST) $(PARALLEL) tests/unit

test: $(STAMP) ## Run all tests (embedded server, real workers, simulator; needs no services)
	@$(PYTEST) $(PARALLEL)

test-docker: $(STAMP) ## Test the Compose stack on a Docker Engine (takes minutes)
	@MIRA_TEST_DOCKER=1 $(PYTEST) tests/docker -rs

test-sdks: $(STAMP) ## Test the gateway with the Rust SDK (needs cargo; builds for minutes)
	@MIRA_TEST_SDKS=1 $(PYTEST) tests/sdk_rust -rs

test-bench: $(STAMP) ## Run each benchmark command once, with small sizes, the long ones included
	@MIRA_TEST_BENCH=1 $(PYTEST) tests/integration/test_bench_smoke.py -rs

check: $(STAMP) ## Check format, lint rules, types, and import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Format the code and fix lint errors
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(STAMP) ## Build the API reference from the docstrings into build/api
	@$(BIN)/pdoc --output-directory build/api mira_queue
	@echo "open build/api/mira_queue.html"

errors-doc: $(STAMP) ## Write docs/errors.md from the code
	@$(BIN)/python -m tests.support.errors_doc

bench: $(STAMP) ## Print the measurements that the documentation quotes
	@$(BIN)/python -m bench

bench-pacing: $(STAMP) ## Print the share of an account's limit that workers reach, compared with peers
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python -m bench.pacing

chaos: $(STAMP) ## Inject faults at random moments, then check that nothing is lost, duplicated, or wrong
	@$(BIN)/python -m tests.chaos

chaos-gateway: $(STAMP) ## Kill the gateway and all behind it at random, then check every object and webhook
	@$(BIN)/python -m tests.chaos.gateway

screenshots: $(STAMP) ## Write docs/screenshots (needs Chromium)
	@$(BIN)/python -m tests.browser.screenshots

release: check ## Build sdist and wheel of a tagged commit (uploads nothing)
	@$(BIN)/python .ci/release_check.py
	@rm -rf dist
	@$(BIN)/python -m build
	@ls -l dist

clean: ## Remove what make created (.venv, caches, build/, dist/, out/); keep all queue state
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -type d -exec rm -rf {} +
