"""Double greedy for the unconstrained cut: the set of any size with the largest sum over i outside, j inside of s_ij.

It is the objective of `sas` without a budget. Each example in turn joins the set or stays out for good, by what joining
adds to what was chosen, and what leaving adds to all that is not yet left out.

    double_greedy(similarity).value    # beside
    turning_point(similarity).value    # the best that a subset of the `sas` ranking reaches
    turning_point(similarity).size     # with so many examples: beyond them, the ranking's gains are negative

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
    """A set of examples. Its value is the sum of its gains; both are NumPy's, and so not for use inside jit."""

    chosen: jax.Array  # bool [n]
    gains: jax.Array  # float32 [n], of each chosen example when it was chosen; nan of the others

    @property
    def value(self) -> np.ndarray | np.float64:
        """float64: the sum over i not chosen, j chosen of s_ij."""
        return np.sum(np.where(self.chosen, self.gains, 0), axis=-1, dtype=np.float64)

    @property
    def size(self) -> np.ndarray | np.int64:
        """How many examples are chosen."""
        return np.sum(self.chosen, axis=-1)


@settings.fixed
@jax.jit
def double_greedy(
    similarity: ArrayLike | None = None, *, embeddings: ArrayLike | None = None, key: jax.Array | None = None
) -> Cut:
    """Chooses a set whose cut is at least half of the largest.

    Deterministic: at least half of the largest cut, and of the sum over all pairs. (For any submodular objective it
    would be a third; here similarity is symmetric, and each example goes to where it is cut from at least half of its
    similarity to those decided before.) With a key: an example is chosen with probability a / (a + b), where a and b
    are what joining and leaving add, if anything; at least half of both in expectation. Examples are decided in the
    order of their indices.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns, its diagonal plays no part. Or
            give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j), and no n x n is made.
        key: a typed PRNG key for the randomised form; None for the deterministic one.

    Returns:
        The Cut. Under vmap its fields have one more axis, and its value and size are arrays.

    Raises:
        InputError: a shape or dtype that does not fit.
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
        # Who joins lowers by twice the similarity what joining adds for the others; who leaves, what leaving adds.
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

    # Joining the empty set and leaving the set of all both add an example's similarity to all others.
    first = greedy.start(problem, budget=1).gains
    totals = Total(*(jnp.stack([part, part]) for part in first))
    nothing = Cut(jnp.zeros(n, bool), jnp.full(n, jnp.nan, jnp.float32))
    return jax.lax.fori_loop(0, -(-n // source.block), decide_block, (totals, nothing))[1]


@settings.fixed
@jax.jit
def turning_point(similarity: ArrayLike | None = None, *, embeddings: ArrayLike | None = None) -> Cut:
    """The examples that `greedy.sas` picks before its gains turn negative: the largest cut of a subset of its ranking.

    Its size is the turning point: the place in the ranking of the first negative gain, n where there is none. The cut
    has no guarantee of its own; compare its value with `double_greedy`'s.

    Args:
        similarity: float [n, n], symmetric, in [0, 1]; its rows are read as its columns, its diagonal plays no part. Or
            give embeddings.
        embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j), and no n x n is made.

    Returns:
        The Cut.

    Raises:
        InputError: a shape or dtype that does not fit.
    """
    n = greedy.problem(similarity, objective="sas", embeddings=embeddings).size
    picks, gains = greedy.sas(similarity, embeddings=embeddings, budget=n)
    chosen = gains >= 0
    at = jnp.zeros(n, jnp.int32).at[picks].set(jnp.arange(n, dtype=jnp.int32))
    return Cut(chosen[at], jnp.where(chosen, gains, jnp.nan)[at])
