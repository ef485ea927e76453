"""Modules between the representation and the loss."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from sas_jax.models.resnet import batch_norm, torch_init


class ProjectionHead(nn.Module):
    """Linear-BatchNorm-ReLU-Linear-BatchNorm as in the authors' code: the last norm has no scale or offset.

    Either norm can be omitted, for the projection heads and predictors of other methods; a linear layer has a bias if
    no norm follows it.

    Attributes:
        hidden: width of the hidden layer; 0 means the width of the input.
        features: size of the output.
        hidden_norm: whether BatchNorm follows the hidden layer.
        output_norm: whether BatchNorm follows the output layer.
        dtype: dtype of the computation.
    """

    hidden: int = 0
    features: int = 128
    hidden_norm: bool = True
    output_norm: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """float [n, d] -> float32 [n, features]."""
        hidden = self.hidden or x.shape[-1]
        x = self._linear(hidden, use_bias=not self.hidden_norm)(x.astype(self.dtype))
        if self.hidden_norm:
            x = batch_norm(train=train, dtype=self.dtype)(x)
        x = self._linear(self.features, use_bias=not self.output_norm)(nn.relu(x))
        if self.output_norm:
            x = batch_norm(train=train, dtype=self.dtype, use_scale=False, use_bias=False)(x)
        return x.astype(jnp.float32)

    def _linear(self, features: int, *, use_bias: bool) -> nn.Dense:
        return nn.Dense(features, use_bias=use_bias, kernel_init=torch_init, dtype=self.dtype)


class LinearClassifier(nn.Module):
    """A linear layer with bias; its weights are initialised as in torch.nn.Linear, its bias to zero.

    Attributes:
        num_classes: the number of classes c.
        dtype: dtype of the computation.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float [n, d] -> float32 [n, c], the logits."""
        logits = nn.Dense(self.num_classes, kernel_init=torch_init, dtype=self.dtype)(x.astype(self.dtype))
        return logits.astype(jnp.float32)
