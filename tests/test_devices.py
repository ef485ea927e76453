"""The mesh, and the devices a CPU is split into."""

import os
import subprocess
import sys

import jax
import pytest

from sas_jax import devices


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
