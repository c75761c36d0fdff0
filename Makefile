# Everything from a fresh machine with Python 3.11+ and make: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-all test-browser check clean

demo: $(READY)
	$(BIN)/slic demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# Kills, several processes, Triton's interpreter, fuzzing, the demo, the benchmarks' quick runs.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

test-all: test test-slow

# The pages' tests alone. They drive the Chromium of the system.
test-browser: $(READY)
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	    echo "There is no Chromium here. Debian: apt-get install chromium"; exit 2; }
	SLIC_BROWSER=required $(BIN)/python -m pytest tests/browser

check: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" scripts/check

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) slic-demo
