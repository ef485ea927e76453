r"""Compares partitions with random subsets: all of CIFAR-100 and a quarter-width ResNet-10, for a CPU.

    python -m benchmarks.pretrained --output=cifar100-efficientnet.npy
    python -m sas_jax.main --config=configs/compare_cifar100_quarter.py:cifar100-efficientnet.npy

The first command embeds the images with a network trained on ImageNet. Any other .npy of floats [50000, d] in the data
set's order works as well. All partitions share one proxy, trained for 20 epochs. The most informative arms come first,
and each is saved when it finishes, so the run may be stopped and resumed at any time. --stop_after=rank ends it after
the rankings, for `python -m benchmarks.partitions`. On two CPU cores the proxy takes about an hour, and an arm at 20 %
about fifteen minutes.
"""

from ml_collections import ConfigDict

from configs import cifar100


def get_config(pretrained="cifar100-efficientnet.npy"):
    config = cifar100.get_config()
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.depth = 10
        encoder.width = 0.25
    config.proxy.train.batch_size = 256
    config.proxy.train.epochs = 20
    config.train.batch_size = 128
    config.train.epochs = 30
    for train, warmup in ((config.proxy.train, 1.0), (config.train, 3.0)):
        train.schedule = "cosine"
        train.warmup_epochs = warmup
    config.embedding.views = 8
    config.partitions = ConfigDict(
        {
            "labels": {"method": "labels"},
            "few10": {"method": "few_labels", "labelled_fraction": 0.1},
            "few1": {"method": "few_labels", "labelled_fraction": 0.01},
            # k-means of the pretrained embeddings; only the last of these also measures similarity by them.
            **{f"pretrained{k}": {"embeddings": pretrained, "num_classes": k} for k in (20, 100, 200, 500)},
            "pretrained": {"embeddings": pretrained, "num_classes": 100, "similarity_embeddings": pretrained},
            # k-means of the proxy's embeddings; arms without a partition use 100 classes.
            **{f"proxy{k}": {"num_classes": k} for k in (20, 200, 500)},
            "one": {"num_classes": 1},
        }
    )
    best = "pretrained100"
    arms = [(selector, 0.2, seed) for seed in range(5) for selector in ("random", f"sas@{best}")]
    arms += [(selector, 0.2, seed) for seed in range(3) for selector in ("sas", "sas@labels", "sas@few10", "sas@few1")]
    arms += [(f"random_balanced@{name}", 0.2, seed) for seed in range(3) for name in (best, "labels")]
    others = ("similarity_sum", "facility_location", "semdedup", "prototypes_easy")
    arms += [(f"{selector}@{best}", 0.2, seed) for seed in range(3) for selector in others]
    arms += [("sas@pretrained", 0.2, seed) for seed in range(3)]
    arms += [("facility_location@one", 0.2, seed) for seed in range(3)]
    arms += [(selector, 0.4, seed) for seed in range(3) for selector in ("random", f"sas@{best}", "sas@labels")]
    arms += [("full", 1.0, seed) for seed in range(3)]
    arms += [
        (selector, 0.8, seed) for seed in range(2) for selector in ("random", f"sas@{best}", f"similarity_sum@{best}")
    ]
    arms += [(selector, 0.2, seed, "simclr", "steps") for seed in range(2) for selector in ("random", f"sas@{best}")]
    # The other partitions, for their rankings.
    arms += [(f"sas@{name}", 0.2, 0) for name in ("pretrained20", "pretrained200", "pretrained500")]
    arms += [(f"sas@{name}", 0.2, 0) for name in ("proxy20", "proxy200", "proxy500", "one")]
    config.arms = tuple(arms)
    config.evaluation.geometry = False
    config.evaluation.supervised_fractions = (0.2,)
    return config
