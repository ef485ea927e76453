"""The three objectives, as what greedy needs of them: the first gains, and how a pick changes them.

For a class V, a subset S and similarities s:

- ``facility_location``: sum over i in V of max over j in S of s_ij. Monotone submodular. How well S represents V.
- ``sas``: sum over i in V outside S and j in S of s_ij. A cut: submodular, and not monotone.
- ``similarity_sum``: sum over i in V and j in S of s_ij. Modular.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax.selection import fixed_point
from sas_jax.selection.fixed_point import Total
from sas_jax.selection.similarity import Similarity


class Objective(NamedTuple):
    """`start(similarity)` gives the first gains and a memory, `pick(similarity, gains, memory, index)` the next."""

    start: Callable[[Similarity], tuple[Total, Any]]
    pick: Callable[[Similarity, Total, Any, jax.Array], tuple[Total, Any]]


def _start_facility_location(similarity: Similarity):
    return similarity.row_sums(), jnp.zeros(similarity.size, jnp.int32)


def _pick_facility_location(similarity: Similarity, gains: Total, coverage: jax.Array, index: jax.Array):
    """Brings the gains up to date from the rows alone whose coverage the pick raises.

    Example i adds max(0, s_ij - c_i) to the gain of j, where c_i is its coverage, the max over S of s_i. When the pick
    raises c_i by r_i, that falls by clip(s_ij - c_i, 0, r_i); where r_i is 0, by nothing. A whole ranking changes some
    5 n rows, almost whatever the budget: a naive greedy looks at n a pick.
    """
    row = similarity.rows(jnp.full(similarity.block, index))[0]  # a whole block: a row by itself has other last bits
    rise = jnp.maximum(row - coverage, 0)
    n = similarity.size
    places = jnp.arange(n, dtype=jnp.int32)

    def changed_after(last):
        """The next `block` changed rows in ascending order, n where there are no more."""
        found = []
        for _ in range(similarity.block):
            last = jnp.min(jnp.where((rise > 0) & (places > last), places, n))
            found.append(last)
        return jnp.stack(found)

    def lower(carry):
        gains, changed = carry
        # Beyond the last changed row stands row n - 1 with a rise of 0.
        at = jnp.minimum(changed, n - 1)
        rows, covered, raised = similarity.rows(at), coverage[at], jnp.where(changed < n, rise[at], 0)
        fall = jnp.sum(jnp.clip(rows - covered[:, None], 0, raised[:, None]), axis=0)
        return fixed_point.add(gains, -fall), changed_after(changed[-1])

    gains, _ = jax.lax.while_loop(lambda carry: carry[1][0] < n, lower, (gains, changed_after(-1)))
    return gains, coverage + rise


def _start_sas(similarity: Similarity):
    return fixed_point.add(similarity.row_sums(), -similarity.diagonal()), ()


def _pick_sas(similarity: Similarity, gains: Total, memory: tuple, index: jax.Array):
    """gain(e | S) = sum over i != e of s_ie - 2 sum over j in S of s_je."""
    return fixed_point.add(gains, -2 * similarity.rows(index[None])[0]), memory


def _start_similarity_sum(similarity: Similarity):
    return similarity.row_sums(), ()


def _pick_similarity_sum(similarity: Similarity, gains: Total, memory: tuple, index: jax.Array):
    return gains, memory


OBJECTIVES = {
    "facility_location": Objective(_start_facility_location, _pick_facility_location),
    "sas": Objective(_start_sas, _pick_sas),
    "similarity_sum": Objective(_start_similarity_sum, _pick_similarity_sum),
}
"""By name."""
