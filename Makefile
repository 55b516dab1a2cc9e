# `make demo` and `make test` need no preparation; `make help` lists the other targets.
# Every target builds the environment in .venv from the lock file if it is missing or out of date.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# keep the files of Prefect and the pipeline in the demo's folder, not in the user's home
DEMO_ENV := DRP_WORK=$(CURDIR)/$(DEMO)/work

.PHONY: help demo test wheels soak clients check docs bench validation bounds coverage lock clean format

# PYTHON names the interpreter; uv is used where it is there
$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -P deploy/environment.py $(VENV)
	@touch $@

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## simulate a visit, reduce it under Prefect, and say what to do with the results
	@mkdir -p $(DEMO)
	@test -d $(DEMO)/visit || { echo && echo "1. simulate a visit: five hours of a star of magnitude 9, with a transit" && \
		$(DEMO_ENV) $(BIN)/drp simulate $(DEMO)/visit --case demo; }
	@echo && echo "2. reduce it under Prefect" && \
		$(DEMO_ENV) $(BIN)/drp reduce $(DEMO)/visit --output $(DEMO)/products --engine prefect | tee $(DEMO)/folder
	@folder=$$(realpath --relative-to=. "$$(tail -n 1 $(DEMO)/folder)") && ln -sfn "$${folder#$(DEMO)/}" $(DEMO)/latest && \
		echo && echo "What next:" && \
		echo "  open $$(ls $$folder/*RPT_COR_DataReduction*.html) in a browser: the light curves" && \
		echo "  open $$(ls $$folder/*RPT_COR_DataReduction*.pdf): the report" && \
		echo "  source $(BIN)/activate puts drp on the path: drp show, drp plot, drp explain" && \
		echo "  go on with docs/tutorial.md: its first reduction takes seconds, since it finds this one's results"

test: $(VENV)/.installed ## run all tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# not a part of the tests or of CI; `make soak SOAK="--seed 7"` tries others
SOAK ?=
soak: $(VENV)/.installed ## spoil files at random, kill reductions and campaigns (SOAK="--mutations 1000 --minutes 10 --seed 1")
	@$(BIN)/python -m tests.soak $(SOAK)
	@$(BIN)/python -m pytest -q -m soak

# nothing is done with WHEELS=--several and only one Python
WHEELS ?=
wheels: $(VENV)/.installed ## reduce a visit with the installed wheel on every Python from 3.11 to 3.13 that is there
	@$(BIN)/python deploy/check_wheel.py build/wheels $(WHEELS)

# real programs that read our products, each in its own environment; tests/delivery/test_clients.py
# runs those that are installed
CLIENTS := pycheops lightkurve pipe
clients: $(CLIENTS:%=.clients/%/.installed) ## install pycheops, lightkurve and PIPE for the tests that run them
.clients/%/.installed: tests/clients/%.txt
	@echo "installing $* in .clients/$* (about a minute)"
	@$(PYTHON) -P -m venv .clients/$*
	@.clients/$*/bin/python -P -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# kernels are also run as plain Python, since compiled ones leave no trace
KERNELS := calibration/test_calibration calibration/test_damage calibration/test_drift calibration/test_events calibration/test_flat calibration/test_spread \
	correction/test_background correction/test_cosmics correction/test_defects correction/test_smearing correction/test_stages \
	correction/test_telegraphic numerics/test_geometry numerics/test_robust photometry/test_apertures photometry/test_metrics scene/test_field_fluxes \
	scene/test_look scene/test_plate scene/test_scene scene/test_stars
COVERED := $(KERNELS) calibration/test_plausible files/test_gate engine/test_store photometry/test_imagettes photometry/test_optimal \
	photometry/test_quality scene/test_bad_pixels scene/test_catalogue scene/test_degenerate scene/test_gaps delivery/test_uncertainty
coverage: $(VENV)/.installed ## measure branch coverage of kernels, steps, gate and store
	@rm -f .coverage
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --cov --cov-report= $(COVERED:%=tests/%.py)
	@NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --cov --cov-append --cov-report= $(KERNELS:%=tests/%.py)
	@$(BIN)/python -m coverage report --skip-covered --fail-under=90

# compiled kernels do not check indices: an index beyond an array reads or writes other memory. The
# checked ones have a cache of their own, since numba's does not know of the checks
BOUNDED := $(KERNELS) photometry/test_imagettes
bounds: $(VENV)/.installed ## run the tests of kernels with every index checked
	@NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(CURDIR)/build/bounds \
		$(BIN)/python -m pytest -q -n 2 --dist loadfile $(BOUNDED:%=tests/%.py)

check: $(VENV)/.installed ## check lock file, deployment files, lint, format, types and import rules; collect the tests
	@$(BIN)/python deploy/check_lock.py
	@$(BIN)/python deploy/check_deploy.py
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null || $(BIN)/python -m pytest --collect-only -q

# neither building nor reading the pages needs the network
docs: $(VENV)/.installed ## build the pages; their figures come from a visit simulated for them
	@MPLBACKEND=Agg $(BIN)/python -m docs.pictures $(DEMO) docs/pictures
	@MPLBACKEND=Agg DRP_WORK=$(CURDIR)/build/docs/library $(BIN)/python -m docs.figures build/docs
	@DRP_WORK=$(CURDIR)/build/docs/library $(BIN)/python -m docs.run_notebooks build/docs
	@rm -rf build/docs/html
	@$(BIN)/python -m sphinx -q -E -n -W --keep-going -b html -d build/docs/doctrees docs build/docs/html
	@echo "the pages: build/docs/html/index.html"

format: $(VENV)/.installed ## fix lint and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed ## run the benchmarks
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python -m $$(echo $${file%.py} | tr / .) || exit 1; done

# finished parts are kept, so it may be interrupted
validation: $(VENV)/.installed ## measure every claim of accuracy (hours; VALIDATE="--case demo" for less)
	@DRP_WORK=$(CURDIR)/validation/work $(BIN)/drp validate --output validation --jobs $$(getconf _NPROCESSORS_ONLN) $(VALIDATE)

# needs uv (python3 -m pip install uv), which also writes the hashes of a client, whose versions are
# chosen by hand:
# uv pip compile --no-deps --python-version 3.11.5 --generate-hashes --no-annotate --no-header IN -o tests/clients/NAME.txt
lock: ## write requirements.lock from pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--extra cluster --group pyproject.toml:build --group pyproject.toml:dev --group pyproject.toml:docs pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--no-annotate --extra cluster --group pyproject.toml:build --constraint requirements.lock pyproject.toml --output-file deploy/image.lock

clean: ## delete environments, caches, the demo and built pages
	rm -rf $(VENV) .clients $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
