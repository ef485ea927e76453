"""Double greedy for the unconstrained cut: the set of any size with the largest sum over i outside, j inside of s_ij.

This is the objective of `sas` without a budget. Each example in turn is added or discarded for good, by comparing the
gain of adding it to the chosen set with the gain of removing it from the set of all examples not yet discarded.

    double_greedy(similarity).value    # at least half of the largest cut
    turning_point(similarity).value    # the largest cut of a subset of the `sas` ranking
    turning_point(similarity).size     # the size of that subset: later gains of the ranking are negative

Source: Buchbinder, Feldman, Naor & Schwartz, A tight linear time (1/2)-approximation for unconstrained submodular
maximization (FOCS 2012), algorithms 1 and 2.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from sas_jax import settings
from sas_jax.selection import fixed_point, greedy
from sas_jax.selection.fixed_point import Total


class Cut(NamedTuple):
    """A set of examples. Its value is the sum of its gains; value and size use NumPy and do not work inside jit."""

    chosen: jax.Array  # bool [n]
    gains: jax.Array  # float32 [n], of each example when it was chosen; nan if not chosen

    @property
    def value(self) -> np.ndarray | np.float64:
        """The cut, float64: the sum over i not chosen, j chosen of s_ij."""
        return np.sum(np.where(self.chosen, self.gains, 0), axis=-1, dtype=np.float64)

    @property
    def size(self) -> np.ndarray | np.int64:
        """The number of chosen examples."""
        return np.sum(self.chosen, axis=-1)


@settings.fixed
@jax.jit
def double_greedy(
    similarity: ArrayLike | None = None, *, embeddings: ArrayLike | None = None, key: jax.Array | None = None
) -> Cut:
    """Chooses a set whose cut is at least half of the largest.

    The deterministic form reaches at least half of the largest cut, and of the sum over all pairs. (The guarantee for
    general submodular objectives is a third; here similarity is symmetric, and each example is put on the side that
    cuts at least half of its similarity to the examples before it.) With a key, an example is chosen with probability
    a / (a + b), where a and b are the gains of adding and of discarding it, or 0 if negative; the expected cut is at
    least half of both. Examples are processed in index order.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns, its diagonal is ignored. Or
            give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j); no [n, n] array is made.
        key: a typed PRNG key for the randomised form; None for the deterministic one.

    Returns:
        The Cut. Under vmap its fields have one more axis, and its value and size are arrays.

    Raises:
        InputError: a shape or dtype is wrong.
    """
    problem = greedy.problem(similarity, objective="sas", embeddings=embeddings)
    n, source = problem.size, problem.similarity
    draws = None if key is None else jax.random.uniform(key, (n,))

    def decide(index, row, totals, cut):
        joining, leaving = (totals.at((side, index)) for side in (0, 1))
        if draws is None:
            joins = fixed_point.minus(joining, leaving).high >= 0
        else:
            a, b = (jnp.maximum(fixed_point.to_float(total), 0) for total in (joining, leaving))
            joins = (draws[index] * (a + b) < a) | (a + b == 0)
        # A joining example lowers the others' joining gains by twice the similarity, a leaving one their leaving gains.
        side = jnp.where(joins, 0, 1)
        lowered = fixed_point.add(totals.at(side), -2 * row)
        totals = jax.tree.map(lambda both, one: both.at[side].set(one), totals, lowered)
        gain = jnp.where(joins, fixed_point.to_float(joining) * source.one, jnp.nan)
        return totals, Cut(cut.chosen.at[index].set(joins), cut.gains.at[index].set(gain))

    def decide_block(block, carry):
        first = block * source.block
        rows = source.covered(source.examples(jnp.minimum(first + jnp.arange(source.block), n - 1)))
        return jax.lax.fori_loop(
            0, jnp.minimum(source.block, n - first), lambda k, carry: decide(first + k, rows[k], *carry), carry
        )

    # The gains of joining the empty set and of leaving the full set are both the similarity to all other examples.
    first = greedy.start(problem, budget=1).gains
    totals = Total(*(jnp.stack([part, part]) for part in first))
    nothing = Cut(jnp.zeros(n, bool), jnp.full(n, jnp.nan, jnp.float32))
    return jax.lax.fori_loop(0, -(-n // source.block), decide_block, (totals, nothing))[1]


@settings.fixed
@jax.jit
def turning_point(similarity: ArrayLike | None = None, *, embeddings: ArrayLike | None = None) -> Cut:
    """Returns the picks of `greedy.sas` before its gains turn negative: the largest cut of a subset of its ranking.

    Its size is the turning point: the position of the first negative gain in the ranking, or n if there is none. The
    cut has no guarantee of its own; compare its value with that of `double_greedy`.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns, its diagonal is ignored. Or
            give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j); no [n, n] array is made.

    Returns:
        The Cut.

    Raises:
        InputError: a shape or dtype is wrong.
    """
    n = greedy.problem(similarity, objective="sas", embeddings=embeddings).size
    picks, gains = greedy.sas(similarity, embeddings=embeddings, budget=n)
    chosen = gains >= 0
    at = jnp.zeros(n, jnp.int32).at[picks].set(jnp.arange(n, dtype=jnp.int32))
    return Cut(chosen[at], jnp.where(chosen, gains, jnp.nan)[at])
