"""The three objectives: their initial gains, and how picks change the gains.

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
    """Block sizes; they do not affect the result."""

    window: int
    changed: int
    """The number of changed examples listed at a time."""
    top_k: bool
    """Whether to list with top_k: on XLA:CPU it is fast, and cumulative sums are slow."""


class Objective(NamedTuple):
    """The operations of an objective that greedy uses; arrays over examples are local to the device."""

    start: Callable[[Similarity, jax.Array], tuple[Total, Any]]
    """Maps a similarity and the indices already chosen, int32 [k], to the gains and a memory."""
    choose: Callable[[Similarity, Any, Window, jax.Array, Sizes], tuple[Chosen, Any]]
    """Picks from a window, up to a limit; returns the picks and the new memory."""
    update: Callable[[Similarity, Total, Any, Any, Window, Chosen, Sizes], Total]
    """Returns the new gains from the old gains, the old and the new memory, and the picks."""
    remembers: bool = False
    """Whether the memory is one value per example; otherwise it is ()."""
    cut: bool = False
    """Whether it is a sum over pairs of a chosen and another example. Such an objective has no weights, ignores the
    diagonal, and its gains turn negative."""


def _in_blocks(similarity: Similarity, index: jax.Array, function: Callable, value: Any) -> Any:
    """Folds function(value, examples, real) over blocks; `real`, bool [block], is False for -1 or padding."""
    if not len(index):
        return value
    blocks, block = _blocks(similarity, index)
    return jax.lax.fori_loop(0, blocks, lambda b, value: function(value, *block(b)), value)


def _blocks(similarity: Similarity, index: jax.Array) -> tuple[int, Callable]:
    """Divides the examples at `index`, int32 [k], into blocks; returns their number and a function of a block's number.

    The function returns the block's examples and `real`, bool [block], which is False for -1 or padding.
    """
    length = similarity.block
    index = jnp.pad(index, (0, -len(index) % length), constant_values=-1)

    def block(b):
        places = jax.lax.dynamic_slice_in_dim(index, b * length, length)
        return similarity.examples(jnp.maximum(places, 0)), places >= 0

    return len(index) // length, block


def _add_blocks(similarity: Similarity, total: Total, blocks: jax.Array | int, amount: Callable) -> Total:
    """Adds amount(b), int32 [size], the sum over a block of similarities or its negative, to a total for each block."""
    group = similarity.group
    if group == 1:
        return jax.lax.fori_loop(0, blocks, lambda b, total: fixed_point.add(total, amount(b)), total)

    def add_group(g, total):
        last = jnp.minimum((g + 1) * group, blocks)
        zeros = jnp.zeros(similarity.size, jnp.int32)
        return fixed_point.add(total, jax.lax.fori_loop(g * group, last, lambda b, sums: sums + amount(b), zeros))

    return jax.lax.fori_loop(0, -(-blocks // group), add_group, total)


def _sum_over(similarity: Similarity, index: jax.Array) -> Total:
    """Returns for each local example the sum over i at `index` of how well it represents i."""
    zeros = fixed_point.zeros(similarity.size)
    if not len(index):
        return zeros
    blocks, block = _blocks(similarity, index)

    def amount(b):
        examples, real = block(b)
        return similarity.summed(examples, lambda row, real: jnp.where(real, row, 0), real)

    return _add_blocks(similarity, zeros, blocks, amount)


# Facility location. Example i adds max(0, s_ij - c_i) to the gain of j, where the coverage c_i (the memory) is the
# max over j in S of s_ij. When picks raise c_i by r_i, this falls by clip(s_ij - c_i, 0, r_i), which is 0 if r_i is 0.
# A whole ranking updates about 6 n rows, almost regardless of the budget; naive greedy reads n per pick.


def _start_facility_location(similarity: Similarity, initial: jax.Array):
    def cover(coverage, examples, real):
        return jnp.maximum(coverage, jnp.max(jnp.where(real[:, None], similarity.covered(examples), 0), axis=0))

    coverage = _in_blocks(similarity, initial, cover, jnp.zeros(similarity.size, jnp.int32))
    everywhere = collectives.gathered(coverage, similarity.axis)
    blocks, block = _blocks(similarity, jnp.arange(similarity.number))

    def amount(b):
        examples, real = block(b)
        covered = jnp.where(real, everywhere[examples.index], fixed_point.ONE)
        return similarity.summed(examples, lambda row, covered: jnp.maximum(row - covered, 0), covered)

    return _add_blocks(similarity, fixed_point.zeros(similarity.size), blocks, amount), coverage


def _choose_facility_location(similarity: Similarity, coverage: jax.Array, window: Window, limit, sizes: Sizes):
    represented = similarity.covered(window.examples)  # [m, n]

    def gain(coverage, slot):
        mine = fixed_point.summed(jnp.maximum(represented[slot] - coverage, 0))
        return fixed_point.over_devices(mine, similarity.axis)

    def pick(coverage, slot):
        return jnp.maximum(coverage, represented[slot])

    return windows.choose_lazily(window, limit, gain, pick, coverage)


def _update_facility_location(similarity: Similarity, gains, coverage, after, window, chosen, sizes: Sizes):
    """Updates the gains, reading only the rows whose coverage rose."""
    block, axis = similarity.block, similarity.axis
    size, devices = similarity.size, collectives.number(axis)
    listed = -(-sizes.changed // block) * block
    listed = min(-(-listed // devices), size)  # per device: together they list as many as one device alone
    length = -(-listed * devices // block) * block
    places = jnp.arange(size, dtype=jnp.int32)

    def left(last):
        """Marks the changed examples after the index `last`, and counts them per device."""
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

        def amount(b):
            part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, b * block, block), (examples, covered, rise))
            return -similarity.summed(part[0], lambda row, covered, rise: jnp.clip(row - covered, 0, rise), *part[1:])

        return _add_blocks(similarity, gains, -(-number // block), amount), last, *left(last)

    gains, *_ = jax.lax.while_loop(
        lambda carry: jnp.sum(carry[-1]) > 0, lower, (gains, jnp.int32(-1), *left(jnp.int32(-1)))
    )
    return gains


def _first_true(mask: jax.Array, number: int, sizes: Sizes) -> jax.Array:
    """Returns the first `number` indices where `mask`, bool [n], is true, ascending; n fills the rest."""
    n = mask.shape[0]
    if not sizes.top_k:
        return jnp.nonzero(mask, size=number, fill_value=n)[0].astype(jnp.int32)
    key = jnp.where(mask, -jnp.arange(n, dtype=jnp.float32), -jnp.inf)
    places = windows.top_k(key, number)
    return jnp.where(jnp.arange(number) < jnp.sum(mask), places, n)


# The cut. gain(e | S) = sum over i != e of s_ie - 2 sum over j in S of s_je: picking j lowers the gain of e by 2 s_je.


def _start_sas(similarity: Similarity, initial: jax.Array):
    total = _sum_over(similarity, jnp.arange(similarity.number))
    chosen = _sum_over(similarity, initial)
    return fixed_point.minus(fixed_point.minus(total, chosen), chosen), ()


def _choose_sas(similarity: Similarity, memory: tuple, window: Window, limit, sizes: Sizes):
    pairs = similarity.pairs(window.examples)
    return windows.choose(window, limit, lambda gains, slot: fixed_point.add(gains, -2 * pairs[slot])), memory


def _update_sas(similarity: Similarity, gains, before, after, window, chosen, sizes: Sizes):
    index = window.examples.index[chosen.slots]

    def amount(b):
        places = b * similarity.block + jnp.arange(similarity.block)
        examples = similarity.examples(index[jnp.minimum(places, index.shape[0] - 1)])
        return similarity.summed(examples, lambda row, real: jnp.where(real, row, 0), places < chosen.number)

    fallen = _add_blocks(similarity, fixed_point.zeros(similarity.size), -(-chosen.number // similarity.block), amount)
    return fixed_point.minus(fixed_point.minus(gains, fallen), fallen)


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
"""The objectives by name."""
