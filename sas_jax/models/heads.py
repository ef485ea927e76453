"""What stands between the representation and a loss."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.models.resnet import batch_norm, torch_init


class ProjectionHead(nn.Module):
    """Linear-BatchNorm-ReLU-Linear-BatchNorm as in the authors' code: no biases, the last norm has no scale or offset.

    Attributes:
        hidden: width of the hidden layer; 0 means as wide as the representation.
        features: size of the output.
        dtype: of the computation.
    """

    hidden: int = 0
    features: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """float [n, d] -> float32 [n, features]."""
        hidden = self.hidden or x.shape[-1]
        x = nn.Dense(hidden, use_bias=False, kernel_init=torch_init, dtype=self.dtype)(x.astype(self.dtype))
        x = nn.relu(batch_norm(train=train, dtype=self.dtype)(x))
        x = nn.Dense(self.features, use_bias=False, kernel_init=torch_init, dtype=self.dtype)(x)
        x = batch_norm(train=train, dtype=self.dtype, use_scale=False, use_bias=False)(x)
        return x.astype(jnp.float32)


class LinearClassifier(nn.Module):
    """One linear layer with a bias, torch.nn.Linear's initial weights and zeros.

    Attributes:
        num_classes: c.
        dtype: of the computation.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float [n, d] -> float32 [n, c], the logits."""
        logits = nn.Dense(self.num_classes, kernel_init=torch_init, dtype=self.dtype)(x.astype(self.dtype))
        return logits.astype(jnp.float32)
