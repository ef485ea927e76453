"""CIFAR-10 with the settings of configs/cifar100.py and ten latent classes.

    python -m sas_jax.main --config=configs/cifar10.py

This size needs an accelerator.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "cifar10"
    config.data.mean = (0.4914, 0.4822, 0.4465)
    config.data.std = (0.2470, 0.2435, 0.2616)
    config.latent_classes.num_classes = 10
    return config
