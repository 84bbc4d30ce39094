# Needs python3 (3.11 to 3.14) and make; everything else goes into .venv, once.
PYTHON ?= python3
RUNS   ?= 10
CORES  ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
AGAINST ?=
GPU_RUNS ?= 3
PARTS  ?=
GPU_REPORT := reports/gpu/$(shell date +%Y-%m-%dT%H-%M-%S)
WITH_TORCH := .[dev,torch]
GPU ?= gpu
WITH_GPU := .[dev,$(GPU),torch]
SWEEP  := $(BIN)/convbench sweep --runs $(RUNS) $(if $(CORES),--cores $(CORES))

.DEFAULT_GOAL := help
.PHONY: help install test test-all check sweep report versus bench gpu-check clean

help:  ## list the targets
	@echo "usage: make TARGET [RUNS=10] [CORES=1,2,4,8]"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(READY)  ## make the environment in .venv

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "convbench needs Python 3.11 to 3.14, and '$(PYTHON)' is another; try make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: $(READY)  ## run the tests that take minutes together
	$(BIN)/python -m pytest -m 'not long' --numprocesses auto --dist loadfile --no-loadscope-reorder

test-all: test  ## then those that take half an hour: every GPU architecture, other processors, sanitizers, fifty kills
	$(BIN)/python -m pytest -m long --numprocesses auto --dist worksteal

check: $(READY)  ## ruff, mypy and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

sweep: $(READY)  ## measure: RUNS runs on CORES (default: 1, 2, 4, ... up to this machine's)
	$(SWEEP)

report: $(READY)  ## measure, then write tables and figures under reports/
	$(SWEEP) || [ $$? -eq 1 ]  # a cell that failed is in the report
	$(BIN)/convbench report

versus: $(READY)  ## measure our algorithms beside other libraries (TORCH=1 installs PyTorch first)
	$(if $(TORCH),$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(WITH_TORCH)')
	$(BIN)/convbench versus $(if $(CORES),--cores $(CORES))

bench: $(READY)  ## which kernels became slower than in the last commit (AGAINST=REVISION: than in another one)
	$(BIN)/python -m benchmarks $(if $(AGAINST),--against $(AGAINST))

gpu-check: $(READY)  ## on a machine with an NVIDIA GPU: tests, and comparisons with cuDNN into reports/gpu/ (GPU=gpu-cuda13)
	$(if $(READY),$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(WITH_GPU)')
	$(BIN)/python -m pytest -m gpu tests/test_gpu*.py
	$(BIN)/python -m benchmarks.gpu --runs $(GPU_RUNS) $(PARTS:%=--part %) --output $(GPU_REPORT)

clean:  ## remove the environment and caches, keep reports
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
