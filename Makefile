# Every command of the template. The same verbs work in a generated service.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export UV_SYSTEM_CERTS ?= 1
export UV_PYTHON_DOWNLOADS ?= never
export UV_COMPILE_BYTECODE ?= 1
export VIRTUAL_ENV :=
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
OUT ?= build
OPTS ?=

.PHONY: help setup demo test check test-template test-service test-odd test-clients test-inference sabotage bake dev clean

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(BIN)/.ready ## Install the template's tools into .venv

demo: $(BIN)/.ready ## Generate a service in a temporary folder and play its story (ONCE=1 ends by itself)
	@$(BIN)/python -m scripts.demo

test: check test-template test-service ## Everything: static checks, rendering, and a generated service's own tests

check: $(BIN)/.ready ## Static checks of the template's own code
	@$(BIN)/ruff check --no-cache --quiet . && $(BIN)/ruff format --no-cache --check --quiet . && echo "ruff: ok"
	@$(BIN)/mypy --cache-dir .mypy_cache

test-template: $(BIN)/.ready ## Rendering, options, hooks, strings, updates (about two minutes)
	@$(BIN)/python -m pytest -n 2 -m "not service" $(ARGS)

test-service: $(BIN)/.ready ## Generate a service as a user would and run its whole suite
	@$(BIN)/python -m pytest -m service --durations=12 $(ARGS)

test-odd: $(BIN)/.ready ## Services on odd machines: names, umasks, proxies, git, Pythons, poolers (ONLY=ipv6,git STRICT=1)
	@$(BIN)/python -m tests.odd $(ONLY)

test-clients: $(BIN)/.ready ## Client libraries through a service at a strict provider (ONLY=litellm,dspy DIRECT=1)
	@$(BIN)/python -m tests.clients $(ONLY)

test-inference: $(BIN)/.ready ## A real inference server (llama.cpp's, a small model) through a service: 250 MB of packages
	@$(BIN)/python -m tests.inference

sabotage: $(BIN)/.ready ## Cut controls out of a service; their proofs must notice: ID=SEC-02, CHANGED=1, SAMPLE=20 LIMIT=600 as CI, RELEASE=1
	@$(BIN)/python -m tests.sabotage.sweep $(ID) $(if $(CHANGED),--changed) $(if $(SAMPLE),--every $(SAMPLE)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(BASE),--base $(BASE)) $(if $(RELEASE),--release)

bake: $(BIN)/.ready ## Render one service to look at: make bake OPTS='deploy_target=kubernetes ci=gitlab'
	@$(BIN)/cookiecutter --no-input --overwrite-if-exists --output-dir $(OUT) . $(OPTS)

dev: $(BIN)/.ready ## Render again whenever a template file changes
	@$(BIN)/python -m scripts.watch $(OUT) $(OPTS)

clean: ## Remove what can be made again
	@rm -rf .venv .uv .mypy_cache .hypothesis build

$(BIN)/.ready: pyproject.toml
	@"{{cookiecutter.project_slug}}/scripts/install" "$(PYTHON)" "$(UV)"
	@touch $@
