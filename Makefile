# Everything here sets itself up. Needs: Python 3.11 or newer, make, and the network the first time.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

args ?=
bin := .venv/bin
pip := $(bin)/python -m pip --disable-pip-version-check --quiet
say = printf '==> %s\n'

# An environment is up to date when it was made from these very files: the stamp carries their checksum.
stamp = .venv/.$(1)-$(firstword $(shell cat requirements/$(1).lock pyproject.toml | cksum))

# Node.js, from the Python package index where this machine has none that is new enough.
node = sh scripts/with-node.sh ../$(bin)/python

# What npm installed is up to date when it was made from this very list.
extension = vscode-extension/node_modules/.from-$(firstword $(shell cat vscode-extension/package-lock.json | cksum))

.PHONY: help demo serve postgres test check extension extension-check extension-test soak bench lock clean
help:    ## this list
	@sed -nE 's/^([a-z]+): .*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(call stamp,local)    ## the main job on a real model, without any key
	@$(say) "The demo. Without a model of your own it downloads a small one: 1.1 GB, once"
	@$(bin)/agent-service demo --yes $(args)

serve: $(call stamp,local)    ## start the service: make serve args="--port 9000"
	@$(bin)/agent-service serve $(args)

postgres: $(call stamp,postgres)    ## the driver for PostgreSQL, for a service that shares its database

test: check    ## check, then all tests but the benchmarks, those of the extension too
	@$(say) "Tests"
	@$(bin)/pytest -q -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal --ignore=tests/benchmarks $(args)
	@$(MAKE) --no-print-directory extension-test

check: $(call stamp,dev)    ## style, types and the direction of imports
	@$(say) "Style"
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(say) "Types"
	@$(bin)/mypy
	@$(say) "Direction of imports"
	@$(bin)/pytest -q tests/unit/test_architecture.py
	@$(MAKE) --no-print-directory extension-check

extension: extension-check extension-test    ## the VS Code extension: its check and its tests alone

extension-check: $(extension)
	@$(say) "The extension: style and types"
	@cd vscode-extension && $(node) npm run --silent check

extension-test: $(extension) $(call stamp,dev)
	@$(say) "The extension: its core, and the contract with the service"
	@cd vscode-extension && $(node) npm run --silent test:core && $(node) npm run --silent test:contract
	@$(say) "The extension in a real editor; the first time this gets the editor and a browser, 1 GB"
	@cd vscode-extension && $(node) npm run --silent test:editor

soak: $(call stamp,dev)    ## the long tests: kills by the hundred, replicas, load
	@$(say) "Long tests"
	@SOAK=1 $(bin)/pytest -q --ignore=tests/benchmarks $(args)

bench: $(call stamp,dev)    ## measurements, as ratios within one run
	@$(say) "Measurements"
	@$(bin)/pytest -q -s tests/benchmarks $(args)

lock: $(call stamp,dev)    ## write the lock files anew: make lock args=--upgrade
	@$(say) "Resolving; this asks the package index for every file's hash"
	@bash requirements/lock.sh $(bin) $(args)

clean:    ## remove the environment and all caches
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(extension): | .venv/bin/python
	@$(say) "Installing what vscode-extension/package-lock.json lists"
	@cd vscode-extension && $(node) npm ci --no-audit --no-fund --loglevel=error
	@touch $@

.venv/.%: | .venv/bin/python
	@$(say) "Installing what requirements/$(kind).lock lists"
	@$(pip) install --require-hashes -r requirements/$(kind).lock
	@$(pip) --quiet install --no-deps --no-build-isolation -e .
	@rm -f .venv/.$(kind)-*
	@touch $@

.venv/.%: kind = $(firstword $(subst -, ,$*))

.venv/bin/python:
	@for python in python3 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	  $(say) "Making .venv with $$($$python --version)"; \
	  $$python -m venv .venv && exit 0; \
	  rm -rf .venv; \
	  echo "Its venv module does not work; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; \
	done; \
	echo "Python 3.11 or newer is needed; none of python3, python3.13, python3.12 and python3.11 is." >&2; \
	exit 1
