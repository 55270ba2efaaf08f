# make demo       phantom hospitals, a federation over them, a report
# make test       the tests CI runs: types, style, import rules, licences, tests
# make test-slow  what takes minutes
# make install    the environment alone (.venv), from requirements-dev.lock
# make lock       both lock files anew; with UPGRADE=--upgrade the newest versions, UPGRADE="-P NAME" one
# make sbom       build/fedrad.cdx.json, a CycloneDX list of all that a hospital installs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export FLWR_TELEMETRY_ENABLED = 0

.PHONY: demo test test-slow install lint lock sbom clean

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

# Every package is one whose hash is in the lock file, uv and the backend that builds fedrad included.
# An editable install follows the working tree; it is made anew when a dependency changes. Bytecode is
# compiled once here, so that no first command waits for it.
$(VENV)/.installed: pyproject.toml requirements-dev.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(VENV)/uv.lock
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --require-hashes --no-deps \
		--requirement requirements-dev.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q $(CURDIR)/src/fedrad/*/
	touch $@

# For the tested platform. Versions stay as they are unless UPGRADE says otherwise.
LOCK := pip compile pyproject.toml --quiet --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --python-version 3.11 \
	--python-platform x86_64-unknown-linux-gnu
UPGRADE ?=

lock:
	$(BIN)/uv $(LOCK) $(UPGRADE) --extra dev --output-file requirements-dev.lock
	$(BIN)/uv $(LOCK) --constraint requirements-dev.lock --output-file requirements.lock

sbom: install
	$(BIN)/python tests/sbom.py build/fedrad.cdx.json

clean:
	rm -rf $(VENV) build demo *.egg-info
