# Everything runs in .venv, made from setup.py and the versions pinned in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: help install demo test test-torch lint bench constraints clean

help:
	@echo "make demo   spoken corpus -> dataset -> model -> pictures, in demo/"
	@echo "make test   the whole suite"
	@echo "make test-torch   the PyTorch example, in an environment without TensorFlow"
	@echo "make lint   ruff and mypy"
	@echo "make bench  the measurements of tests/benchmarks/README.md"
	@echo "make clean  remove what the others made"

install: .venv/installed

# uv installs the same wheels as pip, and sooner.
.venv/installed: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev,synth]'
	@touch $@

# Thirty words by sixty speakers, then the dataset, a CNN and its evaluation on speakers it never heard.
demo: install
	$(BIN)/kws synthesize --output $(DEMO)/corpus --overwrite --clips_per_word 180 --speakers 60
	$(BIN)/kws prepare --input $(DEMO)/corpus --output $(DEMO)/dataset --overwrite --feature log_mel
	$(BIN)/kws train --dataset $(DEMO)/dataset --run_dir $(DEMO)/run --overwrite --optimizer adam --epochs 10
	$(BIN)/kws evaluate --run_dir $(DEMO)/run --split test
	@echo "Pictures: $(DEMO)/run/evaluation-test/alluvial.png and confusion_matrix.png"

test: install
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# The base install, without TensorFlow, and PyTorch: another environment, because that takes 5 GB.
test-torch: .venv-torch/installed
	.venv-torch/bin/python -m pytest -o addopts= tests/with_torch

.venv-torch/installed: .venv/installed
	$(PYTHON) -m venv --clear .venv-torch
	$(BIN)/uv pip install --python .venv-torch/bin/python --constraint constraints.txt --editable . pytest torch
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m tests.benchmarks.bench_steps
	$(BIN)/python -m tests.benchmarks.bench_prepare
	$(BIN)/python -m tests.benchmarks.bench_read
	$(BIN)/python -m tests.benchmarks.bench_memory
	$(BIN)/python -m tests.benchmarks.bench_workers
	$(BIN)/python -m tests.benchmarks.bench_scale --folder /tmp/kws-scale

constraints: install
	$(BIN)/uv pip compile setup.py --all-extras --universal --python-version 3.11 --no-header --no-annotate --output-file constraints.txt --upgrade

clean:
	rm -rf .venv .venv-torch build dist *.egg-info $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
