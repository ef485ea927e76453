"""A pretrained network, and random views of images as its input."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sas_jax import settings
from sas_jax.errors import InputError
from sas_jax.images import Images
from sas_jax.pretrained.batches import in_batches
from sas_jax.views import Views, view


@dataclasses.dataclass(frozen=True)
class Model:
    """A pretrained network.

    Attributes:
        name: such as "timm/resnet18".
        size: the side in pixels of the images that its preprocessing expects.
        device: the device on which it computes.
        prepare: maps uint8 [b, h, w, 3] to the input of `forward`; called on several threads.
        forward: maps b prepared images to numbers [b, d] on the host.
    """

    name: str
    size: int
    device: str
    prepare: Callable[[np.ndarray], Any]
    forward: Callable[[Any], np.ndarray]

    def images(
        self, images: Images, *, batch_size: int, random: "RandomViews | None" = None, first: int = 0
    ) -> Iterator[np.ndarray]:
        """Yields the features of images, with a progress bar.

        Args:
            images: uint8 [n, h, w, 3], in memory or decoded on access.
            batch_size: images, or views of them, per batch, at least 1.
            random: the views to average over; None for each image unchanged.
            first: the index of the first image.

        Yields:
            float32 [b, d] for the next b images: the network's output, or the mean of its unit-normalised outputs over
            the views.

        Raises:
            InputError: the network does not return one finite vector per image.
        """
        count = 1 if random is None else random.count
        size = max(1, batch_size // count)

        def prepare(indices: np.ndarray) -> Any:
            if random is None:
                return self.prepare(images[indices])
            padded = np.resize(indices, size)  # the last batch is filled up, so that all share one program
            return self.prepare(random.draw(images[padded], padded)[: count * len(indices)])

        def forward(prepared: Any) -> np.ndarray:
            vectors = self._vectors(prepared)
            if random is None:
                return vectors
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return vectors.reshape(-1, count, vectors.shape[1]).mean(axis=1)

        return in_batches(len(images), prepare, forward, batch_size=size, label="features", first=first)

    def _vectors(self, prepared: Any) -> np.ndarray:
        output = np.asarray(self.forward(prepared))
        if output.ndim < 2 or output.shape[2:] != (1,) * (output.ndim - 2):
            raise InputError(
                f"The output of {self.name} must be one vector per image, got {list(output.shape)}. Choose another "
                f"model, or export it with pooling."
            )
        vectors = output.reshape(output.shape[:2]).astype(np.float32)
        if not np.isfinite(vectors).all():
            raise InputError(f"The output of {self.name} must be finite, got NaN or infinity. Choose another model.")
        return vectors


@dataclasses.dataclass(frozen=True)
class RandomViews:
    """Random views of images at the images' own size, as in `sas_jax.views` but without normalisation.

    Attributes:
        views: the augmentation.
        count: number of views per image, at least 1.
        seed: a view is a function of the seed, the image's index and the view's number.
    """

    views: Views
    count: int
    seed: int

    @settings.fixed
    def draw(self, images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Draws views uint8 [b * count, s, s, 3], image by image, of images uint8 [b, s, s, 3] with indices int [b]."""
        seen = dataclasses.replace(self.views, size=images.shape[1], mean=(0, 0, 0), std=(1, 1, 1))
        try:
            device = jax.local_devices(backend="cpu")[0]  # the GPU is left to the network
        except RuntimeError:  # JAX_PLATFORMS excludes the CPU
            device = None
        with jax.default_device(device):
            drawn = _draw(settings.key(self.seed), images, indices.astype(np.int32), views=seen, count=self.count)
        return np.asarray(drawn).reshape(-1, *images.shape[1:])


@functools.partial(jax.jit, static_argnames=("views", "count"))
def _draw(key: jax.Array, images: jax.Array, indices: jax.Array, *, views: Views, count: int) -> jax.Array:
    def one_view(index: jax.Array, image: jax.Array, number: jax.Array) -> jax.Array:
        return view(jax.random.fold_in(jax.random.fold_in(key, index), number), image, views)

    of_image = jax.vmap(one_view, (None, None, 0))
    seen = jax.vmap(of_image, (0, 0, None))(indices, images, jnp.arange(count))
    return jnp.round(seen * 255).astype(jnp.uint8)
