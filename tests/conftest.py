"""Every test sees eight simulated CPU devices, so that one process can compare one device with several."""

import gc
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the tests' time is compilation. A second run and child processes read the programs of the first from the
# cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)

MAPS = Path("/proc/self/maps")
MOST_MAPS = 20_000

# The slowest files, slowest first, so that neither of two workers waits long for the other at the end.
LONGEST = (
    "tests/test_main.py",
    "tests/training/test_processes.py",
    "tests/run/test_pipeline.py",
    "tests/launch/test_tpu_vm.py",
    "tests/test_benchmarks_training.py",
    "tests/selection/test_sharded.py",
    "tests/training/test_guarantees.py",
    "tests/evaluation/test_probe.py",
    "tests/selection/test_rank.py",
    "tests/test_configs.py",
)


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="module")
def one_stage():
    """Cuts ResNet-10 as tests/one_stage.py does."""
    from sas_jax.models import resnet
    from tests.one_stage import STAGES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, 10, STAGES)
        jax.clear_caches()  # a program of the whole network differs from that of this one
        yield
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def _programs_that_fit():
    """Clears compiled programs if they are many: each needs memory maps, and XLA aborts beyond Linux's 65,530."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
