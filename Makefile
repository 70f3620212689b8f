# Targets of the repository; `make help` lists them.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

VENV   ?= .venv
BUS    ?= wire
IMAGE  ?=
DEMO_ARGS ?=
PYTEST_ARGS ?=
BIN    := $(VENV)/bin
export VENV

.PHONY: help demo test lint unit test-vcan vcan-shell bench fuzz lock clean venv

help: ## list the targets
	@awk -F ' *## ' '/^[a-z-]+:.* ## / { sub(/:.*/, "", $$1); printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@printf '\n  %s\n' 'make demo BUS=wire|vcan IMAGE=firmware.elf DEMO_ARGS="..."; PYTHON=... chooses the interpreter'

demo: venv ## replay recall S2025M0149I for one car, live (BUS=vcan: over kernel CAN)
ifeq ($(BUS),vcan)
	@bash tools/vcan.sh $(BIN)/hil-rig demo --bus vcan $(if $(IMAGE),--image '$(IMAGE)') $(DEMO_ARGS)
else
	@$(BIN)/hil-rig demo --bus $(BUS) $(if $(IMAGE),--image '$(IMAGE)') $(DEMO_ARGS)
endif

test: venv ## everything: lint, unit, integration, coverage, scenarios over vcan
	@bash tools/test.sh

lint: venv ## ruff, format check, mypy --strict, import contracts
	@bash tools/lint.sh

unit: venv ## the unit tests alone, fast
	@$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

test-vcan: venv ## the scenario tests over vcan, on this kernel or in a guest
	@bash tools/packages.sh
	@bash tools/test-vcan.sh $(PYTEST_ARGS)

vcan-shell: venv ## a shell with vcan0, on this kernel or in a guest
	@bash tools/vcan.sh bash -c 'bash -i || true'

bench: venv ## measure; prints a table, writes build/bench.json
	@bash tools/optional.sh tests/bench/run.py "no benchmark is written yet"

fuzz: venv ## fuzz what reads foreign bytes
	@bash tools/optional.sh tests/fuzz/run.py "no fuzz target is written yet"

lock: venv ## resolve pyproject.toml anew into requirements.lock, with hashes
	@bash tools/lock.sh

clean: ## remove what the build made (.venv too)
	@rm -rf -- $(VENV) build *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache \
	    .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf -- {} +

venv:
	@bash tools/venv.sh
