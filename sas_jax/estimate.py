"""Estimates how long the remaining training will take, early enough to change the config."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from sas_jax import settings
from sas_jax.models import ResNet
from sas_jax.progress import duration

DAY = 86400.0


class Estimate:
    """Logs once, after the first chunk of training, how long the training that this call still has to do will take."""

    def __init__(self, config: ConfigDict, images: int, log: Callable[[str], None]):
        """`images` is the number of images per epoch, summed over all encoders still to train except the proxy."""
        self._config = config
        self._images = images
        self._log = log
        self._said = False

    def report(self, stage: str, n: int, views_per_second: float) -> None:
        """Logs the estimate, on the first call only.

        Args:
            stage: the measured stage, "proxy" or an arm's.
            n: number of images in the data set.
            views_per_second: the speed of that stage.
        """
        if self._said:
            return
        self._said = True
        config = self._config
        size = config.data.image_size
        arm_cost = forward_flops(config.encoder, size)
        proxy_cost = forward_flops(config.proxy.encoder, size)
        measured = proxy_cost if stage == "proxy" else arm_cost
        arm_views = 2 * config.train.epochs * self._images
        seconds = arm_views * arm_cost / measured / views_per_second
        if stage == "proxy":
            seconds += 2 * config.proxy.train.epochs * n / views_per_second
        self._log(
            f"{stage}: {views_per_second:,.0f} views/s; the training that this call still has to do takes about "
            f"{duration(seconds)}"
        )
        if seconds > DAY:
            self._log(
                "this is over a day; to shorten it, reduce --config.train.epochs and --config.proxy.train.epochs, set "
                "--config.encoder.width=0.25 and --config.encoder.depth=10, list fewer config.arms, or use an "
                "accelerator"
            )


def forward_flops(encoder: ConfigDict, size: int) -> float:
    """Returns the floating-point operations of an encoder's forward pass on one image, counted without compiling."""
    model = ResNet(depth=encoder.depth, width=encoder.width, stem=encoder.stem)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(lambda k, x: model.init(k, x, train=False), settings.key(0), image)
    analysis = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(variables, image).cost_analysis()
    assert analysis is not None
    return float(analysis["flops"])
