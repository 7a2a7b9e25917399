# Two commands on a bare machine: `make demo` and `make test`. Each makes .venv first, from the locked versions.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test test-lowest lint lock clean

demo: .venv/ready
	@rm -rf $(DEMO)
	$(BIN)/isac run scenarios/two-nodes.toml --out $(DEMO)
	@echo "Report: $(CURDIR)/$(DEMO)/report.html"

# A worker a core: more threads of linear algebra would only fight each other, and take twice as long.
test test-lowest: export OPENBLAS_NUM_THREADS = 1
# The tests start hundreds of processes: none but the first shall have to compile our modules.
test test-lowest: export PYTHONDONTWRITEBYTECODE =

test: .venv/ready
	$(BIN)/python -m pytest -n auto --dist worksteal

# Quick tests on the lowest versions, numpy 1.26 among them: those are what a USRP's agent runs on.
LOWEST_TESTS := tests/testbed/test_usrp.py tests/testbed/test_radio_contract.py tests/testbed/test_sigmf.py \
	tests/testbed/test_results.py tests/dsp/test_reciprocity.py \
	tests/testbed/test_cli.py::test_run_makes_the_folder_that_was_promised

test-lowest: .venv-lowest/ready
	.venv-lowest/bin/python -m pytest -q -n auto -p no:cacheprovider $(LOWEST_TESTS)

.venv-lowest/ready: pyproject.toml requirements-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements-lowest.txt \
		--editable '.[pluto]' allantools finufft hypothesis pytest pytest-xdist sigmf
	@touch $@

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Newest versions that work together, written down; run after changing pyproject.toml.
lock:
	rm -rf .venv
	$(MAKE) LOCK= .venv/ready
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock

LOCK := --constraint requirements.lock

.venv/ready: pyproject.toml $(wildcard requirements.lock)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: sudo apt-get install python3 (Debian 12 or newer), or make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "The Debian package python3-venv is missing: sudo apt-get install python3-venv"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-lowest runs bench
