# Everything sets itself up: `make demo` and `make test` need Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Only throughput.py needs it, for comparison; all its dependencies are already installed.
RIVAL := daft==0.7.26
export RAY_USAGE_STATS_ENABLED := 0

# Tests that share a Ray run in one of the two workers, see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

.PHONY: demo test quick lint docs lock bench clean setup
.DELETE_ON_ERROR:

demo: $(READY)  ## real faces through the whole pipeline into build/demo/
	$(BIN)/dfdm-ray demo --out build/demo

test: $(READY)  ## all tests; the demo media and weights are fetched first, the tests need no network
	$(BIN)/dfdm-ray assets get > /dev/null
	$(PYTEST) $(ARGS)

quick: $(READY)  ## the tests of pure functions and small inputs, in under a minute on two cores
	$(BIN)/dfdm-ray assets get > /dev/null
	$(PYTEST) -m "not ray and not e2e and not slow" $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## the documents as a site in build/docs/, with a reference made from the code
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	! grep -rE '<(script|link|img)[^>]* (src|href)="https?:' build/docs --include=*.html  # a page fetches nothing

bench: $(READY)  ## see benchmarks/README.md; ARGS=--quick takes about three minutes
	$(BIN)/dfdm-ray assets get > /dev/null
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(RIVAL)
	$(BIN)/python benchmarks/floor.py $(ARGS)
	$(BIN)/python benchmarks/throughput.py $(ARGS)
	$(BIN)/python benchmarks/worker_costs.py $(ARGS)
	$(BIN)/python benchmarks/scale_formula.py
	$(BIN)/python benchmarks/page.py

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dfdm-ray needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

lock:  ## resolve the dependencies again; README (Install) explains --no-deps
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	echo "retinaface-pytorch==0.0.8" | $(VENV)-lock/bin/uv pip compile --universal --python-version 3.11 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links --override overrides.txt --group dev \
		pyproject.toml - --output-file requirements.lock

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache $(VENV) $(VENV)-lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
