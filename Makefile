# Every command that the README names. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# Torch without CUDA is a tenth of the size; where an index has it, set TORCH_INDEX to its address.
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# What the tests' real node and image are made of.
NODE := containerd runc containernetworking-plugins iproute2 iptables conntrack debootstrap buildah zstd openssl

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "installing torch and the operator; this downloads up to 3 GB, once"
	$(UV) $(INDEX) --constraint constraints.txt --group demo --editable '.[operator,runtime]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.demo
	$(UV) $(INDEX) --constraint constraints.txt --group dev
	@touch $@

$(VENV)/.node: Makefile | $(BIN)/uv
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing what a node needs, for the tests: $(NODE)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install --yes -qq --no-install-recommends $(NODE) >/dev/null; \
	else echo "not root on Debian: the tests that need a node will be skipped"; fi
	@touch $@

demo: $(VENV)/.demo ## train the digits job with two replicas on this machine
	$(BIN)/acceleratedjob run examples/digits/job.yaml

test: check $(VENV)/.node ## install all that the tests need, and pass them
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

check: $(VENV)/.dev ## lint, types and walls
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## measure both halves next to what others do; writes docs/performance*.md
	$(BIN)/python -m bench
	$(BIN)/python -m bench.operator

docs: $(VENV)/.dev ## write the reference, docs/api, from the source
	$(BIN)/python -m docs.reference

clean: ## remove what the other targets have made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
