# Two commands set everything up on a fresh machine: `make demo` and `make test`. With uv where it is there, else with
# venv and pip. PYTHON chooses another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
export UV_LINK_MODE = copy
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# The dependency's own archive must not be shared by hard links: bundled data refuses to load from them.
ifeq ($(UV),)
install = $(BIN)/python -m pip install --quiet
venv = $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
else
install = uv pip install --quiet --python $(BIN)/python
venv = uv venv --quiet --allow-existing --python $(PYTHON) .venv
endif

FAST := not slow and not vllm and not browser and not minilm and not ray

.PHONY: help demo test check lint types imports test-slow test-wheel test-vllm test-browser test-minilm test-ray bench clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: .venv/core ## build a real index and ask it three questions: no key, no network, no model
	@$(BIN)/branchwise demo

test: .venv/test ## the tests that need nothing but this folder
	$(BIN)/python -m pytest -m "$(FAST)"

check: lint types imports test ## everything that must be green before a commit

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

imports: .venv/test
	$(BIN)/lint-imports

test-slow: .venv/test ## killed builds, a Chroma server, 100,000 passages
	$(BIN)/python -m pytest -m slow

test-browser: .venv/test ## the web page in a real Chromium (Debian: apt-get install chromium)
	$(install) 'playwright>=1.49'
	$(BIN)/python -m pytest -m browser tests/browser
	$(BIN)/python -m pytest -m browser tests/surfaces  # a browser of its own: two cannot run in one process

test-minilm: ## the sentence embedder, in an environment of its own
	sh .ci/minilm

test-vllm: ## a real vLLM on the CPU, in an environment of its own
	sh .ci/vllm

test-ray: .venv/test ## the build on Ray Data
	$(install) '.[ray]' && $(install) --editable .
	$(BIN)/python -m pytest -m ray

test-wheel: ## the tests against the built wheel, in a clean environment
	sh .ci/wheel

bench: .venv/test ## the tables of the README
	$(BIN)/python -m branchwise.agent.bench.suite

clean: ## remove what make made
	rm -rf .venv .venvs .dev/branchwise dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/core: pyproject.toml .dev/link.py
	$(venv)
	$(install) --editable .
	@touch $@

.venv/test: .venv/core
	$(install) --group test --group check
	$(install) --editable .
	@touch $@
