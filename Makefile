# make demo: train and report the offline example.   make verdict: strategy B too, and the comparison.
# make test: every test.   make check: lint and test.   make docs: the site, in site/.
# All create .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed
DOCS_SETUP := .venv/.installed-docs
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: demo verdict test lint check docs setup clean

demo: setup
	@$(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		train_e2e.py sentiment/config/offline.yaml --resume

verdict: demo
	@$(BIN)/python train_mlm.py sentiment/config/offline_mlm.yaml --resume
	@$(BIN)/python train_finetune.py sentiment/config/offline_finetune.yaml --resume
	@$(BIN)/sentiment compare outputs/e2e outputs/finetune

# PYTEST_OPTIONS: for example PYTEST_OPTIONS="-n 2 --dist loadfile".
test: setup
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

docs: $(DOCS_SETUP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

setup: $(SETUP)
	@$(BIN)/sentiment fetch minilm > /dev/null
	@for name in snippets lexicon synonyms keyboard words; do $(BIN)/sentiment fetch $$name > /dev/null || exit 1; done

$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(INSTALL) ".[dev]"
	@touch $(SETUP)

$(DOCS_SETUP): $(SETUP)
	$(INSTALL) ".[docs]"
	@touch $(DOCS_SETUP)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build site *.egg-info
