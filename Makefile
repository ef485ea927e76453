# make demo: the whole method on scikit-learn's digits. make test: the tests. Each sets up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
EXTRAS ?= dev
# Additional requirements, with fixed versions.
PINS ?=

# Tests that depend on rounding, which are compiled like users' programs. The other tests compile three times as fast
# with few optimisations. XLA aborts at unknown flags, and since jax 0.11.1 it does not know the second.
ROUNDING := tests/selection/test_sharded.py tests/selection/test_similarity.py tests/selection/test_fixed_point.py \
	tests/selection/test_greedy_properties.py tests/test_rank_file.py tests/training/test_guarantees.py
EMITTERS = import jax; print("--xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11, 1) else "")
LIGHTLY ?= --xla_backend_optimization_level=0 $(shell $(BIN)/python -c '$(EMITTERS)')
PYTEST = JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=40 --durations-min=3

.PHONY: demo test test-torch test-tpu test-gpu test-kill test-launch test-accelerator lint docs dist results benchmark-selection benchmark-training clean

demo: $(VENV)/ready
	$(BIN)/python -m sas_jax.main --config=configs/digits.py

test: $(VENV)/ready
	XLA_FLAGS="$$XLA_FLAGS $(LIGHTLY)" $(PYTEST) $(addprefix --ignore=,$(ROUNDING))
	$(PYTEST) $(ROUNDING)

# Kills training runs and a comparison 25 times each; `make test` kills the former three times and the latter once.
test-kill: $(VENV)/ready
	SAS_JAX_KILLS=25 JAX_PLATFORMS=cpu $(BIN)/python -m pytest tests/training/test_processes.py tests/test_main.py -k killed

# Tests the scripts of launch/, and the whole method in two processes: three minutes.
test-launch: $(VENV)/ready
	SAS_JAX_REHEARSAL=1 JAX_PLATFORMS=cpu $(BIN)/python -m pytest tests/launch

# Tests benchmarks/accelerator.py with a real run that is killed and resumed: minutes.
test-accelerator: $(VENV)/ready
	SAS_JAX_SLOW=1 JAX_PLATFORMS=cpu $(BIN)/python -m pytest tests/test_benchmarks_accelerator.py

# Compares features, weights and subsets with those of PyTorch, torchvision, timm, transformers (CLIP too) and ONNX
# Runtime, which take gigabytes and therefore get a separate environment.
test-torch:
	$(MAKE) VENV=$(VENV)-torch EXTRAS=dev,pretrained PINS="torch==2.14.1 torchvision==0.29.1 onnx==1.23.2" $(VENV)-torch/ready
	JAX_PLATFORMS=cpu $(VENV)-torch/bin/python -m pytest tests/test_weights_torch.py tests/pretrained/test_pretrained_torch.py \
		tests/latent_classes/test_clip_model.py tests/run/test_sources.py

# Compiles for TPUs without having any. In a separate environment: with libtpu, JAX looks for TPUs at every start.
test-tpu:
	$(MAKE) VENV=$(VENV)-tpu EXTRAS=dev,tpu $(VENV)-tpu/ready
	JAX_PLATFORMS=cpu $(VENV)-tpu/bin/python -m pytest tests/selection/test_tpu_topology.py tests/training/test_tpu_topology.py tests/test_tpu_stages.py

# Compiles for GPUs without having any. In a separate environment, because it needs 4 GB of NVIDIA's wheels.
test-gpu:
	$(MAKE) VENV=$(VENV)-gpu EXTRAS=dev,cuda $(VENV)-gpu/ready
	JAX_PLATFORMS=cpu $(VENV)-gpu/bin/python -m pytest tests/training/test_gpu_topology.py

# Takes twenty minutes on two idle cores.
benchmark-selection:
	$(MAKE) VENV=$(VENV)-benchmark $(VENV)-benchmark/ready
	$(VENV)-benchmark/bin/python -m pip install --quiet -r benchmarks/requirements.txt
	$(VENV)-benchmark/bin/python -m benchmarks.selection --output=docs/results/selection-cpu.json --single_over=5
	$(VENV)-benchmark/bin/python -m benchmarks.plot docs/results/selection-cpu.json

# Takes fifteen minutes or more on two idle cores, and downloads several GB of PyTorch.
benchmark-training:
	$(MAKE) VENV=$(VENV)-benchmark $(VENV)-benchmark/ready
	$(VENV)-benchmark/bin/python -m pip install --quiet -r benchmarks/requirements-training.txt
	$(VENV)-benchmark/bin/python -m benchmarks.training --output=docs/results/training-cpu.json --profile=$(VENV)-benchmark/traces
	$(VENV)-benchmark/bin/python -m benchmarks.plot docs/results/training-cpu.json

# The documentation site, in build/docs. In a separate environment, because the tests do not need Sphinx.
docs:
	$(MAKE) VENV=$(VENV)-docs EXTRAS=docs $(VENV)-docs/ready
	JAX_PLATFORMS=cpu $(VENV)-docs/bin/python -m sphinx -W --keep-going -q docs build/docs

# The tables and plots of docs/comparisons.md, docs/results.md and README.md, from docs/results/compare-*.json.
results: $(VENV)/ready
	JAX_PLATFORMS=cpu $(BIN)/python -m benchmarks.results write

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The wheel and the source distribution.
dist: $(VENV)/ready
	$(BIN)/python -m build --outdir dist .

# --no-compile: Python compiles modules on first import; compiling all of them here would take 40 seconds more.
$(VENV)/ready: requirements.txt setup.cfg setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %s; give another: make PYTHON=python3.12" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[$(EXTRAS)]" $(PINS)
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-torch $(VENV)-tpu $(VENV)-gpu $(VENV)-docs $(VENV)-benchmark build dist *.egg-info
