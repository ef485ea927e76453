r"""The paper's comparison on CIFAR-100: selectors, fractions, seeds, methods, and supervised training.

    python -m sas_jax.main --config=configs/compare_cifar100.py

Compares random subsets with subsets of the same size by the paper's Algorithm 1, by facility location with and without
the similarity of an example to itself, by the objective of the authors' code, and by the baselines. At 20 % it also
compares them with as many steps as on the full set, with BYOL, SimSiam and MoCo, and under supervised training on the
same subsets.

The most informative arms come first. Each arm is saved when it finishes, so a run may be stopped and resumed at any
time. The following commands use latent classes from the labels, the upper bound. They reuse the proxy, and the arms
of the first run that do not depend on latent classes:

    cp -r runs/compare_cifar100 runs/compare_cifar100-labels
    python -m sas_jax.main --config=configs/compare_cifar100.py --config.latent_classes.method=labels --rerun \
        --workdir=runs/compare_cifar100-labels
    python -m sas_jax.report runs/compare_cifar100 runs/compare_cifar100-labels --output=comparison.html
"""

from configs import cifar100

CHOSEN = ("sas", "facility_location", "facility_location_self0", "similarity_sum")
BASELINES = ("random", "random_balanced", "prototypes_easy", "prototypes_hard", "k_center")


def get_config():
    config = cifar100.get_config()
    arms = [(selector, 0.2, 0) for selector in (*CHOSEN, *BASELINES)]
    arms += [(selector, 0.4, 0) for selector in (*CHOSEN, "random")]
    arms += [("full", 1.0, 0)]
    arms += [(selector, 0.2, seed) for seed in (1, 2) for selector in (*CHOSEN, "random")]
    arms += [(selector, fraction, 0) for fraction in (0.6, 0.8) for selector in (*CHOSEN, "random")]
    arms += [(selector, 0.2, 0, "simclr", "steps") for selector in (*CHOSEN, "random")]
    arms += [
        (selector, fraction, 0, method)
        for method in ("byol", "simsiam", "moco")
        for selector, fraction in (("sas", 0.2), ("random", 0.2), ("full", 1.0))
    ]
    config.arms = tuple(arms)
    config.evaluation.supervised_fractions = (0.2, 1.0)
    config.evaluation.geometry = False
    return config
