# Two commands on a bare machine: `make demo` and `make test`. Each makes .venv first, from the locked versions.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo

.PHONY: demo test lint lock clean

demo: .venv/ready
	@rm -rf $(DEMO)
	$(BIN)/isac run scenarios/two-nodes.toml --out $(DEMO)
	@echo "Report: $(CURDIR)/$(DEMO)/report.html"

test: .venv/ready
	$(BIN)/python -m pytest -n auto

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
	rm -rf .venv runs bench
