"""Similarity of examples, as a matrix and as embeddings, which no objective tells apart; and the pair form.

`Matrix` and `Embeddings` are pytrees with the same operations: `rows(indices)`, `row_sums()`, `diagonal()`, `size` and
`block`. Their values are fixed point (see fixed_point.py). Padding is an example that is similar to nothing: a row and
a column of zeros in a matrix, a row of zeros in embeddings. It adds nothing to any objective.
"""

import dataclasses
import functools
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from sas_jax.errors import InputError
from sas_jax.selection import fixed_point
from sas_jax.selection.checks import choice

KINDS = ("cosine", "clipped_cosine", "gaussian")


class Similarity(Protocol):
    """What the objectives ask of similarities of n examples."""

    @property
    def block(self) -> int:
        """How many rows are best asked for at a time."""

    @property
    def size(self) -> int:
        """n."""

    def rows(self, indices: jax.Array) -> jax.Array:
        """int32 [k, n]: similarity of the examples at `indices` (int32 [k], each in [0, n)) to all."""

    def row_sums(self) -> fixed_point.Total:
        """Total [n]: each example's similarity to all, itself included."""

    def diagonal(self) -> jax.Array:
        """int32 [n]: each example's similarity to itself."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["block"])
@dataclasses.dataclass(frozen=True)
class Matrix:
    """Similarity as a symmetric matrix, fixed point, int32 [n, n]. Its rows are read as its columns."""

    values: jax.Array
    block: int = 8

    @classmethod
    def of(cls, similarity: ArrayLike, *, self_similarity: float | None = None) -> "Matrix":
        """From float [n, n] in [0, 1]; `self_similarity` in [0, 1] replaces the diagonal, None leaves it."""
        values = fixed_point.quantise(jnp.asarray(similarity, jnp.float32))
        if self_similarity is not None:
            values = _with_diagonal(values, jnp.arange(values.shape[0]), self_similarity)
        return cls(values)

    @property
    def size(self) -> int:
        return self.values.shape[0]

    def rows(self, indices: jax.Array) -> jax.Array:
        return self.values[indices]

    def row_sums(self) -> fixed_point.Total:
        return _row_sums(self)

    def diagonal(self) -> jax.Array:
        return jnp.diagonal(self.values)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["self_similarity", "block"])
@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Similarity max(0, z_i . z_j) of embeddings, float32 [n, d] with norms of at most 1, never held as a matrix."""

    values: jax.Array
    self_similarity: float = 1.0
    block: int = 8

    @property
    def size(self) -> int:
        return self.values.shape[0]

    def rows(self, indices: jax.Array) -> jax.Array:
        # Accelerators would multiply in TF32 or bf16 unless told otherwise.
        product = jnp.dot(self.values[indices], self.values.T, precision=jax.lax.Precision.HIGHEST)
        return _with_diagonal(fixed_point.quantise(product), indices, self.self_similarity)

    def row_sums(self) -> fixed_point.Total:
        return _row_sums(self, block=64)

    def diagonal(self) -> jax.Array:
        return jnp.full(self.size, round(self.self_similarity * fixed_point.ONE), jnp.int32)

    def matrix(self) -> Matrix:
        """The same similarities, held."""
        block = min(self.size, 256)
        starts = jnp.arange(0, self.size, block)
        rows = jax.lax.map(lambda start: self.rows((start + jnp.arange(block)) % self.size), starts)
        return Matrix(rows.reshape(-1, self.size)[: self.size])


def _with_diagonal(rows: jax.Array, indices: jax.Array, value: float) -> jax.Array:
    """Rows [k, n] with the entry of each example's similarity to itself replaced."""
    itself = indices[:, None] == jnp.arange(rows.shape[1])
    return jnp.where(itself, round(value * fixed_point.ONE), rows)


def _row_sums(similarity: Similarity, block: int | None = None) -> fixed_point.Total:
    """Sums the rows a block at a time, which for a symmetric similarity are the sums of each row."""
    n = similarity.size
    block = min(block or similarity.block, n)

    def add_block(b, total):
        indices = b * block + jnp.arange(block)
        rows = similarity.rows(jnp.minimum(indices, n - 1))
        return fixed_point.add(total, jnp.sum(jnp.where((indices < n)[:, None], rows, 0), axis=0))

    return jax.lax.fori_loop(0, -(-n // block), add_block, fixed_point.zeros(n))


def embed_views(views: ArrayLike) -> jax.Array:
    """The embeddings [n, d] of views [n, m, d] of norm 1: their means, whose inner products are the mean cosines."""
    return jnp.mean(jnp.asarray(views), axis=1)


def pairwise(views: ArrayLike, *, kind: str = "cosine", tau: float = 0.5, mesh: Mesh | None = None) -> jax.Array:
    """Expected augmentation similarity from all pairs of views of all pairs of examples.

    This is the form for the kinds that do not factorise, and what the embeddings' form of `cosine` is checked against.
    Blocks of rows are spread over the devices by pmap; inside, vmap goes over pairs of examples, then pairs of views.

    Args:
      views: float [n, m, d], m views of each of n examples, each of norm 1.
      kind: "cosine" is max(0, mean of the cosine), "clipped_cosine" the mean of max(0, cosine), "gaussian" the mean of
        exp(-|a - b|^2 / tau); the means are over the m x m pairs of views.
      tau: the width of "gaussian", > 0, in units of squared distance (which is in [0, 4]).
      mesh: whose devices to use; the first device alone where None.

    Returns:
      float32 [n, n] in [0, 1], its diagonal too the mean over pairs of views.

    Raises:
      InputError: an unknown kind, or views of another shape.

    Source: Joshi & Mirzasoleiman, Data-efficient contrastive self-supervised learning (ICML 2023), definition 3.1.
    """
    choice("kind of similarity", kind, KINDS)
    if np.ndim(views) != 3:
        raise InputError(f"Views have the shape [n, m, d], m views of each example, and these have {np.shape(views)}.")
    views = jnp.asarray(views, jnp.float32)
    n, m, _ = views.shape
    devices = list(mesh.devices.flat) if mesh is not None else jax.devices()[:1]
    # A step of the map within a device makes [chunk, n, m, m] products: about 64 MB.
    chunk = max(1, min(-(-n // len(devices)), 2**24 // (n * m * m)))
    chunks = -(-n // (len(devices) * chunk))
    padded = jnp.resize(views, (len(devices) * chunks * chunk, *views.shape[1:]))
    blocks = padded.reshape(len(devices), chunks, chunk, *views.shape[1:])
    rows = _over_devices(kind, tau, tuple(devices))(blocks, views)
    return jax.device_put(rows, devices[0]).reshape(-1, n)[:n]


@functools.lru_cache(maxsize=8)  # pmap knows a program again by the identity of the function
def _over_devices(kind: str, tau: float, devices: tuple[jax.Device, ...]):
    return jax.pmap(functools.partial(_pair_block, kind=kind, tau=tau), in_axes=(0, None), devices=devices)


def _pair_block(chunks: jax.Array, views: jax.Array, *, kind: str, tau: float) -> jax.Array:
    """Similarity [chunks, chunk, n] of one device's examples [chunks, chunk, m, d] to all examples [n, m, d]."""

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
