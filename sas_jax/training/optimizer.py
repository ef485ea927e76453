"""The optimizer of a training section of the config."""

import optax
from ml_collections import ConfigDict


def build(train: ConfigDict) -> optax.GradientTransformation:
    """Adam with weight decay as torch.optim.Adam does it: L2 added to the gradient before the moments.

    Args:
        train: `learning_rate` > 0 and `weight_decay` >= 0; the decay acts on all parameters, BatchNorm's too.

    Source: Kingma & Ba 2015 (arXiv 1412.6980); the placement of the decay is torch.optim.Adam's.
    """
    return optax.chain(
        optax.add_decayed_weights(train.weight_decay),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8),
        optax.scale_by_learning_rate(train.learning_rate),
    )
