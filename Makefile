# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# make help lists the verbs. INVENTORY names whom build, server and clean act on; ARGS are more
# arguments of ansible-playbook; PYTHON is the interpreter that .venv is made with.

INVENTORY ?= inventories/local
VENV := .venv
BIN := $(VENV)/bin
play = $(BIN)/ansible-playbook -i $(INVENTORY) $(ARGS) $(1) $(HINT)
ifeq (,$(filter -K --ask-become-pass --become-password-file%,$(ARGS)))
HINT = || { echo 'If sudo asked for a password: make $@ ARGS=--ask-become-pass' >&2; exit 1; }
endif
export PYTHON MAKECMDGOALS
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.DEFAULT_GOAL := help
.PHONY: help prepare build server clean verify demo demo-clean \
  test test-quick test-full test-grafana lint unit molecule matrix matrix-arm64 matrix-others \
  accuracy accuracy-arm64 accuracy-others compatibility stores \
  bench bench-fleet bench-bpf costs dashboards snapshot images bench-dashboards bench-prometheus new-program docs \
  reliability lock pin preflight prometheus-archive

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' Makefile

## --- for operators

# Always: the last lines say how to go on.
prepare: ## Make this machine a controller: ansible-core below .venv
	@tests/lab/prepare

build: $(VENV)/.ready ## Build what the cache lacks on the inventory's build host
	$(call play,playbooks/build.yml)

server: $(VENV)/.ready ## Deploy and start everything in INVENTORY
	$(call play,site.yml)

verify: $(VENV)/.ready ## Make a little I/O on the targets and show what Prometheus counted
	$(call play,playbooks/verify.yml)

preflight: $(VENV)/.ready ## Show which programs each target can run; change nothing
	$(call play,playbooks/preflight.yml)

clean: $(VENV)/.ready ## Stop the servers in INVENTORY; delete nothing
	$(call play,playbooks/stop.yml)

prometheus-archive: $(VENV)/.ready ## Compile an archive of Prometheus to hand in, where its releases do not answer
	@$(BIN)/python -m tests.lab.prometheus

demo: $(VENV)/.ready-demo ## See this machine's own disk latency, in a throw-away host
	$(BIN)/python -m tests.lab.demo up

demo-clean: $(VENV)/.ready-demo ## Remove what the demo made
	$(BIN)/python -m tests.lab.demo down

## --- for developers

test: $(VENV)/.ready-test ## What every change must pass, in a quarter of an hour
	$(BIN)/python -m tests.run $(ARGS)

test-quick: $(VENV)/.ready-test ## Lint and unit tests, some minutes
	$(BIN)/python -m tests.run lint unit

test-full: $(VENV)/.ready-test ## Everything there is: hours
	$(BIN)/python -m tests.run --all

test-grafana: $(VENV)/.ready-test ## Check the real Grafana at GRAFANA_URL (ARGS="--pictures DIR" draws it)
	$(BIN)/python -m tests.grafana.check $(ARGS)

lint: $(VENV)/.ready-test ## Style of playbooks, YAML and Python
	$(BIN)/python -m tests.run lint

unit: $(VENV)/.ready-test ## Unit tests
	$(BIN)/python -m tests.run unit

molecule: $(VENV)/.ready-test ## Deploy on a systemd host and look at it
	$(BIN)/python -m tests.run default

matrix: $(VENV)/.ready-test ## Prove every program's numbers on every kernel
	$(BIN)/python -m tests.run matrix

matrix-arm64: $(VENV)/.ready-test ## The same on emulated arm64 machines, one case of each program
	$(BIN)/python -m tests.run arm64

matrix-others: $(VENV)/.ready-test ## The same on Ubuntu's kernels and on Debian's for clouds
	$(BIN)/python -m tests.run others

accuracy: $(VENV)/.ready-test ## Run the matrix and write docs/accuracy.md
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.kernel.matrix --write-docs

accuracy-arm64: $(VENV)/.ready-test ## Run matrix-arm64 and write docs/accuracy_arm64.md
	$(BIN)/python -m tests.lab.artifact --architecture aarch64 $(BIN)/python -m tests.kernel.matrix --short --write-docs

accuracy-others: $(VENV)/.ready-test ## Run matrix-others and write docs/accuracy_other_kernels.md
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.kernel.matrix --others --write-docs

compatibility: $(VENV)/.ready-test ## Deploy with each ansible-core to each distribution and write docs/compatibility.md
	$(BIN)/python -m tests.compatibility $(ARGS)

stores: $(VENV)/.ready-test ## Write into real stores and write docs/stores.md (ARGS=victoria: those that begin so)
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.stores --write $(ARGS)

bench: $(VENV)/.ready-test ## What a run that changes nothing costs: executions per role, seconds for 1 and 20 hosts
	$(BIN)/python -m tests.bench.roles
	$(BIN)/python -m tests.bench.fleet 1 20

bench-fleet: $(VENV)/.ready-test ## The controller's time per host, for 5 and 20 hosts
	$(BIN)/python -m tests.bench.fleet 5 20

bench-bpf: $(VENV)/.ready-test ## Nanoseconds per event, as ratios; two processors at once; a scrape of full maps
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.kernel.bench_bounds
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.kernel.bench

costs: $(VENV)/.ready-test ## Run bench-bpf and write the costs of docs/programs.md
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.kernel.bench --write
	$(BIN)/python -m tests.docs.programs

dashboards: $(VENV)/.ready-test ## Generate files/dashboards
	$(BIN)/python -m dashboards

PROMETHEUS ?= http://127.0.0.1:9090
snapshot: $(VENV)/.ready-test ## Draw every panel from the Prometheus at PROMETHEUS into build/snapshot
	$(BIN)/python -m tests.dashboards.snapshot --prometheus $(PROMETHEUS) --out build/snapshot

images: ARGS = --pictures docs/images
images: test-grafana ## Draw the real Grafana at GRAFANA_URL into docs/images

bench-dashboards: $(VENV)/.ready-test ## Query time of the Fleet dashboard over 1,000 synthetic hosts
	$(BIN)/python -m tests.dashboards.bench

bench-prometheus: $(VENV)/.ready-test ## Processor, memory and disk of a Prometheus with 1,000 synthetic hosts
	$(BIN)/python -m tests.bench.prometheus

NAME ?=
new-program: $(VENV)/.ready-test ## Write the folder of a new BPF program, NAME=…, and say what it lacks
	$(BIN)/python -m tests.gate.new_program $(NAME)

reliability: $(VENV)/.ready-test ## Run what tries to break it and write docs/reliability.md
	-$(BIN)/python -m tests.run unit faults fuzz
	$(BIN)/python -m tests.reliability

docs: $(VENV)/.ready-test ## Write the pages that are generated
	$(BIN)/python -m tests.docs.variables
	$(BIN)/python -m tests.docs.programs

pin: $(VENV)/.ready-test ## Print the rows of versions.yml for EXPORTER=VERSION
	$(BIN)/python -m tests.lab.pin $(EXPORTER)

LOCK = uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header
lock: ## Resolve requirements*.in again (needs uv)
	$(LOCK) --python-version 3.10 requirements.in -o requirements.txt
	$(LOCK) --python-version 3.10 -c requirements.txt requirements-demo.in -o requirements-demo.txt
	$(LOCK) --python-version 3.11 -c requirements-demo.txt requirements-dev.in -o requirements-dev.txt

$(VENV)/.ready: requirements.txt
	@tests/lab/prepare
$(VENV)/.ready-demo: requirements-demo.txt tests/lab/packages/demo.txt
	@tests/lab/prepare demo
$(VENV)/.ready-test: requirements-dev.txt tests/lab/packages/demo.txt tests/lab/packages/test.txt
	@tests/lab/prepare test
