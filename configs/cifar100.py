"""CIFAR-100 with the training settings of the authors' code: a ResNet-10 proxy, a ResNet-18, 400 epochs of SimCLR.

    python -m sas_jax.main --config=configs/cifar100.py

Reproduces the setting of Joshi & Mirzasoleiman 2023 (arXiv 2302.09195), section 5, with latent classes by k-means.
This size needs an accelerator. docs/cifar100.md has settings for a CPU, with the time and results to expect.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "cifar100"
    config.data.mean = (0.5071, 0.4865, 0.4409)
    config.data.std = (0.2673, 0.2564, 0.2762)
    config.latent_classes.num_classes = 100
    return config
