# Lepton: everything that a person or a machine runs here starts with make. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A kubeconfig that merely is exported is never used: it may be a production cluster's.
unexport KUBECONFIG

PYTHON ?= python3.11
NODES ?=
CLUSTER ?= local
CONTEXT ?=
REGISTRY ?=
PULL_POLICY ?=
STORE_CLASS ?=
ACCESS_MODE ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell sha256sum requirements/dev.txt | cut -c1-12)
CLUSTER_DIR := $(CURDIR)/.cluster
CLUSTER_TOOL := $(PY) tests/cluster/cli.py
IMAGES_TOOL := $(PY) images/build.py

.PHONY: help
help:
	@printf 'Lepton: data, training and serving on Kubernetes, from three manifests.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables:\n'
	@printf '  %-26s %s\n' \
	  'NODES=1|2' 'nodes of the local cluster (1, or as many as it has)' \
	  'CLUSTER=local|existing' 'the local cluster, or one that you have' \
	  'CONTEXT=NAME' 'with CLUSTER=existing: the context in your kubeconfig' \
	  'KUBECONFIG=FILE' 'with CLUSTER=existing: that file (only when given to make, never when merely exported)' \
	  'REGISTRY=HOST/PATH' 'with CLUSTER=existing: where your cluster pulls images from' \
	  'PULL_POLICY=POLICY' 'with CLUSTER=existing: imagePullPolicy of the pods' \
	  'STORE_CLASS=NAME' 'with CLUSTER=existing: storage class of the default store' \
	  'ACCESS_MODE=MODE' 'with CLUSTER=existing: its access mode (ReadWriteOnce if not given)'

.PHONY: demo
demo: needed  ## train a network on real pictures and ask it, on a real Kubernetes
	@$(PYTHON) -m demo --cluster $(CLUSTER) $(if $(NODES),--nodes $(NODES)) $(if $(CONTEXT),--context "$(CONTEXT)") \
	  $(if $(filter command,$(word 1,$(origin KUBECONFIG))),--kubeconfig "$(KUBECONFIG)") \
	  $(if $(REGISTRY),--registry "$(REGISTRY)") $(if $(PULL_POLICY),--pull-policy "$(PULL_POLICY)") \
	  $(if $(STORE_CLASS),--store-class "$(STORE_CLASS)") $(if $(ACCESS_MODE),--access-mode "$(ACCESS_MODE)")

.PHONY: venv
venv: $(STAMP)  ## make the virtual environment (the other targets do it by themselves)

.PHONY: test
test: needed $(STAMP)  ## run every check and every test, on a cluster of its own
	@scripts/test.sh

.PHONY: soak
soak: needed $(STAMP)  ## create and delete objects for SOAK_MINUTES (60), memory must stay flat
	@SOAK_MINUTES="$(or $(SOAK_MINUTES),60)" scripts/test.sh tests/integration/test_soak.py -s

.PHONY: unit
unit: $(STAMP)  ## run the unit tests and the state tables (ten minutes, needs no cluster)
	@scripts/browser.sh
	@$(PY) -m pytest tests/unit tests/states

.PHONY: fuzz
fuzz: $(STAMP)  ## send the server requests made up by machines, FUZZ_EXAMPLES (500) of each kind; memory must stay flat
	@LEPTON_FUZZ_EXAMPLES="$(or $(FUZZ_EXAMPLES),500)" $(PY) -m pytest tests/unit/serving/test_fuzz.py tests/unit/serving/test_coverage_guided.py --timeout 0 -s

.PHONY: bench
bench: needed $(STAMP)  ## measure operator, training and serving against budgets (ONLY=NAME: one measure)
	@PYTHONPATH=tests/cluster $(PY) -m bench $(if $(ONLY),--only $(ONLY))

.PHONY: verify
verify: $(STAMP)  ## lint, format, types, import contracts, generated files
	@scripts/verify.sh

.PHONY: crds
crds: $(STAMP)  ## generate crds/ from the models
	@$(PY) -m lepton_operator.crdgen

.PHONY: docs
docs: $(STAMP)  ## generate docs/api and the health checks for Argo CD
	@$(PY) scripts/docs.py

.PHONY: protos
protos: $(STAMP)  ## generate the messages of gRPC from the .proto files
	@$(PY) scripts/protos.py

.PHONY: format
format: $(STAMP)  ## format the code
	@$(VENV)/bin/ruff check --fix --quiet . ; $(VENV)/bin/ruff format --quiet .

.PHONY: cluster
cluster: needed $(STAMP)  ## start the local Kubernetes with Lepton's images in it
	@scripts/build-side-by-side.sh
	@$(CLUSTER_TOOL) up --dir "$(CLUSTER_DIR)" $(if $(NODES),--nodes $(NODES))
	@$(CLUSTER_TOOL) load --dir "$(CLUSTER_DIR)" $$($(IMAGES_TOOL) archives)
	@echo 'Ready: kubectl --kubeconfig .cluster/kubeconfig get nodes'

.PHONY: cluster-down
cluster-down:  ## stop the local Kubernetes and remove its state
	@$(PYTHON) tests/cluster/cli.py down --dir "$(CLUSTER_DIR)"

.PHONY: images
images: $(STAMP)  ## build the three container images (only what changed)
	@$(IMAGES_TOOL) build
	@$(IMAGES_TOOL) refs

.PHONY: push
push: $(STAMP)  ## build the images and push them: make push REGISTRY=HOST/PATH
	@test -n "$(REGISTRY)" || { echo 'Say where to: make push REGISTRY=HOST/PATH'; exit 2; }
	@$(IMAGES_TOOL) push --registry "$(REGISTRY)"
	@$(IMAGES_TOOL) refs --registry "$(REGISTRY)"

.PHONY: builtin
builtin: $(STAMP)  ## put the built-in pictures into the cache of this machine and print where
	@$(IMAGES_TOOL) builtin

.PHONY: lock
lock: $(STAMP)  ## resolve the dependencies of pyproject.toml again (UPGRADE=1 takes newer versions)
	@scripts/lock.sh $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean:  ## remove what was made here; the cache outside (binaries, images) stays
	@if test -d .cluster -o -d .cluster-test -o -d .cluster-lab; then echo 'First: make cluster-down (and the test cluster, if a test run was killed)'; fi
	@rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.cluster*' -prune -exec rm -rf {} +

.PHONY: needed
needed:
	@PYTHON="$(PYTHON)" scripts/needed.sh $(CLUSTER)

# The virtual environment: every package pinned by hash. Made again only when the lock changes.
$(STAMP):
	@PYTHON="$(PYTHON)" scripts/venv.sh $(VENV) $@
