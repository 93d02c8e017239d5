PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all lint docs graphs clean

demo: .venv/installed  ## set up without torch, then compare the sample recordings
	@$(BIN)/samevoice demo

test: .venv/installed-dev  ## set up, then every test that is not slow
	-@$(BIN)/samevoice models pull
	$(BIN)/pytest

test-all: .venv/installed-dev  ## the slow tests too
	-@$(BIN)/samevoice models pull
	$(BIN)/pytest -m ""

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/installed-dev  ## the generated tables in docs/
	$(BIN)/python docs/make_models.py

graphs: .venv/installed-dev  ## the weight-less ONNX graphs that cards are pulled into
	$(BIN)/python -c "from samevoice.hub.export import export_graphs; export_graphs()"

.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[dev]'
	@touch .venv/installed $@

clean:
	rm -rf .venv
