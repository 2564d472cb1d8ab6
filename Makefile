# Two commands matter: `make demo` and `make test`. Each sets up what it needs, can be repeated, and goes on where an
# interrupted one stopped.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGES := runtime/edgeline train/edgeline_train export/edgeline_export benchmarks/edgeline_bench

# Empty: the full MNIST where it is on disk, else the embedded digits. `make demo DATASET=mnist` asks for it.
DATASET ?=

.PHONY: help setup demo test test-all gpu-check check format clean

help:
	@echo "make demo      train LeNet, export it, benchmark it against eager PyTorch, write a report (about 3 minutes)"
	@echo "               (make demo DATASET=mnist: on the full MNIST, fetched if need be)"
	@echo "make test      the test suite, without what is marked slow, gpu, cross or browser"
	@echo "make test-all  what make test leaves out, but gpu"
	@echo "make gpu-check the tests that need an NVIDIA GPU, on a machine that has one; writes reports/gpu-check.md"
	@echo "make check     formatter, linter, types, imports, line cap, README's examples"
	@echo "make setup     only the environment in $(VENV)"
	@echo "make clean     remove the environment and all caches; weights, artifacts and reports stay"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tests/checks/tensorrt_stubs.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make needs Python 3.11 or later, not " + sys.version.split()[0] + "; name one with make PYTHON=...")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { echo "no virtual environment can be made: apt-get install python3-venv"; exit 3; }
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[all]' -c constraints.txt
	$(BIN)/python tests/checks/tensorrt_stubs.py $(VENV)/stubs
	@touch $@

demo: $(STAMP)
	@set -e; dataset="$(DATASET)"; \
	if [ -z "$$dataset" ]; then dataset=$$($(BIN)/python -c 'from edgeline_train.data import DATASETS, find_files; print("mnist" if find_files(DATASETS["mnist"]) else "mnist-10k")'); fi; \
	$(BIN)/train-model lenet --dataset $$dataset --resume; \
	$(BIN)/export-model lenet --weights weights/lenet-$$dataset.safetensors --format onnx; \
	$(BIN)/benchmark-model artifacts/lenet-$$dataset.fp32.onnx --seconds 6

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu and not cross and not browser"

test-all: $(STAMP)
	$(BIN)/python -m pytest -m "slow or cross or browser"

gpu-check: $(STAMP)
	$(BIN)/python tests/checks/gpu_check.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/mypy --strict --python-version 3.10 runtime/edgeline
	$(BIN)/mypy --strict --python-version 3.10 examples/python-service examples/jetson
	$(BIN)/lint-imports
	$(BIN)/python tests/checks/line_cap.py
	$(BIN)/python tests/checks/readme_examples.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
