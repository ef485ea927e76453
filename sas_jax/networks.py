"""From the config to the augmentation, the networks and what trains them, for whoever trains or uses them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sas_jax import devices
from sas_jax.models import LinearClassifier, ProjectionHead, ResNet
from sas_jax.training import SimCLR, Supervised, Trainer, optimizer
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
        encoder=_encoder(encoder, remat=remat, dtype=dtype),
        head=ProjectionHead(hidden=encoder.head_hidden, features=encoder.head_features, dtype=dtype),
        temperature=temperature,
    )


def make_trainer(config: ConfigDict, encoder: ConfigDict, train: ConfigDict, *, mesh: Mesh) -> Trainer:
    """The training of a config's section of the encoder under one of training."""
    method = make_method(encoder, temperature=train.temperature, compute_dtype=config.compute_dtype, remat=train.remat)
    return _trainer(config, train, method, mesh=mesh)


def make_supervised_trainer(config: ConfigDict, labels: np.ndarray, *, num_classes: int, mesh: Mesh) -> Trainer:
    """The training of config.encoder with a linear classifier under config.train; labels int32 [n]."""
    dtype = jnp.dtype(devices.compute_dtype(config.compute_dtype))
    encoder = _encoder(config.encoder, remat=config.train.remat, dtype=dtype)
    method = Supervised(encoder=encoder, classifier=LinearClassifier(num_classes=num_classes, dtype=dtype))
    return _trainer(config, config.train, method, mesh=mesh, labels=labels)


def _encoder(section: ConfigDict, *, remat: bool, dtype: Any) -> ResNet:
    return ResNet(depth=section.depth, width=section.width, stem=section.stem, remat=remat, dtype=dtype)


def _trainer(
    config: ConfigDict,
    train: ConfigDict,
    method: SimCLR | Supervised,
    *,
    mesh: Mesh,
    labels: np.ndarray | None = None,
) -> Trainer:
    return Trainer(
        method,
        optimizer.build(train),
        views=make_views(config),
        batch_size=train.batch_size,
        mesh=mesh,
        labels=labels,
        rate=optimizer.schedule(train),
        warmup_epochs=train.warmup_epochs,
        skip_nonfinite=train.skip_nonfinite,
    )


def project(method: SimCLR | Supervised, variables: Any, images: jax.Array) -> jax.Array:
    """Through head or classifier, float [n, h, w, 3] -> float32 [n, features]; BatchNorm with running statistics."""
    out = method.apply(variables, images, train=False)
    assert isinstance(out, jax.Array)
    return out


def encode(method: SimCLR | Supervised, variables: Any, images: jax.Array) -> jax.Array:
    """The representation, float [n, h, w, 3] -> float32 [n, d]; BatchNorm with its running statistics."""
    out = method.apply(variables, images, method="encode")
    assert isinstance(out, jax.Array)
    return out
