r"""The comparison on part of CIFAR-100: twenty classes and a quarter-width ResNet-10, for two CPU cores.

    python -m sas_jax.main --config=configs/compare_cifar100_small.py

The classes are the first twenty by name, with 10,000 images. The most informative arms come first. Each arm is saved
when it finishes, so a run may be stopped and resumed at any time. The following commands use latent classes from the
labels, the upper bound. They reuse the proxy, and the arms of the first run that do not depend on latent classes:

    cp -r runs/compare_cifar100_small runs/compare_cifar100_small-labels
    python -m sas_jax.main --config=configs/compare_cifar100_small.py --config.latent_classes.method=labels --rerun \
        --workdir=runs/compare_cifar100_small-labels
    # and likewise --config.latent_classes.method=few_labels --config.latent_classes.labelled_fraction=0.1
    python -m sas_jax.report runs/compare_cifar100_small runs/compare_cifar100_small-labels --output=comparison.html
"""

from configs import cifar100

CLASSES = (
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
)
CHOSEN = ("sas", "facility_location", "facility_location_self0", "similarity_sum")


def get_config():
    config = cifar100.get_config()
    config.data.classes = CLASSES
    config.latent_classes.num_classes = len(CLASSES)
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.depth = 10
        encoder.width = 0.25
    for train in (config.proxy.train, config.train):
        train.batch_size = 128
    config.proxy.train.epochs = 20
    config.train.epochs = 30
    config.embedding.views = 8
    arms = [(selector, 0.2, 0) for selector in (*CHOSEN, "random")]
    arms += [("full", 1.0, 0)]
    arms += [(selector, 0.2, seed) for seed in (1, 2) for selector in (*CHOSEN, "random")]
    arms += [(selector, 0.2, 0) for selector in ("random_balanced", "prototypes_easy", "prototypes_hard", "k_center")]
    arms += [(selector, 0.4, 0) for selector in (*CHOSEN, "random")]
    arms += [(selector, 0.2, 0, "simclr", "steps") for selector in ("sas", "random")]
    arms += [(selector, 0.2, 0, method) for method in ("byol", "simsiam", "moco") for selector in ("sas", "random")]
    config.arms = tuple(arms)
    # Scaled to the network.
    for method in (config.methods.byol, config.methods.simsiam):
        method.head_hidden = method.predictor_hidden = method.head_features = 128
    config.methods.moco.queue_size = 1024
    config.evaluation.supervised_fractions = (0.2,)
    config.evaluation.geometry = False
    return config
