r"""Does it hold on CIFAR-100? The paper's comparison: selectors, fractions, seeds, methods, and supervised training.

    python -m sas_jax.main --config=configs/compare_cifar100.py

Against random subsets of the same size: the paper's Algorithm 1, facility location with and without the similarity of
an example to itself, what the authors' code computes, and the baselines. At 20 % also with as many steps as the full
set has, and under BYOL, SimSiam and MoCo; and networks trained with labels on the same subsets.

The arms are in the order in which they tell most, and each is kept when it is done, so a run may be stopped and gone
on with at any time. With latent classes from the labels, the upper bound, and with the proxy and those arms of the
first run that latent classes have no part in:

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
