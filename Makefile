# Targets for development and release. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# --compile-bytecode: with PYTHONDONTWRITEBYTECODE set, every process would compile torch again. uv
# compiles only what it installs, so both installations need the flag.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
# Set TORCH_INDEX to the URL of an index that has torch without CUDA, which is a tenth of the size.
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# The tool that builds images: the first one that works. For example: `make image ENGINE=podman BASE=… TORCH=…`.
ENGINE ?= $(shell for engine in docker podman buildah; do \
    $$engine info >/dev/null 2>&1 && echo $$engine && break; done)
IMAGES := operator runtime
REGISTRY :=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION := $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)
# Files in images get the time of the commit, so that builds of the same commit are identical.
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
SAME = $(if $(findstring docker,$(ENGINE)),--build-arg SOURCE_DATE_EPOCH=,--timestamp )$(EPOCH)
GIVEN = $(foreach name,BASE TORCH SOURCE VERSION REVISION,\
    $(if $($(name)),--build-arg $(name)=$($(name))))

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --constraint constraints.txt --no-header --no-annotate
SBOM := cyclonedx-bom==7.5.0
DIST := dist

KEPT := examples/demo/demo-checkpoint

# Worker processes of `make test`: most of its tests compute, so two cores want two or three.
WORKERS := 2

# `make gpu` runs tests of a machine with a GPU, whose Python may lack packages: with
# GPU_FLAGS="--ignore=tests/runtime/test_stores.py" the tests that need one are left out.
GPU_PYTHON :=
GPU_FLAGS :=

# Debian packages for the tests that need a real node or build images.
NODE := containerd runc containernetworking-plugins iproute2 iptables conntrack debootstrap buildah zstd openssl

.DEFAULT_GOAL := help
.PHONY: help demo test check gpu bench docs image lock sbom licenses clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "installing torch and the operator: this downloads up to 3 GB, the first time only"
	$(UV) $(INDEX) --constraint constraints.txt --group demo --editable '.[operator,runtime]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.demo
	$(UV) $(INDEX) --constraint constraints.txt --group dev
	@touch $@

$(VENV)/.node: Makefile | $(BIN)/uv
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing packages for the tests that need a real node: $(NODE)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install --yes -qq --no-install-recommends $(NODE) >/dev/null; \
	else echo "not root on Debian: the tests that need a real node will be skipped"; fi
	@touch $@

demo: $(VENV)/.demo ## train with two replicas on this machine; one is killed, and the training goes on
	rm -rf $(KEPT)
	$(BIN)/acceleratedjob run examples/demo/job.yaml

test: check $(VENV)/.node ## install everything that the tests need, and run them
	@# Write bytecode: hundreds of processes import the same modules.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup

check: $(VENV)/.dev ## run the linters, the type checker and the import checks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

gpu: $(if $(GPU_PYTHON),,$(VENV)/.dev) ## run the runtime's tests on a GPU; GPU_PYTHON=python3 uses a Python that has torch, and installs nothing
	$(or $(GPU_PYTHON),$(BIN)/python) -m pytest --numprocesses $(WORKERS) --dist loadgroup $(GPU_FLAGS) tests/runtime tests/contract/test_gpus.py

bench: $(VENV)/.dev ## run the benchmarks against other libraries and operators; writes docs/performance*.md
	$(BIN)/python -m bench
	$(BIN)/python -m bench.operator

docs: $(VENV)/.dev ## generate the reference, docs/api, and build the site of all pages, dist/site
	$(BIN)/python -m docs.reference
	$(BIN)/python -m docs.pod_types
	$(BIN)/python -m docs.manifest_errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

image: ## build the operator's image and the base image for training
	@$(foreach name,BASE TORCH,$(if $(findstring @sha256:,$($(name))),,echo "$(name) is a tag, \
	which may change: for a release set $(name)=NAME@sha256:..." >&2;)) true
	@test -n "$(ENGINE)" || { echo "docker, podman or buildah must work, but 'info' fails for all of them" >&2; exit 1; }
	@set -e; for name in $(IMAGES); do set -x; \
	$(ENGINE) build $(SAME) $(GIVEN) $(IMAGE_FLAGS) \
	    --target $$name --tag $(REGISTRY)acceleratedjob-$$name:$(VERSION) .; \
	{ set +x; } 2>/dev/null; done
	@$(ENGINE) images | grep -E 'SIZE|acceleratedjob-'

lock: | $(BIN)/uv ## lock the packages of the operator's image and of its build, and uv, with hashes
	$(LOCK) --extra operator --output-file locks/operator.txt pyproject.toml
	sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | $(LOCK) --output-file locks/build.txt -
	echo uv | $(LOCK) --output-file locks/uv.txt -

$(VENV)/operator/.locked: locks/operator.txt | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/operator
	$(BIN)/uv pip sync --quiet --python $(VENV)/operator --require-hashes $<
	@touch $@

sbom: $(VENV)/operator/.locked ## write the bill of materials (SBOM) of the operator's image, dist/sbom.cdx.json
	@mkdir -p $(DIST)
	$(BIN)/uvx --quiet --from $(SBOM) cyclonedx-py environment --output-reproducible \
	    --pyproject pyproject.toml --mc-type application --output-file $(DIST)/sbom.cdx.json $(VENV)/operator

licenses: $(VENV)/.demo ## generate docs/licenses.md from the installed packages of the lock
	$(BIN)/python -m docs.licenses

clean: ## remove everything that the other targets have created
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis $(DIST) $(KEPT)
