r"""Compares a published list of CIFAR-100's images with random ones: quarter-width ResNet-10, 30 epochs, for a CPU.

    python -c "import numpy, sas_jax; ranking = sas_jax.Ranking.load(
        'docs/rankings/cifar100-sas-pretrained100.parquet'); numpy.save('list.npy', ranking.subset(fraction=0.2))"
    python -m sas_jax.main --config=configs/compare_cifar100_list.py:list.npy

The list may come from anywhere and must have 10,000 images (20 %), like the random arms. Training is as in
configs/compare_cifar100_quarter.py. A run always ranks all images as well; --config.proxy.embeddings=E.npy, with any
embeddings, avoids training the proxy. The arms come in pairs with the same seed, so the run may be stopped after any
pair and resumed. `python -m benchmarks.results collect --onto` joins pairs trained on several machines.
"""

from configs import compare_cifar100_quarter


def get_config(images="list.npy"):
    config = compare_cifar100_quarter.get_config()
    config.partitions = {}
    config.selection.file = images
    config.selection.file_order = "positions"  # as returned by Ranking.subset
    config.arms = tuple((*arm, seed) for seed in range(5) for arm in (("random", 0.2), ("file", 1.0)))
    config.evaluation.supervised_fractions = ()
    return config
