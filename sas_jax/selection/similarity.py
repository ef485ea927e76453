"""Similarities of examples, from a matrix or from embeddings, with one interface for the objectives.

`Matrix` and `Embeddings` are pytrees with the same operations on fixed point numbers (see fixed_point.py). With several
devices, the columns of the matrix or the rows of the embeddings are sharded over the mesh axis `axis`, and operations
run inside `jax.shard_map`; the "local" examples are those of a device. Padding is an example of similarity 0 to all.

Examples of V may have weights: w_i s_ij then replaces s_ij, wherever example i is represented.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from sas_jax import collectives
from sas_jax.selection import fixed_point


class Examples(NamedTuple):
    """Some examples, with the values that every device needs of them."""

    index: jax.Array  # type: ignore[assignment]  # int32 [k], global; hides tuple.index
    weight: jax.Array | None  # float32 [k]
    vector: Any  # float32 [k, d] for embeddings, None for a matrix


class Similarity(Protocol):
    """The interface of the similarities of n examples."""

    axis: str | None
    block: int
    """The number of examples that `summed` takes at a time."""

    @property
    def group(self) -> int:
        """The number of blocks to sum in int32 before adding them to a Total."""

    @property
    def size(self) -> int:
        """The number of local examples."""

    @property
    def number(self) -> int:
        """The number of all examples, with or without padding."""

    def examples(self, index: jax.Array) -> Examples:
        """Returns the examples at the global `index`, int32 [k]."""

    def own(self, local: jax.Array) -> Examples:
        """Returns the local examples at `local`, int32 [k]; an index beyond the last gives an arbitrary one."""

    def covered(self, examples: Examples) -> jax.Array:
        """Returns how well each of the examples represents each local one: int32 [k, size]."""

    def summed(self, examples: Examples, function: Callable, *parameters: jax.Array) -> jax.Array:
        """Sums function(how well each local one represents i, *parameters_i) over `block` examples i: int32 [size].

        `function` is elementwise, on int32 [size] and scalars, and returns similarities.
        """

    def pairs(self, examples: Examples) -> jax.Array:
        """Returns the examples' similarity to each other, without weights: int32 [k, k]."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "weights", "one"],
    meta_fields=["self_similarity", "axis", "block", "unroll"],
)
@dataclasses.dataclass(frozen=True)
class Matrix:
    """A symmetric matrix of similarities in [0, 1], float32 [n, n local]. Its rows are read as its columns."""

    values: jax.Array
    weights: jax.Array | None = None  # float32 [n local], in [0, 1]
    self_similarity: float | None = None  # in [0, 1], replaces the diagonal; None keeps it
    axis: str | None = None
    block: int = 16
    unroll: bool = True
    """Whether to slice rows one by one, which XLA:CPU fuses into one loop: up to twice as fast as its gather."""
    one: jax.Array | float = 1.0  # a power of two that no similarity exceeds: see fixed_point.py

    @property
    def group(self) -> int:
        # XLA:CPU fuses the sum over unrolled rows into both parts of a Total, and would compute it twice.
        return fixed_point.LARGEST_SUM // self.block if self.unroll else 1

    @property
    def size(self) -> int:
        return self.values.shape[1]

    @property
    def number(self) -> int:
        return self.values.shape[0]

    def examples(self, index: jax.Array) -> Examples:
        weight = None if self.weights is None else collectives.taken(self.weights, index, self.axis)
        return Examples(index, weight, None)

    def own(self, local: jax.Array) -> Examples:
        return Examples(local + _first(self), _own_weight(self, local), None)

    def covered(self, examples: Examples) -> jax.Array:
        rows = _with_diagonal(self.values[examples.index], examples.index[:, None], self)
        return fixed_point.quantise(rows if self.weights is None else rows * self.weights, self.one)

    def summed(self, examples: Examples, function: Callable, *parameters: jax.Array) -> jax.Array:
        if not self.unroll:
            rows = _with_diagonal(self.values[examples.index], examples.index[:, None], self)
            return _sum_of_rows(rows, examples, function, parameters, self.one)
        each = []
        for k in range(examples.index.shape[0]):
            row = jax.lax.dynamic_index_in_dim(self.values, examples.index[k], keepdims=False)
            row = _with_diagonal(row, examples.index[k], self)
            row = fixed_point.quantise(row if examples.weight is None else row * examples.weight[k], self.one)
            each.append(function(row, *(parameter[k] for parameter in parameters)))
        return functools.reduce(jnp.add, each)

    def pairs(self, examples: Examples) -> jax.Array:
        index = examples.index
        local = index - _first(self)
        here = (local >= 0) & (local < self.size)
        values = self.values[index[:, None], jnp.clip(local, 0, self.size - 1)]
        return collectives.total(fixed_point.quantise(jnp.where(here, values, 0), self.one), self.axis)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "weights", "one"],
    meta_fields=["self_similarity", "axis", "block", "tile"],
)
@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Similarity max(0, z_i . z_j) of embeddings, float32 [n local, d], norms of at most 1; no matrix is stored.

    With a `tile`, which must divide the local n, every product has the shapes [block, d] and [tile, d]. The bits of a
    similarity then depend neither on the number of examples or devices, nor on the product that it comes from.
    """

    values: jax.Array
    weights: jax.Array | None = None
    self_similarity: float = 1.0
    axis: str | None = None
    block: int = 64
    tile: int | None = None
    one: jax.Array | float = 1.0

    @property
    def group(self) -> int:
        return 1

    @property
    def size(self) -> int:
        return self.values.shape[0]

    @property
    def number(self) -> int:
        return self.size * collectives.number(self.axis)

    def examples(self, index: jax.Array) -> Examples:
        weight = None if self.weights is None else collectives.taken(self.weights, index, self.axis)
        return Examples(index, weight, collectives.taken(self.values, index, self.axis))

    def own(self, local: jax.Array) -> Examples:
        return Examples(local + _first(self), _own_weight(self, local), self.values[local])

    def covered(self, examples: Examples) -> jax.Array:
        def of_tile(values, columns, weights):
            rows = _with_diagonal(products(examples.vector, values), examples.index[:, None], self, columns)
            return fixed_point.quantise(rows if weights is None else rows * weights, self.one)

        return jnp.moveaxis(self._by_tile(of_tile), 0, 1).reshape(-1, self.size)

    def summed(self, examples: Examples, function: Callable, *parameters: jax.Array) -> jax.Array:
        def of_tile(values, columns, _):
            rows = _with_diagonal(products(examples.vector, values), examples.index[:, None], self, columns)
            return _sum_of_rows(rows, examples, function, parameters, self.one)

        return self._by_tile(of_tile).reshape(-1)

    def pairs(self, examples: Examples) -> jax.Array:
        vectors = examples.vector
        k = vectors.shape[0]
        others = vectors if self.tile is None else jnp.pad(vectors, ((0, -k % self.tile), (0, 0)))
        return fixed_point.quantise(products(vectors, others)[:, :k], self.one)

    def _by_tile(self, function: Callable):
        """Maps function(values, columns, weights) over the tiles, sequentially: [tiles, ...]."""
        columns = _columns(self)
        if self.tile is None:
            return function(self.values, columns, self.weights)[None]
        tiles = jax.tree.map(lambda x: x.reshape(-1, self.tile, *x.shape[1:]), (self.values, columns, self.weights))
        return jax.lax.map(lambda tile: function(*tile), tiles)


def products(one: jax.Array, other: jax.Array) -> jax.Array:
    """Returns float32 inner products [k, m] of vectors [k, d] and [m, d], where the default may be TF32 or bf16."""
    return jnp.dot(one, other.T, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=("self_similarity", "rows"))
def one_of_matrix(
    values: jax.Array, weights: jax.Array | None, self_similarity: float | None, *, rows: int
) -> jax.Array:
    """Computes `Matrix.one` from the largest similarity that counts: the smallest power of two not below it, or 1.

    The first rows often show that it is 1, and then no others are read.

    Args:
        values, weights, self_similarity: those of the Matrix, before sharding.
        rows: the number of rows read at a time; XLA:CPU's loops are fast over single rows.
    """
    n, columns = values.shape[0], jnp.arange(values.shape[1])
    rows = min(rows, n)

    def read(step, largest):
        first = jnp.minimum(step * rows, n - rows)
        found = jax.lax.dynamic_slice_in_dim(values, first, rows)
        if self_similarity is not None:
            found = jnp.where(first + jnp.arange(rows)[:, None] == columns, self_similarity, found)
        return jnp.maximum(largest, jnp.max(found if weights is None else found * weights, axis=0))

    few, all_of_them = -(-min(n, 64) // rows), -(-n // rows)
    largest = jax.lax.fori_loop(0, few, read, jnp.zeros(len(columns), values.dtype))
    largest = jax.lax.cond(
        jnp.max(largest) > 0.5, lambda: largest, lambda: jax.lax.fori_loop(few, all_of_them, read, largest)
    )
    return fixed_point.one_of(jnp.max(largest))


@functools.partial(jax.jit, static_argnames="self_similarity")
def one_of_embeddings(values: jax.Array, self_similarity: float) -> jax.Array:
    """Computes `Embeddings.one` from the largest squared norm, which bounds every similarity: 1 for unit rows."""
    return fixed_point.one_of(jnp.maximum(jnp.max(jnp.sum(values * values, axis=1)), self_similarity))


def _sum_of_rows(
    rows: jax.Array, examples: Examples, function: Callable, parameters: tuple, one: jax.Array | float
) -> jax.Array:
    """Sums the function of each row over rows [k, m]: int32 [m]."""
    rows = fixed_point.quantise(rows if examples.weight is None else rows * examples.weight[:, None], one)
    return jnp.sum(function(rows, *(parameter[:, None] for parameter in parameters)), axis=0, dtype=jnp.int32)


def _first(similarity: Matrix | Embeddings) -> jax.Array | int:
    """Returns the global index of the first local example."""
    return collectives.place(similarity.axis) * similarity.size


def _columns(similarity: Matrix | Embeddings) -> jax.Array:
    """Returns the global indices of the local examples."""
    return _first(similarity) + jnp.arange(similarity.size, dtype=jnp.int32)


def _own_weight(similarity: Matrix | Embeddings, local: jax.Array) -> jax.Array | None:
    return None if similarity.weights is None else similarity.weights[local]


def _with_diagonal(
    rows: jax.Array, index: jax.Array, similarity: Matrix | Embeddings, columns: jax.Array | None = None
) -> jax.Array:
    """Replaces each example's similarity to itself in rows [k, m], or one row [m]."""
    if similarity.self_similarity is None:
        return rows
    columns = _columns(similarity) if columns is None else columns
    return jnp.where(index == columns, similarity.self_similarity, rows)
