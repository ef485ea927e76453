"""The mesh, and the devices a CPU is split into."""

import os
import subprocess
import sys

import jax
import pytest

from sas_jax import devices
from sas_jax.errors import InputError


def test_the_mesh_has_one_axis_over_the_devices_asked_for():
    assert devices.mesh().shape == {"data": jax.device_count()}
    assert devices.mesh(2).shape == {"data": 2}


@pytest.mark.parametrize(("batches", "count", "user"), [((128, 512), 4, None), ((6, 128), 2, None), ((128,), 8, "8")])
def test_a_cpu_is_split_into_devices_that_divide_the_batches(batches, count, user):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    environment |= {"JAX_NUM_CPU_DEVICES": user} if user else {}
    code = f"import jax; from sas_jax import devices; devices.split_cpu(*{batches}); print(jax.device_count())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == count


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("", "", 4096_000), ("max", "7", 4096_000), ("1000000", "400000", 600_000)]
)
def test_free_memory_counts_what_caches_files_and_knows_a_container_s_limit(monkeypatch, limit, used, expected):
    files = {
        "/proc/meminfo": "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n",
        "/sys/fs/cgroup/memory.max": limit,
        "/sys/fs/cgroup/memory.current": used,
    }
    monkeypatch.setattr(devices, "_read", files.__getitem__)
    assert devices.free_memory() == expected


def test_determinism_is_asked_of_a_gpu_beside_what_was_asked_before(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x")
    devices.make_deterministic()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=/x --xla_gpu_deterministic_ops=true"


def test_several_processes_without_names_are_a_mistake(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(InputError, match=r"wants JAX_NUM_PROCESSES and JAX_PROCESS_ID beside it.*set both"):
        devices.join(heartbeat_seconds=10)


def test_votes_of_one_process_count_at_once():
    votes = devices.Votes(devices.mesh(), 2)
    assert votes.cast(True, False) == (True, False)
    assert votes.cast(False, False) == (False, False)
