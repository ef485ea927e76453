"""The three objectives, as what greedy needs of them: the first gains, and how picks change them.

For a class V, a subset S, similarities s and weights w of the examples of V (1 where none are given):

- ``facility_location``: sum over i in V of w_i max over j in S of s_ij. Monotone submodular. How well S represents V.
- ``sas``: sum over i in V outside S and j in S of s_ij. A cut: submodular, and not monotone.
- ``similarity_sum``: sum over i in V and j in S of w_i s_ij. Modular.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax import collectives
from sas_jax.selection import fixed_point, windows
from sas_jax.selection.fixed_point import Total
from sas_jax.selection.similarity import Similarity
from sas_jax.selection.windows import Chosen, Window


class Sizes(NamedTuple):
    """How much is done at a time; of no effect on the result."""

    window: int
    changed: int
    """How many changed examples are listed at a time."""
    top_k: bool
    """List by top_k: XLA:CPU has a fast one, and a slow cumulative sum."""


class Objective(NamedTuple):
    """What greedy asks of an objective; all arrays are of the examples here."""

    start: Callable[[Similarity, jax.Array], tuple[Total, Any]]
    """Of a similarity and the indices already chosen, int32 [k]: the gains and a memory."""
    choose: Callable[[Similarity, Any, Window, jax.Array, Sizes], tuple[Chosen, Any]]
    """Picks from a window, up to a limit; and the memory after."""
    update: Callable[[Similarity, Total, Any, Any, Window, Chosen, Sizes], Total]
    """The gains after, from those before, the memory before and after, and what was chosen."""
    remembers: bool = False
    """The memory is one value for each example; else it is ()."""
    cut: bool = False
    """A sum over pairs of a chosen and another example: it has no weights, the diagonal plays no part, and gains turn
    negative."""


def _in_blocks(similarity: Similarity, index: jax.Array, function: Callable, value: Any) -> Any:
    """value = function(value, examples, real) over blocks of examples; `real`, bool [block], marks no -1 or padding."""
    k, block = index.shape[0], similarity.block
    if not k:
        return value
    index = jnp.pad(index, (0, -k % block), constant_values=-1)

    def step(b, value):
        places = jax.lax.dynamic_slice_in_dim(index, b * block, block)
        return function(value, similarity.examples(jnp.maximum(places, 0)), places >= 0)

    return jax.lax.fori_loop(0, len(index) // block, step, value)


def _sum_over(similarity: Similarity, index: jax.Array) -> Total:
    """Of each example here, the sum over i at `index` of how well it represents i."""

    def add(total, examples, real):
        return fixed_point.add(total, similarity.summed(examples, lambda row, real: jnp.where(real, row, 0), real))

    return _in_blocks(similarity, index, add, fixed_point.zeros(similarity.size))


# Facility location. Example i adds max(0, s_ij - c_i) to the gain of j, where the coverage c_i, the memory, is the
# max over S of s_i. When picks raise c_i by r_i, that falls by clip(s_ij - c_i, 0, r_i); where r_i is 0, by nothing. A
# whole ranking changes some 6 n rows, almost whatever the budget: a naive greedy looks at n a pick.


def _start_facility_location(similarity: Similarity, initial: jax.Array):
    def cover(coverage, examples, real):
        return jnp.maximum(coverage, jnp.max(jnp.where(real[:, None], similarity.covered(examples), 0), axis=0))

    coverage = _in_blocks(similarity, initial, cover, jnp.zeros(similarity.size, jnp.int32))
    everywhere = collectives.gathered(coverage, similarity.axis)

    def add(total, examples, real):
        covered = jnp.where(real, everywhere[examples.index], fixed_point.ONE)
        return fixed_point.add(
            total, similarity.summed(examples, lambda row, covered: jnp.maximum(row - covered, 0), covered)
        )

    return _in_blocks(similarity, jnp.arange(similarity.number), add, fixed_point.zeros(similarity.size)), coverage


def _choose_facility_location(similarity: Similarity, coverage: jax.Array, window: Window, limit, sizes: Sizes):
    represented = similarity.covered(window.examples)  # [m, n]

    def gain(coverage, slot):
        mine = fixed_point.summed(jnp.maximum(represented[slot] - coverage, 0))
        return fixed_point.over_devices(mine, similarity.axis)

    def pick(coverage, slot):
        return jnp.maximum(coverage, represented[slot])

    return windows.choose_lazily(window, limit, gain, pick, coverage)


def _update_facility_location(similarity: Similarity, gains, coverage, after, window, chosen, sizes: Sizes):
    """Brings the gains up to date from the rows alone whose coverage rose."""
    block, axis = similarity.block, similarity.axis
    size, devices = similarity.size, collectives.number(axis)
    # What is listed is summed up in groups of some blocks, whose sums still fit an int32.
    group = max(1, min(fixed_point.LARGEST_SUM, sizes.changed) // block)
    listed = -(-sizes.changed // (group * block)) * group * block
    listed = min(-(-listed // devices), size)  # by each device: together they list what one alone would
    length = -(-listed * devices // (group * block)) * group * block
    places = jnp.arange(size, dtype=jnp.int32)

    def left(last):
        """What changed after the place `last`, and of that how much on each device."""
        changed = (after > coverage) & (places > last)
        return changed, collectives.gathered(jnp.sum(changed, dtype=jnp.int32)[None], axis)

    def lower(carry):
        gains, last, changed, numbers = carry
        local = _first_true(changed, listed, sizes)
        last = jnp.max(jnp.where(local < size, local, last))
        at = jnp.minimum(local, size - 1)
        covered = coverage[at]
        rise = jnp.where(local < size, after[at] - covered, 0)
        numbers = jnp.minimum(numbers, listed)
        number = jnp.sum(numbers)
        examples, covered, rise = collectives.joined((similarity.own(at), covered, rise), numbers, length, axis)

        def add(b, pending):
            part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, b * block, block), (examples, covered, rise))
            return pending + similarity.summed(
                part[0], lambda row, covered, rise: jnp.clip(row - covered, 0, rise), *part[1:]
            )

        def lower_by_group(g, gains):
            last_block = jnp.minimum((g + 1) * group, -(-number // block))
            return fixed_point.add(gains, -jax.lax.fori_loop(g * group, last_block, add, jnp.zeros(size, jnp.int32)))

        return jax.lax.fori_loop(0, -(-number // (group * block)), lower_by_group, gains), last, *left(last)

    gains, *_ = jax.lax.while_loop(
        lambda carry: jnp.sum(carry[-1]) > 0, lower, (gains, jnp.int32(-1), *left(jnp.int32(-1)))
    )
    return gains


def _first_true(mask: jax.Array, number: int, sizes: Sizes) -> jax.Array:
    """The first `number` places where `mask`, bool [n], is true, in ascending order; n where there are no more."""
    n = mask.shape[0]
    if not sizes.top_k:
        return jnp.nonzero(mask, size=number, fill_value=n)[0].astype(jnp.int32)
    key = jnp.where(mask, -jnp.arange(n, dtype=jnp.float32), -jnp.inf)
    places = windows.top_k(key, number)
    return jnp.where(jnp.arange(number) < jnp.sum(mask), places, n)


# The cut. gain(e | S) = sum over i != e of s_ie - 2 sum over j in S of s_je: a pick lowers the gain of e by 2 s_je.


def _start_sas(similarity: Similarity, initial: jax.Array):
    total = _sum_over(similarity, jnp.arange(similarity.number))
    chosen = _sum_over(similarity, initial)
    return fixed_point.minus(fixed_point.minus(total, chosen), chosen), ()


def _choose_sas(similarity: Similarity, memory: tuple, window: Window, limit, sizes: Sizes):
    pairs = similarity.pairs(window.examples)
    return windows.choose(window, limit, lambda gains, slot: fixed_point.add(gains, -2 * pairs[slot])), memory


def _update_sas(similarity: Similarity, gains, before, after, window, chosen, sizes: Sizes):
    index = window.examples.index[chosen.slots]

    def lower(b, gains):
        places = b * similarity.block + jnp.arange(similarity.block)
        examples = similarity.examples(index[jnp.minimum(places, index.shape[0] - 1)])
        fallen = similarity.summed(examples, lambda row, real: jnp.where(real, row, 0), places < chosen.number)
        return fixed_point.add(fixed_point.add(gains, -fallen), -fallen)

    return jax.lax.fori_loop(0, -(-chosen.number // similarity.block), lower, gains)


def _start_similarity_sum(similarity: Similarity, initial: jax.Array):
    return _sum_over(similarity, jnp.arange(similarity.number)), ()


def _choose_similarity_sum(similarity: Similarity, memory: tuple, window: Window, limit, sizes: Sizes):
    return windows.choose(window, limit, lambda gains, slot: gains), memory


def _update_similarity_sum(similarity: Similarity, gains, before, after, window, chosen, sizes: Sizes):
    return gains


OBJECTIVES = {
    "sas": Objective(_start_sas, _choose_sas, _update_sas, cut=True),
    "facility_location": Objective(
        _start_facility_location, _choose_facility_location, _update_facility_location, remembers=True
    ),
    "similarity_sum": Objective(_start_similarity_sum, _choose_similarity_sum, _update_similarity_sum),
}
"""By name."""
