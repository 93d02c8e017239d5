PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

SPEECH ?= speech
RECORDINGS = $(abspath $(SPEECH))
MINI := runs/eres2net-mini
AGAIN := network.start=run/model data.views.folder=run/features \
  phases.distillation.epochs=1.5 phases.distillation.learning_rate.peak=2.5e-3

.PHONY: demo test test-all lint docs graphs eres2net-mini clean

demo: .venv/installed  ## set up without torch, then compare the sample recordings
	-@$(BIN)/samevoice models pull
	@$(BIN)/samevoice demo

test: .venv/installed-dev  ## set up, then every test that is not slow
	-@$(BIN)/samevoice models pull
	$(BIN)/pytest -n auto

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

eres2net-mini: .venv/installed-dev $(MINI)/banks  ## train the model that comes with the package again, from SPEECH: hours
	cd $(MINI) && $(abspath $(BIN))/samevoice train eres2net_mini --run run
	cd $(MINI) && $(abspath $(BIN))/samevoice train eres2net_mini --run again $(AGAIN)
	mkdir -p $(MINI)/model
	cp $(MINI)/again/model/card.yaml $(MINI)/model
	$(BIN)/samevoice export $(MINI)/again/model --half -o $(MINI)/model/model.onnx
	$(BIN)/samevoice models calibrate $(MINI)/model $(MINI)/again/held_out.csv -o $(MINI)/model/card.yaml \
	  --data "92 speakers of Common Voice and speechocean762 that training set aside"

$(MINI)/banks:
	mkdir -p $(MINI)
	for part in commonvoice speechocean762 librispeech; do \
	  $(BIN)/samevoice prepare csv $(RECORDINGS)/$$part/train.csv --root $(RECORDINGS) -o $(MINI)/$$part.parquet || exit; done
	$(BIN)/samevoice prepare rirs --simulate -o $@.made
	$(BIN)/samevoice prepare banks noise=$(RECORDINGS)/noise speech=$(RECORDINGS)/librispeech/train -o $@.made
	mv $@.made $@

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
