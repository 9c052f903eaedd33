# Two commands on a fresh machine with Python >= 3.11, pip and Node >= 20:
#   make web     install, build and open the workspace
#   make test    install and run every test that needs no paid account
# Stamps keep the second run short. `make help` lists the rest.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell sh scripts/find-python.sh)
HOST ?= 127.0.0.1
PORT ?= 8000
WEB_FLAGS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile

BIN := .venv/bin
INSTALLED := .venv/.installed
FRONTEND := src/frontend
MODULES := $(FRONTEND)/node_modules/.installed
PAGE := src/fleet_rlm/web/dist/index.html
PAGE_SOURCES = $(shell find $(FRONTEND) -type f -not -path '*/node_modules/*' -not -name '*.tsbuildinfo' 2>/dev/null)
NODE_OK := $(shell sh scripts/node-ok.sh && echo yes)

.PHONY: help install frontend web test test-daytona check bench lock clean

help:
	@echo "make web      install, build, then the workspace on http://$(HOST):$(PORT) (HOST=, PORT=)"
	@echo "make install  fill .venv with the locked versions and build the page; then .venv/bin/fleet"
	@echo "make test     every test that needs no paid account (PYTEST_ARGS=)"
	@echo "make test-daytona  the sandbox contract against a real Daytona (DAYTONA_API_KEY), at most ten sandboxes"
	@echo "make check    format, lint, types, import contracts, generated files"
	@echo "make bench    measure, side by side with dspy.RLM where that is a peer (NAMES=, WRITE=1)"
	@echo "make lock     resolve the locked versions again"

install: $(INSTALLED) frontend

$(INSTALLED): requirements.lock scripts/installer.lock scripts/install.py pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer was not found (install it, or name it: make PYTHON=/path/to/python3)" >&2; exit 2; }
	@"$(PYTHON)" scripts/install.py
	@touch $@

ifeq ($(NODE_OK),yes)
frontend: $(PAGE)

$(MODULES): $(FRONTEND)/package-lock.json $(FRONTEND)/package.json
	cd $(FRONTEND) && npm ci --no-audit --no-fund
	@touch $@

$(PAGE): $(MODULES) $(PAGE_SOURCES)
	cd $(FRONTEND) && npm run build
	@touch $@
else
frontend:
	@echo "the page is not built: Node >= 20 with npm was not found (the command line works without it)" >&2
	@test -z "$(CI)"
endif

web: install
	@$(BIN)/fleet web --host "$(HOST)" --port "$(PORT)" $(WEB_FLAGS)

test: install
	@PYTEST_ARGS="$(PYTEST_ARGS)" NODE_OK="$(NODE_OK)" sh scripts/test.sh

test-daytona:
	@if [ -n "$$DAYTONA_API_KEY" ]; then $(MAKE) install && \
	  CLOUD_DAYTONA_KEY="$$DAYTONA_API_KEY" CLOUD_DAYTONA_URL="$$DAYTONA_API_URL" CLOUD_DAYTONA_TARGET="$$DAYTONA_TARGET" \
	  $(BIN)/python -m pytest -m daytona tests/daytona_cloud; \
	else echo "test-daytona: skipped, DAYTONA_API_KEY is not set"; fi

check: install
	@NODE_OK="$(NODE_OK)" sh scripts/check.sh

.venv-bench/.installed: bench/requirements.lock scripts/install.py
	@"$(PYTHON)" scripts/install.py --bench && touch $@ || \
	  echo "the peer rlms could not be installed: its column stays empty" >&2

bench: install .venv-bench/.installed
	@$(BIN)/python -m bench $(if $(WRITE),--write) $(NAMES)

lock: $(INSTALLED)
	@"$(PYTHON)" scripts/install.py --lock

clean:
	rm -rf .venv .venv-bench $(FRONTEND)/node_modules src/fleet_rlm/web/dist .pytest_cache .ruff_cache .import_linter_cache
