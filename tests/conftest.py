"""Every test sees eight simulated CPU devices, so that one device and several are compared in one process."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
