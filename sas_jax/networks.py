"""Builds the augmentation, the networks and their trainers from a config."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sas_jax import devices, weights
from sas_jax.models import LinearClassifier, ProjectionHead, ResNet, convolution
from sas_jax.training import DEFAULT, METHODS, Supervised, Trainer, optimizer
from sas_jax.training.methods import Method
from sas_jax.views import Views


def make_views(config: ConfigDict) -> Views:
    """Returns the augmentation of a run's config."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, tuple | list) else value for name, value in config.views.items()
    }
    data = config.data
    return Views(size=data.image_size, mean=tuple(data.mean), std=tuple(data.std), **fields)


def make_method(name: str, encoder: ConfigDict, train: ConfigDict, *, compute_dtype: str) -> Method:
    """Builds the method `name` from a config's encoder section and a training section (from `plan.training`)."""
    dtype = jnp.dtype(devices.compute_dtype(compute_dtype))
    backbone = _encoder(encoder, remat=train.remat, dtype=dtype)
    return METHODS[name].build(backbone, functools.partial(ProjectionHead, dtype=dtype), encoder, train)


def make_trainer(
    config: ConfigDict, encoder: ConfigDict, train: ConfigDict, *, mesh: Mesh, method: str = DEFAULT
) -> Trainer:
    """Builds the trainer of a config's encoder section and a training section (for a method, from `plan.training`)."""
    made = make_method(method, encoder, train, compute_dtype=config.compute_dtype)
    field = "config.proxy.encoder.init" if encoder is config.proxy.encoder else "config.encoder.init"
    return _trainer(config, train, made, mesh=mesh, start=_start(made, encoder, field))


def make_supervised_trainer(config: ConfigDict, labels: np.ndarray, *, num_classes: int, mesh: Mesh) -> Trainer:
    """Builds the trainer of config.encoder with a linear classifier and config.train; labels are int32 [n]."""
    dtype = jnp.dtype(devices.compute_dtype(config.compute_dtype))
    encoder = _encoder(config.encoder, remat=config.train.remat, dtype=dtype)
    method = Supervised(encoder=encoder, classifier=LinearClassifier(num_classes=num_classes, dtype=dtype))
    start = _start(method, config.encoder, "config.encoder.init")
    return _trainer(config, config.train, method, mesh=mesh, labels=labels, start=start)


def _start(method: Method, section: ConfigDict, field: str) -> Callable[[], Any]:
    """Returns a function that reads the encoder's initial variables, or returns None if they are random."""
    encoder = method.encoder
    assert isinstance(encoder, ResNet)
    return lambda: weights.initial(section.init, encoder, field=field) if section.init else None


def _encoder(section: ConfigDict, *, remat: bool, dtype: Any) -> ResNet:
    return ResNet(
        depth=section.depth,
        width=section.width,
        stem=section.stem,
        remat=remat,
        dtype=dtype,
        convolution=convolution.fastest(dtype),
    )


def _trainer(
    config: ConfigDict,
    train: ConfigDict,
    method: Method,
    *,
    mesh: Mesh,
    labels: np.ndarray | None = None,
    start: Callable[[], Any],
) -> Trainer:
    return Trainer(
        method,
        optimizer.build(train),
        views=make_views(config),
        batch_size=train.batch_size,
        mesh=mesh,
        labels=labels,
        start=start,
        rate=optimizer.schedule(train),
        warmup=min(train.warmup_epochs / train.epochs, 1.0),
        skip_nonfinite=train.skip_nonfinite,
    )


def project(method: Method, variables: Any, images: jax.Array) -> jax.Array:
    """Computes the outputs, float [n, h, w, 3] -> float32 [n, features], with BatchNorm's running statistics."""
    out = method.apply(variables, images, train=False)
    assert isinstance(out, jax.Array)
    return out


def apply_encoder(encoder: ResNet, variables: Any, images: jax.Array) -> jax.Array:
    """Computes the representation with an encoder alone, float [n, h, w, 3] -> float32 [n, d]."""
    out = encoder.apply(variables, images, train=False)
    assert isinstance(out, jax.Array)
    return out


def of_encoder(variables: Any) -> Any:
    """Returns the encoder's part of a method's variables, which is all that `encode` needs."""
    return {collection: {"encoder": found["encoder"]} for collection, found in variables.items()}


def encode(method: Method, variables: Any, images: jax.Array) -> jax.Array:
    """Computes the representation, float [n, h, w, 3] -> float32 [n, d], with BatchNorm's running statistics."""
    out = method.apply(variables, images, method="encode")
    assert isinstance(out, jax.Array)
    return out
