# Every command that the README names. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Compiled once: where PYTHONDONTWRITEBYTECODE is set, each process would compile torch. uv compiles only
# what it installs, so both installations say so.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
# Torch without CUDA is a tenth of the size; where an index has it, set TORCH_INDEX to its address.
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# What images are built by: the first that answers; `make image ENGINE=podman BASE=… TORCH=…`.
ENGINE ?= $(shell for engine in docker podman buildah; do \
    $$engine info >/dev/null 2>&1 && echo $$engine && break; done)
IMAGES := operator runtime
REGISTRY :=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION := $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)
# One commit, one image: files get the commit's time.
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
SAME = $(if $(findstring docker,$(ENGINE)),--build-arg SOURCE_DATE_EPOCH=,--timestamp )$(EPOCH)
GIVEN = $(foreach name,BASE TORCH SOURCE VERSION REVISION,\
    $(if $($(name)),--build-arg $(name)=$($(name))))

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --constraint constraints.txt --no-header --no-annotate
SBOM := cyclonedx-bom==7.5.0
DIST := dist

# What the tests' real node and image are made of.
NODE := containerd runc containernetworking-plugins iproute2 iptables conntrack debootstrap buildah zstd openssl

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs image lock sbom licenses clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt

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
	@# Hundreds of processes import the same modules.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

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

image: ## build the operator's image, and the base of training images
	@$(foreach name,BASE TORCH,$(if $(findstring @sha256:,$($(name))),,echo "$(name) is a tag, \
	which may change: for a release give $(name)=NAME@sha256:..." >&2;)) true
	@test -n "$(ENGINE)" || { echo "docker, podman or buildah must answer to 'info'; none does" >&2; exit 1; }
	@set -e; for name in $(IMAGES); do set -x; \
	$(ENGINE) build $(SAME) $(GIVEN) $(IMAGE_FLAGS) \
	    --target $$name --tag $(REGISTRY)acceleratedjob-$$name:$(VERSION) .; \
	{ set +x; } 2>/dev/null; done
	@$(ENGINE) images | grep -E 'SIZE|acceleratedjob-'

lock: | $(BIN)/uv ## pin, with hashes, what the operator's image is made of and built by, and uv
	$(LOCK) --extra operator --output-file locks/operator.txt pyproject.toml
	sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | $(LOCK) --output-file locks/build.txt -
	echo uv | $(LOCK) --output-file locks/uv.txt -

$(VENV)/operator/.locked: locks/operator.txt | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)/operator
	$(BIN)/uv pip sync --quiet --python $(VENV)/operator --require-hashes $<
	@touch $@

sbom: $(VENV)/operator/.locked ## write the bill of materials of the operator's image, dist/sbom.cdx.json
	@mkdir -p $(DIST)
	$(BIN)/uvx --quiet --from $(SBOM) cyclonedx-py environment --output-reproducible \
	    --pyproject pyproject.toml --mc-type application --output-file $(DIST)/sbom.cdx.json $(VENV)/operator

licenses: $(VENV)/.demo ## write docs/licenses.md from what is installed of the lock
	$(BIN)/python -m docs.licenses

clean: ## remove what the other targets have made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis $(DIST)
