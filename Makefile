# Every target makes the environment it needs in .venv; nothing else has to be installed first but
# Python 3.11+ and (for some DeepSpeed options only) a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENGINE ?= cpu

.PHONY: setup demo test test-unit test-integration test-reliability lint format bench reliability gpu-check clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml scripts/install.sh
	PYTHON=$(PYTHON) ENGINE=$(ENGINE) VENV=$(VENV) bash scripts/install.sh
	touch $@

demo: setup
	$(BIN)/flywheel demo

lint: setup
	bash scripts/lint.sh $(BIN)

format: setup
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

test: lint
	$(BIN)/pytest tests/unit -n auto
	$(BIN)/pytest tests/reliability tests/integration tests/web -n 2 --dist loadfile

test-unit: setup
	$(BIN)/pytest tests/unit -n auto

test-integration: setup
	$(BIN)/pytest tests/integration

test-reliability: setup
	$(BIN)/pytest tests/reliability

bench: setup
	@for script in $$(ls benchmarks/*.py | grep -v -e banking77_data.py -e processor.py -e results_file.py -e gateway_); do $(BIN)/python $$script --short || exit 1; done

bench-%: setup
	$(BIN)/python benchmarks/$(subst -,_,$*).py

reliability: setup
	FLYWHEEL_LONG=1 $(BIN)/pytest tests/reliability

gpu-check: setup
	$(BIN)/pytest tests -m gpu

clean:
	rm -rf $(VENV) .flywheel build dist
