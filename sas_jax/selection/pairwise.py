"""Expected augmentation similarity from pairs of views, for any kind of similarity."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from sas_jax import settings
from sas_jax.errors import InputError
from sas_jax.selection.checks import choice

KINDS = ("cosine", "clipped_cosine", "gaussian")
_CHUNK = 16


@settings.fixed
def embed_views(views: ArrayLike) -> jax.Array:
    """Averages views [n, m, d] of norm 1 into embeddings [n, d], whose inner products are the mean cosines."""
    return jnp.mean(jnp.asarray(views), axis=1)


@settings.fixed
def pairwise(views: ArrayLike, *, kind: str = "cosine", tau: float = 0.5, mesh: Mesh | None = None) -> jax.Array:
    """Computes expected augmentation similarity from all pairs of views of all pairs of examples.

    It is for the kinds that do not factorise, and the reference for `cosine` computed from embeddings. pmap
    distributes blocks of rows over the devices; on each, vmap maps over pairs of examples, then pairs of views.

    Args:
        views: float [n, m, d], m views of each of n examples, each of norm 1.
        kind: "cosine" is max(0, mean of the cosine), "clipped_cosine" the mean of max(0, cosine), "gaussian" the mean
            of exp(-|a - b|^2 / tau); the means are over the m x m pairs of views.
        tau: the width of "gaussian", > 0, in units of squared distance (which is in [0, 4]).
        mesh: the devices to use; only the first device if None.

    Returns:
        float32 [n, n] in [0, 1]; the diagonal, too, is the mean over pairs of views.

    Raises:
        InputError: the kind is unknown, or the views have another shape.

    Source: Joshi & Mirzasoleiman, Data-efficient contrastive self-supervised learning (ICML 2023), definition 3.1.
    """
    choice("kind of similarity", kind, KINDS)
    if np.ndim(views) != 3:
        raise InputError(f"`views` must be [n, m, d], m views of each example, got {np.shape(views)}. Reshape them.")
    views = jnp.asarray(views, jnp.float32)
    n, m, _ = views.shape
    devices = list(mesh.devices.flat) if mesh is not None else jax.local_devices()[:1]
    # A step of the map on a device computes [chunk, n, m, m] products, at most 64 MB. The chunk does not depend on the
    # number of devices, because on a CPU the bits of a product depend on its shape.
    chunk = max(1, min(_CHUNK, 2**24 // (n * m * m)))
    chunks = -(-n // (len(devices) * chunk))
    padded = jnp.resize(views, (len(devices) * chunks * chunk, *views.shape[1:]))
    blocks = padded.reshape(len(devices), chunks, chunk, *views.shape[1:])
    rows = _over_devices(kind, tau, tuple(devices))(blocks, views)
    return jax.device_put(rows, devices[0]).reshape(-1, n)[:n]


@functools.lru_cache(maxsize=8)  # pmap caches compiled programs by the identity of the function
def _over_devices(kind: str, tau: float, devices: tuple[jax.Device, ...]):
    return jax.pmap(functools.partial(_pair_block, kind=kind, tau=tau), in_axes=(0, None), devices=devices)


def _pair_block(chunks: jax.Array, views: jax.Array, *, kind: str, tau: float) -> jax.Array:
    """Returns similarity [chunks, chunk, n] of a device's examples [chunks, chunk, m, d] to all examples [n, m, d]."""

    def of_views(a, b):
        cosine = jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
        if kind == "gaussian":
            square = jnp.sum(a * a) + jnp.sum(b * b) - 2 * cosine
            return jnp.exp(-jnp.maximum(square, 0) / tau)
        return jnp.maximum(cosine, 0) if kind == "clipped_cosine" else cosine

    def of_examples(a, b):
        each = jax.vmap(jax.vmap(of_views, (None, 0)), (0, None))(a, b)
        return jnp.clip(jnp.mean(each), 0, 1)

    of_rows = jax.vmap(jax.vmap(of_examples, (None, 0)), (0, None))
    return jax.lax.map(lambda chunk: of_rows(chunk, views), chunks)
