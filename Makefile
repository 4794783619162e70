# `make` alone lists the targets. Everything lives in .venv and .run (see README.md).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTO := proto/metering/v1/metering.proto proto/podresources/v1/podresources.proto \
	proto/enrolment/v1/enrolment.proto
GENERATED := $(PROTO:.proto=_pb2.py) $(PROTO:.proto=_pb2.pyi) $(PROTO:.proto=_pb2_grpc.py)

# A make that a test starts is its own, with none of this one's flags.
ALONE := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL

# Three at a time on two cores: the acceptance tests wait for minutes on a clock, not a core.
# A file's tests stay together, since they share what they bring up.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test coverage bench mutants churn faults fuzz api-fuzz scale lint format types proto proto-check \
	lock clean install-agent install-aggregator uninstall-agent uninstall-aggregator

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.run-stamp ## meter this machine: TimescaleDB, aggregator and agent; Ctrl-C stops them
	@$(BIN)/python -m aggregator.quickstart

test: $(VENV)/.dev-stamp ## run every test, on a real TimescaleDB (ARGS="-k spool" for some)
	@$(ALONE) $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

coverage: $(VENV)/.dev-stamp ## run every test and show which lines none of them runs
	@$(BIN)/coverage erase
	@$(ALONE) $(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

bench: $(VENV)/.dev-stamp ## measure every figure beside its ceiling (BENCH_JSON=path, BENCH_PARTS=year,node)
	@$(BIN)/python -m tests.bench

mutants: $(VENV)/.dev-stamp ## break each rule of rating, and see that the tests find it out
	@MUTANTS=all $(BIN)/python -m pytest -q -n 2 tests/integration/aggregator/rater/test_mutants.py

churn: $(VENV)/.dev-stamp ## meter 2,000 short jobs in five minutes (as root), and compare
	@CHURN_JOBS=2000 CHURN_SECONDS=300 $(BIN)/python -m pytest -q -s --timeout=900 \
		tests/integration/agent/test_churn.py

faults: $(VENV)/.dev-stamp ## kill everything at random and compare (FAULTS_SECONDS, FAULTS_KILLS, FAULTS_SEED)
	@$(ALONE) FAULTS_SECONDS=$${FAULTS_SECONDS:-120} $(BIN)/python -m pytest -q -s \
		tests/faults/test_kills.py

fuzz: $(VENV)/.dev-stamp ## damage every byte of a spool of 64 KiB, one at a time, in three ways
	@$(ALONE) SPOOL_FUZZ_STEP=1 $(BIN)/python -m pytest -q -s tests/faults/test_spool_bytes.py

api-fuzz: $(VENV)/.dev-stamp ## ask whatever the OpenAPI document allows, as each role (FUZZ_SECONDS each)
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-600} $(BIN)/python -m pytest -q -s -p no:randomly \
		tests/integration/aggregator/api/test_document.py -k nothing_else

scale: $(VENV)/.dev-stamp ## 10,000 agents that reconnect, days of backlog, attacks (SCALE_AGENTS)
	@$(ALONE) SCALE=1 $(BIN)/python -m pytest -q -s -p no:randomly tests/faults/test_reconnect.py \
		tests/faults/scale/day_of_backlog.py tests/faults/test_hostile_port.py

lint: $(VENV)/.dev-stamp ## check style, formatting and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev-stamp ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev-stamp ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/basedpyright

proto: $(VENV)/.dev-stamp ## generate the code of the wire
	$(call protoc,.)

proto-check: $(VENV)/.dev-stamp ## fail if the committed code of the wire is not what protoc makes
	@into=$$(mktemp -d) && trap 'rm -rf "$$into"' EXIT && $(call protoc,"$$into") && \
	for file in $(GENERATED); do \
		diff -u "$$file" "$$into/$$file" || { echo "run: make proto" >&2; exit 1; }; \
	done

# DESTDIR=folder stages the files below it, to build a package from: nothing runs from there.
install-agent: ## install the agent as a service of this node (root)
	@sh systemd/install.sh agent

install-aggregator: ## install the aggregator and the nodemeter command as a service (root)
	@sh systemd/install.sh aggregator

uninstall-agent: ## remove the agent; configuration and state stay
	@sh systemd/install.sh --remove agent

uninstall-aggregator: ## remove the aggregator; configuration and data stay
	@sh systemd/install.sh --remove aggregator

lock: ## choose the newest versions of everything again
	@into=$$(mktemp -d) && trap 'rm -rf "$$into"' EXIT && sh .ci/venv "$(PYTHON)" "$$into" && \
	"$$into/bin/python" -m pip install -qq -e '.[dev]' && \
	{ sed -n '/^#/p' requirements.lock && "$$into/bin/python" -m pip list -q --format=freeze \
		--exclude nodemeter --exclude pip; } > requirements.lock.new && \
	mv requirements.lock.new requirements.lock

clean: ## remove what was built; the data of `make run` stays in .run
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage .coverage.* requirements.lock.new
	find agent aggregator proto tests -name __pycache__ -type d -prune -exec rm -rf {} +

define protoc
$(BIN)/python -m grpc_tools.protoc -I. --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) $(PROTO)
endef

# A virtual environment names its own place and its Python; moved or broken, it is made anew.
here := $(shell cat $(VENV)/.made-in 2>/dev/null)
ifneq ($(and $(filter $(CURDIR),$(here)),$(shell $(BIN)/python -c 'print(1)' 2>/dev/null)),1)
moved := $(VENV)/.made-in
endif

.PHONY: $(moved)
$(VENV)/.made-in:
	@sh .ci/venv "$(PYTHON)" $(VENV)
	@echo "$(CURDIR)" > $@

$(VENV)/.run-stamp: pyproject.toml requirements.lock $(VENV)/.made-in
	@echo "Installing what nodemeter needs into $(VENV) ..."
	@$(BIN)/python -m pip install -qq -c requirements.lock --no-build-isolation -e '.[aggregator]'
	@touch $@

$(VENV)/.dev-stamp: $(VENV)/.run-stamp
	@echo "Installing the development tools into $(VENV) ..."
	@$(BIN)/python -m pip install -qq -c requirements.lock --no-build-isolation -e '.[dev]'
	@touch $@
