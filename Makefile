# make demo: the whole method on scikit-learn's digits. make test: the tests. Each sets up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
EXTRAS ?= dev

.PHONY: demo test test-tpu lint benchmark-selection clean

demo: $(VENV)/ready
	$(BIN)/python -m sas_jax.main --config=configs/digits.py

test: $(VENV)/ready
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Compiles for TPU chips that are not there. An environment of its own: with libtpu, JAX looks for TPUs at every start.
test-tpu:
	$(MAKE) VENV=$(VENV)-tpu EXTRAS=dev,tpu $(VENV)-tpu/ready
	JAX_PLATFORMS=cpu $(VENV)-tpu/bin/python -m pytest tests/selection/test_tpu_topology.py

# Twenty minutes on two cores that do nothing else.
benchmark-selection:
	$(MAKE) VENV=$(VENV)-benchmark $(VENV)-benchmark/ready
	$(VENV)-benchmark/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	$(VENV)-benchmark/bin/python -m benchmarks.selection --output=docs/results/selection-cpu.json --single_over=5
	$(VENV)-benchmark/bin/python -m benchmarks.plot docs/results/selection-cpu.json

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/ready: requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %s; give another: make PYTHON=python3.12" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-tpu $(VENV)-benchmark build dist *.egg-info
