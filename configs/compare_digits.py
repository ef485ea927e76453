"""The comparison on digits: every selector and fraction with five seeds; other methods and equal steps at 20 %.

python -m sas_jax.main --config=configs/compare_digits.py

It may be stopped and resumed at any time; finished arms are not trained again.
"""

from configs import digits

SEEDS = range(5)
SELECTORS = (
    "sas",
    "facility_location",
    "facility_location_self0",
    "similarity_sum",
    "random",
    "random_balanced",
    "prototypes_easy",
    "prototypes_hard",
    "k_center",
)


def get_config():
    config = digits.get_config()
    # Twice as many epochs as configs/digits.py.
    config.proxy.train.epochs = 20
    config.train.epochs = 40
    config.arms = tuple(
        [("full", 1.0, seed) for seed in SEEDS]
        + [(selector, fraction, seed) for fraction in (0.2, 0.4, 0.6, 0.8) for selector in SELECTORS for seed in SEEDS]
        + [(selector, 0.2, seed, "simclr", "steps") for selector in ("sas", "random") for seed in SEEDS]
        + [
            (selector, fraction, seed, method)
            for method in ("byol", "simsiam", "moco")
            for selector, fraction in (("sas", 0.2), ("random", 0.2), ("full", 1.0))
            for seed in SEEDS[:3]
        ]
    )
    config.evaluation.supervised_fractions = (0.2, 1.0)
    config.evaluation.probe_fractions = (0.05,)
    config.evaluation.geometry = False
    return config
