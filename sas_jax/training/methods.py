"""What a method adds to an encoder: the modules beside it and its loss."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from sas_jax.training.losses import nt_xent


class SimCLR(nn.Module):
    """An encoder and a projection head under the NT-Xent loss (Chen et al. 2020, arXiv 2002.05709).

    Attributes:
        encoder: images to representations.
        head: representations to the space of the loss.
        temperature: of the loss.
    """

    encoder: nn.Module
    head: nn.Module
    temperature: float = 0.5

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, features]: through the head."""
        return self.head(self.encoder(images, train=train), train=train)

    def encode(self, images: jax.Array) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, d]: the representation, with BatchNorm's running statistics."""
        return self.encoder(images, train=False)

    def loss(self, images: jax.Array) -> jax.Array:
        """float [n, 2, h, w, 3], two views of each image -> float32 []; both views go through one BatchNorm batch."""
        n = images.shape[0]
        z = self(images.reshape(2 * n, *images.shape[2:]), train=True)
        return nt_xent(z.reshape(n, 2, -1), temperature=self.temperature)


class Supervised(nn.Module):
    """An encoder and a linear classifier under the cross entropy with labels, which both views of an image share.

    Attributes:
        encoder: images to representations.
        classifier: representations to the logits of c classes.
    """

    encoder: nn.Module
    classifier: nn.Module

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, c], the logits."""
        return self.classifier(self.encoder(images, train=train))

    def loss(self, images: jax.Array, labels: jax.Array) -> jax.Array:
        """float [n, 2, h, w, 3], two views of each image, and int32 [n] -> float32 []."""
        n = images.shape[0]
        logits = self(images.reshape(2 * n, *images.shape[2:]), train=True)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.repeat(labels, 2)))
