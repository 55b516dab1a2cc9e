# Two commands do everything: `make demo` and `make test`. The environment is made from the lock file into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# Prefect and the pipeline keep their things in the demo's folder, not in the user's home
DEMO_ENV := DRP_WORK=$(CURDIR)/$(DEMO)/work

.PHONY: demo test clients check docs bench validation coverage lock clean format

$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "making the environment in $(VENV) from requirements.lock (about a minute)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python deploy/check_lock.py
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check >/dev/null
	@touch $@

demo: $(VENV)/.installed
	@mkdir -p $(DEMO)
	@test -d $(DEMO)/visit || { echo "simulating a visit"; $(DEMO_ENV) $(BIN)/drp simulate $(DEMO)/visit --case demo; }
	@echo "reducing it under Prefect"
	@$(DEMO_ENV) $(BIN)/drp reduce $(DEMO)/visit --output $(DEMO)/products --engine prefect | tee $(DEMO)/folder
	@folder=$$(tail -n 1 $(DEMO)/folder) && echo && echo "light curves:" && ls $$folder/*Lightcurve-DEFAULT* $$folder/*Lightcurve-R33* && \
		echo "report and viewer:" && ls $$folder/*RPT_COR_DataReduction*

test: $(VENV)/.installed
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# the real programs that read our products, each in an environment of its own; tests/delivery/test_clients.py uses those that are there
CLIENTS := pycheops lightkurve pipe
clients: $(CLIENTS:%=.clients/%/.installed)
.clients/%/.installed: tests/clients/%.txt
	@echo "installing $* in .clients/$* (about a minute)"
	@$(PYTHON) -m venv .clients/$*
	@.clients/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# branch coverage of kernels, steps, gate and store; kernels are run as plain Python too, since compiled ones leave no trace
KERNELS := calibration/test_calibration calibration/test_drift calibration/test_events calibration/test_flat calibration/test_spread \
	correction/test_background correction/test_cosmics correction/test_defects correction/test_smearing correction/test_stages \
	correction/test_telegraphic numerics/test_geometry photometry/test_apertures photometry/test_metrics scene/test_field_fluxes \
	scene/test_look scene/test_plate scene/test_scene scene/test_stars
COVERED := $(KERNELS) files/test_gate engine/test_store photometry/test_imagettes delivery/test_uncertainty
coverage: $(VENV)/.installed
	@rm -f .coverage
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --cov --cov-report= $(COVERED:%=tests/%.py)
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --cov --cov-append --cov-report= $(KERNELS:%=tests/%.py)
	@$(BIN)/python -m coverage report --skip-covered --fail-under=90

check: $(VENV)/.installed
	@$(BIN)/python deploy/check_lock.py
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null || $(BIN)/python -m pytest --collect-only -q

# pages that need no network, neither to be made nor to be read; figures come from a visit that is simulated and reduced for them
docs: $(VENV)/.installed
	@DRP_WORK=$(CURDIR)/build/docs/library $(BIN)/python -m docs.figures build/docs
	@rm -rf build/docs/html
	@$(BIN)/python -m sphinx -q -E -n -W --keep-going -b html -d build/docs/doctrees docs build/docs/html
	@echo "the pages: build/docs/html/index.html"

format: $(VENV)/.installed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python -m $$(echo $${file%.py} | tr / .) || exit 1; done

# hours, in parts that are kept; VALIDATE="--case demo" for less
validation: $(VENV)/.installed
	@DRP_WORK=$(CURDIR)/validation/work $(BIN)/drp validate --output validation $(VALIDATE)

# uv writes the lock file: python3 -m pip install uv; and the hashes of a client, of which versions are chosen by hand:
# uv pip compile --no-deps --python-version 3.11.5 --generate-hashes --no-annotate --no-header IN -o tests/clients/NAME.txt
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--group pyproject.toml:build --group pyproject.toml:dev --group pyproject.toml:docs pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .clients $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
