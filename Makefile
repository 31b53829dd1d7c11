# make demo: train and report the offline example; make verdict: the second strategy too, and which is better;
# make test: every test. All set up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed

.PHONY: demo verdict test lint check setup clean

demo: setup
	@$(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		train_e2e.py sentiment/config/offline.yaml --resume

verdict: demo
	@$(BIN)/python train_mlm.py sentiment/config/offline_mlm.yaml --resume
	@$(BIN)/python train_finetune.py sentiment/config/offline_finetune.yaml --resume
	@$(BIN)/sentiment compare outputs/e2e outputs/finetune

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

setup: $(SETUP)
	@$(BIN)/sentiment fetch minilm > /dev/null
	@$(BIN)/sentiment fetch snippets > /dev/null

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $(SETUP)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build *.egg-info
