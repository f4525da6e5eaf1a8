# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# make help lists the verbs. INVENTORY names whom build, server and clean act on.

INVENTORY ?= inventories/local
VENV := .venv
BIN := $(VENV)/bin
PLAY = $(BIN)/ansible-playbook -i $(INVENTORY) $(ARGS)
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

.DEFAULT_GOAL := help
.PHONY: help prepare build server clean verify demo demo-clean \
  test test-quick test-full test-grafana lint unit molecule matrix bench bench-fleet bench-bpf \
  dashboards snapshot bench-dashboards new-program docs lock pin preflight

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

## --- for operators

prepare: $(VENV)/.ready ## Make this machine a controller: tools below .venv, packages through apt

build: $(VENV)/.ready ## Build what the cache lacks on the inventory's build host
	$(PLAY) playbooks/build.yml

server: $(VENV)/.ready ## Deploy and start everything in INVENTORY
	$(PLAY) site.yml

verify: $(VENV)/.ready ## Make a little I/O on the targets and show what Prometheus counted
	$(PLAY) playbooks/verify.yml

preflight: $(VENV)/.ready ## Show which programs each target can run; change nothing
	$(PLAY) playbooks/preflight.yml

clean: $(VENV)/.ready ## Stop the servers in INVENTORY; delete nothing
	$(PLAY) playbooks/stop.yml

demo: $(VENV)/.ready ## See this machine's own disk latency, in a throw-away host
	$(BIN)/python -m tests.lab.demo up

demo-clean: $(VENV)/.ready ## Remove what the demo made
	$(BIN)/python -m tests.lab.demo down

## --- for developers

test: $(VENV)/.ready ## Everything that a change must pass
	$(BIN)/python -m tests.run lint unit molecule matrix fleet rules grafana

test-quick: $(VENV)/.ready ## Lint and unit tests, under two minutes
	$(BIN)/python -m tests.run lint unit

test-full: $(VENV)/.ready ## Everything there is
	$(BIN)/python -m tests.run --all

test-grafana: $(VENV)/.ready ## Check the real Grafana at GRAFANA_URL (ARGS="--pictures DIR" draws it)
	$(BIN)/python -m tests.grafana.check $(ARGS)

lint: $(VENV)/.ready ## Style of playbooks, YAML and Python
	$(BIN)/python -m tests.run lint

unit: $(VENV)/.ready ## Unit tests
	$(BIN)/python -m tests.run unit

molecule: $(VENV)/.ready ## Deploy on a systemd host and look at it
	$(BIN)/python -m tests.run molecule

matrix: $(VENV)/.ready ## Prove every program's numbers on five kernels
	$(BIN)/python -m tests.run matrix

bench: $(VENV)/.ready ## Seconds of a run that changes nothing, for 1 and 20 hosts
	$(BIN)/python -m tests.bench.fleet 1 20

bench-fleet: $(VENV)/.ready ## The controller's time per host, for 5 and 20 hosts
	$(BIN)/python -m tests.bench.fleet 5 20

bench-bpf: $(VENV)/.ready ## Nanoseconds per event, as ratios
	$(BIN)/python -m tests.lab.artifact $(BIN)/python -m tests.kernel.bench

dashboards: $(VENV)/.ready ## Generate files/dashboards
	$(BIN)/python -m dashboards

PROMETHEUS ?= http://127.0.0.1:9090
snapshot: $(VENV)/.ready ## Draw every panel from the Prometheus at PROMETHEUS into build/snapshot
	$(BIN)/python -m dashboards.snapshot --prometheus $(PROMETHEUS) --out build/snapshot

bench-dashboards: $(VENV)/.ready ## Query time of the Fleet dashboard over 1,000 synthetic hosts
	$(BIN)/python -m dashboards.bench

NAME ?=
new-program: $(VENV)/.ready ## Write the folder of a new BPF program, NAME=…, and say what it lacks
	$(BIN)/python -m tests.gate.new_program $(NAME)

docs: $(VENV)/.ready ## Write the pages that are generated
	$(BIN)/python -m tests.docs.variables
	$(BIN)/python -m tests.docs.programs

pin: $(VENV)/.ready ## Print the rows of versions.yml for EXPORTER=VERSION
	$(BIN)/python -m tests.lab.pin $(EXPORTER)

lock: ## Resolve requirements-dev.in again (needs uv)
	uv pip compile --quiet --generate-hashes --python-version 3.11 --no-emit-index-url \
	  --no-header requirements-dev.in -o requirements-dev.txt

$(VENV)/.ready: requirements-dev.txt tests/lab/packages.txt
	tests/lab/prepare
