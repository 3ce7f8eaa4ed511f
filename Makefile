# The ways into mser. `make` prints them; every variable can be given on the command line or in the environment,
# but LANG on the command line only: in the environment it is the locale.

SHELL := /bin/sh
.DEFAULT_GOAL := help

LANGUAGES :=
ifeq ($(origin LANG),command line)
LANGUAGES := $(LANG)
endif
# Children get a locale that exists and speaks UTF-8, whatever LANG says.
UTF8 := $(shell locale -a 2>/dev/null | grep -i -m1 -E '^(C|en_US)\.utf-?8$$' || echo C.UTF-8)
override LANG := $(UTF8)
export LANG
export LC_ALL := $(UTF8)
export PYTHONUTF8 := 1

MSER_HOME ?= work
MSER_CORPORA ?= corpora
DEMO_HOME ?= work/demo
DEVICE ?= auto
FEATURES ?= pooled
FRAME_RATE ?= 5
export MSER_HOME MSER_CORPORA DEVICE FEATURES FRAME_RATE
# Without a value these keep the defaults of the commands.
ifdef UPSTREAMS
export UPSTREAMS
endif
EXPORTED := MSER_DEFINITIONS DTYPE LAYERS FRAMES POOLED WINDOW OVERLAP COMPUTE BATCHING SCHEDULER WAIT RECOMPUTE \
	REPLACE_CHANGED EPOCHS SEARCH_EPOCHS CANDIDATES STRATEGIES METHODS PROTOCOL PUBLISHED PLACEMENT MISSING SET RUN \
	SEEDS PROTOCOLS LABELS SHOTS DRAWS MAPPING WORKERS CORPUS TENSORBOARD MSER_TEST_UPSTREAM
$(foreach name,$(EXPORTED),$(if $($(name)),$(eval export $(name))))

VENV ?= .venv
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
RUN_PYTHON := $(VENV)/bin/python
READY := $(VENV)/.mser-ready
BY_LANGUAGE := $(if $(LANGUAGES),--language "$(LANGUAGES)")

.PHONY: help setup demo download manifest plan extract search train benchmark adapt serve inspect verify test lint clean

help: ## print this
	@echo "make TARGET [VARIABLE=value ...]"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-13s%s\n", $$1, $$2}'
	@echo
	@echo "Variables (default):"
	@echo "  LANG              languages such as de or \"de it\"; on the command line only (all there are)"
	@echo "  CORPUS            corpora to download, by name or alias, such as emodb (all of LANG)"
	@echo "  UPSTREAMS         speech models: acoustic names, registry names, hub ids, folders"
	@echo "                    (extract: acoustic; search and train: all that are cached)"
	@echo "  MSER_CORPORA      folder with a folder for each corpus, only read (corpora)"
	@echo "  MSER_HOME         folder of everything mser writes (work)"
	@echo "  MSER_DEFINITIONS  folder of own corpus definitions (none)"
	@echo "  DEVICE            auto, cpu, cuda, cuda:N (auto)"
	@echo "  DTYPE             of cached frames: float16, float32 or int8 with a scale a feature (float16)"
	@echo "  LAYERS            to keep, such as 4-9 or 0,6,12 (all)"
	@echo "  FRAMES, POOLED    0: leave states of frames, or their mean and deviation, out (1, 1)"
	@echo "  WINDOW, OVERLAP   seconds: longer recordings are run in windows (30, 4; WINDOW=0: never)"
	@echo "  COMPUTE           what models calculate in: float32, float16, bfloat16 (as the store was begun, or float32)"
	@echo "  BATCHING          solo, equal lengths, masked ... (as the store was begun, or measured on CUDA)"
	@echo "  SCHEDULER         run on the workers of a Dask cluster: tcp://host:8786 (none)"
	@echo "  WAIT              1: wait for another extraction of the same store (refuse)"
	@echo "  RECOMPUTE         utterances of each store that verify computes again (2)"
	@echo "  REPLACE_CHANGED   1: compute recordings anew that changed since they were cached (refuse)"
	@echo "  FEATURES          what heads are trained on: pooled, or frames with temporal operations (pooled)"
	@echo "  FRAME_RATE        frames a second at most, in training (5)"
	@echo "  SEEDS             (train: 0 1 2; benchmark: 0 1 2 3 4)"
	@echo "  METHODS           train: (logistic fixed random searched multi-domain), all, or of mser-train fit --help"
	@echo "                    benchmark: (all), or of mser-train benchmark --help"
	@echo "  PROTOCOLS, LABELS, SHOTS   of the benchmark (within zero-shot few-shot; emotions valence, or other mappings;"
	@echo "                    1 5 10)"
	@echo "  SHOTS, DRAWS, MAPPING   of adapt: labelled clips an emotion, random draws, what emotions count as"
	@echo "                    (1 5 10 20 all; 10; emotions: every one for itself)"
	@echo "  STRATEGIES        of a search (beta random fixed), or of mser-train search --help"
	@echo "  PROTOCOL          of test folds: speakers, random-70-10-20, serab, emobox (speakers)"
	@echo "  PUBLISHED         folder of the fold files of PROTOCOL=emobox (none)"
	@echo "  PLACEMENT         of states in training: device, pinned, memory, streamed (by the free memory)"
	@echo "  MISSING           1: train languages without upstreams that they lack (refuse)"
	@echo "  SET               other settings, such as \"fit.loss.mixup=0.4 model.dropout=0.5\" (none)"
	@echo "  EPOCHS, SEARCH_EPOCHS, CANDIDATES   of training, of a search, of random search (see mser-train --help)"
	@echo "  WORKERS           processes (search and train: one a core; extract: one a GPU, else this one alone)"
	@echo "  RUN               name of the run folder (train: made from the inputs; benchmark: benchmark; adapt: the only one)"
	@echo "  TENSORBOARD       1: search and train write curves for TensorBoard; needs mser[tensorboard] (none)"
	@echo "  DEMO_HOME         folder of the demo (work/demo)"
	@echo "  PYTHON, VENV      interpreter 3.11 or 3.12 (first found), environment (.venv)"

setup: $(READY) ## create .venv with the locked versions

$(READY): requirements.lock setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "mser needs Python 3.11 or 3.12; none was found. Give one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN_PYTHON) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(RUN_PYTHON) --requirement requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(RUN_PYTHON) --no-deps --editable .
	@touch $@

demo: $(READY) ## both stages on small synthetic corpora; ends with a report to look at
	$(RUN_PYTHON) -m extract demo "$(DEMO_HOME)/corpora"
	MSER_CORPORA="$(DEMO_HOME)/corpora" MSER_HOME="$(DEMO_HOME)" $(RUN_PYTHON) -m extract manifest --language "de en it"
	MSER_CORPORA="$(DEMO_HOME)/corpora" MSER_HOME="$(DEMO_HOME)" $(RUN_PYTHON) -m extract states --language "de en it" \
		--upstreams "acoustic random-tiny-wav2vec2"
	MSER_HOME="$(DEMO_HOME)" $(RUN_PYTHON) -m train search --language "de en it" $(DEMO_SETTINGS)
	MSER_HOME="$(DEMO_HOME)" $(RUN_PYTHON) -m train fit --language "de en it" --seeds 0 $(DEMO_SETTINGS)

DEMO_SETTINGS := --upstreams "acoustic random-tiny-wav2vec2" --features frames --frame-rate 5 \
	--epochs 20 --search-epochs 8 --candidates 2

download: $(READY) ## get the languages' corpora, or those of CORPUS; what to do by hand where there is no open link
	$(RUN_PYTHON) -m extract download $(BY_LANGUAGE)

manifest: $(READY) ## list the recordings of the languages' corpora: labels, speakers, hashes
	$(RUN_PYTHON) -m extract manifest $(BY_LANGUAGE)

plan: $(READY) ## hours, frames, gigabytes and time of an extraction, before it runs
	$(RUN_PYTHON) -m extract plan $(BY_LANGUAGE)

extract: $(READY) ## cache the hidden states of UPSTREAMS for the manifests' recordings
	$(RUN_PYTHON) -m extract states $(BY_LANGUAGE)

search: $(READY) ## search a network structure for each language (and test fold)
	$(RUN_PYTHON) -m train search $(BY_LANGUAGE)

train: $(READY) ## train and test all methods on the cached languages; write the report
	$(RUN_PYTHON) -m train fit $(BY_LANGUAGE)

benchmark: $(READY) ## ask METHODS (all systems of the field) on all languages and pairs; write the leaderboard
	$(RUN_PYTHON) -m train benchmark $(BY_LANGUAGE)

adapt: $(READY) ## take run RUN to the new language LANG: zero-shot, unlabelled, SHOTS labelled clips, from scratch
	$(RUN_PYTHON) -m train adapt $(BY_LANGUAGE)

serve: $(READY) ## a local page: drop or record a clip, see what run RUN says of it (needs mser[serve])
	$(VENV)/bin/mser serve

inspect: $(READY) ## list the stores; write a page of their statistics, probes and maps
	$(VENV)/bin/mser inspect $(BY_LANGUAGE)

verify: $(READY) ## check the stores against manifests and recordings
	$(RUN_PYTHON) -m extract verify $(BY_LANGUAGE)

test: $(READY) ## run the tests, a process a core
	$(RUN_PYTHON) -m pytest -q $(PYTEST_OPTIONS)

# A module's tests stay together, as they share what they made; the longest modules begin.
PYTEST_OPTIONS ?= --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --explicit-package-bases mser extract train bench

clean: ## remove build and test leftovers; keeps .venv and everything in MSER_HOME
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
