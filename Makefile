# make demo       phantom hospitals, a federation over them, a report
# make test       the tests CI runs: types, style, import rules, licences, tests
# make test-slow  what takes minutes
# make install    the environment alone (.venv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export FLWR_TELEMETRY_ENABLED = 0

.PHONY: demo test test-slow install lint clean

demo: install
	$(BIN)/fedrad demo --out demo

test: install lint
	$(BIN)/pytest -n 2

test-slow: install
	$(BIN)/pytest -m slow

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/licences.py

install: $(VENV)/.installed

# An editable install follows the working tree; it is made anew when a dependency changes. Bytecode is
# compiled once here, so that no first command waits for it.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.13.5"
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt \
		--editable ".[dev]"
	$(BIN)/python -m compileall -q $(CURDIR)/src/fedrad/*/
	touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info
