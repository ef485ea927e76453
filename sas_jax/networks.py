"""From the config to the augmentation, the networks and what trains them, for whoever trains or uses them."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.models import ProjectionHead, ResNet
from sas_jax.training import SimCLR, Trainer, optimizer
from sas_jax.views import Views


def make_views(config: ConfigDict) -> Views:
    """The augmentation of a run's config."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, tuple | list) else value for name, value in config.views.items()
    }
    data = config.data
    return Views(size=data.image_size, mean=tuple(data.mean), std=tuple(data.std), **fields)


def make_method(encoder: ConfigDict, *, temperature: float, compute_dtype: str, remat: bool = False) -> SimCLR:
    """Encoder and head of a config's section."""
    dtype = jnp.dtype(devices.compute_dtype(compute_dtype))
    return SimCLR(
        encoder=ResNet(depth=encoder.depth, width=encoder.width, stem=encoder.stem, remat=remat, dtype=dtype),
        head=ProjectionHead(hidden=encoder.head_hidden, features=encoder.head_features, dtype=dtype),
        temperature=temperature,
    )


def make_trainer(config: ConfigDict, encoder: ConfigDict, train: ConfigDict, *, mesh: Mesh) -> Trainer:
    """The training of a config's section of the encoder under one of training."""
    method = make_method(encoder, temperature=train.temperature, compute_dtype=config.compute_dtype, remat=train.remat)
    return Trainer(
        method,
        optimizer.build(train),
        views=make_views(config),
        batch_size=train.batch_size,
        mesh=mesh,
        rate=optimizer.schedule(train),
        warmup_epochs=train.warmup_epochs,
        skip_nonfinite=train.skip_nonfinite,
    )


def project(method: SimCLR, variables: Any, images: jax.Array) -> jax.Array:
    """Through the head, float [n, h, w, 3] -> float32 [n, features]; BatchNorm with its running statistics."""
    out = method.apply(variables, images, train=False)
    assert isinstance(out, jax.Array)
    return out


def encode(method: SimCLR, variables: Any, images: jax.Array) -> jax.Array:
    """The representation, float [n, h, w, 3] -> float32 [n, d]; BatchNorm with its running statistics."""
    out = method.apply(variables, images, method="encode")
    assert isinstance(out, jax.Array)
    return out
