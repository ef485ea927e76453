"""The mesh, and the devices that a CPU is split into."""

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


@pytest.mark.parametrize(
    ("image_size", "batches", "count"),
    [
        (32, (128, 512), 8),
        (32, (64, 128), 4),
        (32, (32,), 2),
        (32, (6, 128), 2),
        (32, (8,), 2),
        (32, (7, 128), 1),
        (32, (96,), 4),
        (16, (128,), 2),
        (16, (256,), 4),
        (224, (32,), 2),
    ],
)
def test_a_cpu_is_as_many_devices_as_divide_the_batches_and_suit_the_smallest(image_size, batches, count):
    assert devices.cpu_devices(image_size, *batches) == count


SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"


@pytest.mark.parametrize(
    ("settings", "count", "flags"),
    [
        ({}, 8, f"{SCHEDULER}=false"),
        ({"JAX_NUM_CPU_DEVICES": "3", "XLA_FLAGS": "--xla_dump_to="}, 3, f"--xla_dump_to= {SCHEDULER}=false"),
        ({"JAX_NUM_PROCESSES": "2", "XLA_FLAGS": f"{SCHEDULER}=true"}, 4, f"{SCHEDULER}=true"),
    ],
)
def test_a_cpu_is_split_and_xla_told_to_compute_in_sequence_unless_the_user_says_otherwise(settings, count, flags):
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")} | settings
    code = "import os, jax; from sas_jax import devices; devices.split_cpu(32, 128); "
    code += "print(jax.device_count(), os.environ['XLA_FLAGS'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{count} {flags}"


@pytest.mark.parametrize(("cores", "number"), [(1, 1), (3, 3), (64, 8)])
def test_rankings_have_a_device_of_each_core_up_to_eight(monkeypatch, cores, number):
    made = []
    monkeypatch.setattr(devices, "cpu_count", lambda: cores)
    monkeypatch.setattr(devices, "_simulate_cpu_devices", made.append)
    devices.split_cpu_by_cores()
    assert made == [number]


def test_a_version_of_xla_that_may_not_know_a_flag_is_not_given_it(monkeypatch):
    monkeypatch.setattr(devices.jaxlib.version, "__version_info__", (0, 13, 0))
    monkeypatch.setenv("XLA_FLAGS", "")
    devices.split_cpu(32, 128)
    assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.parametrize(
    ("limit", "used", "expected"), [("", "", 4096_000), ("max", "7", 4096_000), ("1000000", "400000", 750_000)]
)
def test_free_memory_counts_what_caches_files_and_knows_a_container_s_limit(monkeypatch, limit, used, expected):
    files = {
        "/proc/meminfo": "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n",
        "/sys/fs/cgroup/memory.max": limit,
        "/sys/fs/cgroup/memory.current": used,
        "/sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 100000\nactive_file 50000\n",
    }
    monkeypatch.setattr(devices, "_read", files.__getitem__)
    assert devices.free_memory() == expected


def test_determinism_is_asked_of_a_gpu_beside_what_was_asked_before(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x")
    devices.make_deterministic()
    assert os.environ["XLA_FLAGS"] == "--xla_dump_to=/x --xla_gpu_deterministic_ops=true"


def test_memory_knows_a_limit_of_the_shell(monkeypatch):
    monkeypatch.setattr(devices, "_read", {"/sys/fs/cgroup/memory.max": "max\n"}.__getitem__)
    assert devices.memory() > 1e8
    monkeypatch.setattr(devices.resource, "getrlimit", lambda _: (1000, 2000))
    assert devices.memory() == 1000
    monkeypatch.setattr(devices, "_read", {"/sys/fs/cgroup/memory.max": "900\n"}.__getitem__)
    assert devices.memory() == 900


def test_several_processes_without_names_are_a_mistake(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.delenv("JAX_NUM_PROCESSES", raising=False)
    with pytest.raises(InputError, match=r"JAX_NUM_PROCESSES and JAX_PROCESS_ID must be whole numbers if .* Set both"):
        devices.join(heartbeat_seconds=10)


def test_votes_of_one_process_count_at_once():
    votes = devices.Votes(devices.mesh(), 2)
    assert votes.cast(True, False) == (True, False)
    assert votes.cast(False, False) == (False, False)
