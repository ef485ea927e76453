"""Several exact greedy picks per pass over all candidates, which makes greedy fast.

The objectives are submodular, so picks never raise a gain. Start from the exact gains of all candidates, and take the
few candidates with the largest: the window. While the best of the window, its gain kept exact, is ahead of the initial
gain of every candidate outside, it is the best of all, and can be picked without looking outside. Only then are the
gains of all candidates updated for all these picks, in large blocks. On embeddings of CIFAR-100, a window of 32 gave 15
picks on average (n = 6,000, 20 % budget): 15 times fewer passes over all candidates and exchanges between devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sas_jax import collectives
from sas_jax.selection import fixed_point
from sas_jax.selection.fixed_point import Total
from sas_jax.selection.similarity import Examples, Similarity


class Window(NamedTuple):
    """The candidates with the largest gains, including the best of all."""

    examples: Examples  # [m]
    gains: Total  # [m], exact
    candidate: jax.Array  # bool [m]: False for padding, if there are few candidates
    bar: jax.Array  # float32: no candidate outside has a larger gain, rounded; -inf if none is outside
    bar_index: jax.Array  # int32: the lowest index outside with a gain of `bar`


class Chosen(NamedTuple):
    """The picks from a window."""

    number: jax.Array  # int32
    slots: jax.Array  # int32 [m]: indices into the window in the order of picking; the first `number` count
    gains: jax.Array  # float32 [m], of each pick when it was picked


def best(gains: Total, available: jax.Array, size: int, similarity: Similarity) -> Window:
    """Returns the window of `size` candidates, from the local gains and candidates."""
    axis = similarity.axis
    n = similarity.size
    key = jnp.where(available, fixed_point.to_float(gains), -jnp.inf)
    local = top_k(key, min(size + 1, n))
    listed = collectives.gathered((key[local], local + collectives.place(axis) * n, gains.at(local)), axis)
    if axis is not None:
        among = top_k(listed[0], min(size + 1, listed[0].shape[0]))
        listed = jax.tree.map(lambda x: x[among], listed)
    keys, index, listed_gains = listed
    if len(keys) > size:
        bar, bar_index = keys[size], index[size]
        keys, index, listed_gains = jax.tree.map(lambda x: x[:size], listed)
    else:
        bar, bar_index = jnp.float32(-jnp.inf), jnp.int32(0)

    # If even the best gain equals `bar` in float32, exact only below 1, the best may be outside: put it in.
    hidden = (keys[0] == bar) & (jnp.abs(bar) >= 1)

    def with_best():
        places = jnp.arange(n, dtype=jnp.int32) + collectives.place(axis) * n
        local = fixed_point.largest(gains, places, available)[0][None]
        others = collectives.gathered((gains.at(local), places[local], available[local]), axis)
        best = fixed_point.largest(*others)[0]
        first, gain = others[1][best], others[0].at(best)
        put = jnp.argmax(index == first)  # 0 if it is outside
        return index.at[put].set(first), jax.tree.map(lambda parts, part: parts.at[put].set(part), listed_gains, gain)

    index, listed_gains = jax.lax.cond(hidden, with_best, lambda: (index, listed_gains))
    return Window(similarity.examples(index), listed_gains, keys > -jnp.inf, bar, bar_index)


def top_k(key: jax.Array, k: int) -> jax.Array:
    """Returns the indices of the k largest, int32 [k], the largest first, ties in ascending order.

    The barrier is needed because XLA:CPU turns a top_k whose output is sliced into a full sort, 50 times slower.
    """
    return jax.lax.optimization_barrier(jax.lax.top_k(key, k)[1].astype(jnp.int32))


def choose(window: Window, limit: jax.Array, lower: Callable[[Total, jax.Array], Total]) -> Chosen:
    """Picks from the window while it is certain to hold the best candidate: at least one, at most `limit`.

    Args:
        window: with one candidate or more.
        limit: int32, 1 or more.
        lower: maps the window's gains and the slot of a pick to the gains after it.
    """

    def pick(carry):
        chosen, gains, left, slot, _ = carry
        chosen = _with_pick(chosen, slot, gains.at(slot))
        gains, left = lower(gains, slot), left & (_slots(window) != slot)
        slot, there = _first(window, gains, left)
        return chosen, gains, left, slot, there & _ahead(window, gains, slot)

    # At the start, the best of the window is the best of all.
    slot, there = _first(window, window.gains, window.candidate)
    carry = _nothing(window), window.gains, window.candidate, slot, there
    return jax.lax.while_loop(lambda carry: carry[-1] & (carry[0].number < limit), pick, carry)[0]


def choose_lazily(
    window: Window,
    limit: jax.Array,
    gain: Callable[[Any, jax.Array], Total],
    pick: Callable[[Any, jax.Array], Any],
    memory: Any,
) -> tuple[Chosen, Any]:
    """Picks as `choose` does, for expensive gains: a gain computed before the last pick is an upper bound.

    Only the gain of the candidate with the largest bound is recomputed; it is picked if it is still the best.

    Args:
        window: with one candidate or more.
        limit: int32, 1 or more.
        gain: maps a memory and a slot to the exact gain of that candidate.
        pick: maps a memory and a slot to the memory after picking that candidate.
        memory: the initial memory.

    Returns:
        The picks and the new memory.

    Source: Minoux, Accelerated greedy algorithms for maximizing submodular set functions (1978).
    """

    def look(carry):
        chosen, bounds, left, memory, slot, _ = carry
        exact = gain(memory, slot)
        bounds = jax.tree.map(lambda parts, part: jnp.where(_slots(window) == slot, part, parts), bounds, exact)
        others = left & (_slots(window) != slot)
        second, there = _first(window, bounds, others)
        bound, index = bounds.at(second), window.examples.index
        better = (exact.high > bound.high) | ((exact.high == bound.high) & (exact.low > bound.low))
        same = (exact.high == bound.high) & (exact.low == bound.low)
        is_best = ~there | better | (same & (index[slot] < index[second]))
        # At the start, the gains of the window are exact, and its best is the best of all.
        picked = is_best & (_ahead(window, bounds, slot) | (chosen.number == 0))
        chosen = jax.tree.map(lambda old, new: jnp.where(picked, new, old), chosen, _with_pick(chosen, slot, exact))
        memory = jax.lax.cond(picked, lambda: pick(memory, slot), lambda: memory)
        left = jnp.where(picked, others, left)
        # If a recomputed gain differs from the one at the start (a matrix that is not quite symmetric, products with
        # other last bits), the best may fall behind the bar; the best of the window is then still picked.
        go_on = _ahead(window, bounds, second) | (chosen.number == 0)
        return chosen, bounds, left, memory, second, (picked | ~is_best) & there & go_on

    slot, there = _first(window, window.gains, window.candidate)
    carry = _nothing(window), window.gains, window.candidate, memory, slot, there
    chosen, _, _, memory, *_ = jax.lax.while_loop(lambda carry: carry[-1] & (carry[0].number < limit), look, carry)
    return chosen, memory


def _slots(window: Window) -> jax.Array:
    return jnp.arange(window.candidate.shape[0], dtype=jnp.int32)


def _nothing(window: Window) -> Chosen:
    size = window.candidate.shape[0]
    return Chosen(jnp.int32(0), jnp.zeros(size, jnp.int32), jnp.full(size, jnp.nan, jnp.float32))


def _with_pick(chosen: Chosen, slot: jax.Array, gain: Total) -> Chosen:
    here = jnp.arange(chosen.slots.shape[0]) == chosen.number
    return Chosen(
        chosen.number + 1,
        jnp.where(here, slot, chosen.slots),
        jnp.where(here, fixed_point.to_float(gain), chosen.gains),
    )


def _first(window: Window, bounds: Total, left: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the slot of the largest bound of those left, ties to the lowest index, and whether there is one."""
    return fixed_point.largest(bounds, window.examples.index, left)


def _ahead(window: Window, bounds: Total, slot: jax.Array) -> jax.Array:
    """Returns whether no candidate outside is better. Below 1, float32 gains are exact and show ties."""
    key = fixed_point.to_float(bounds.at(slot))
    tied = (key == window.bar) & (jnp.abs(key) < 1) & (window.examples.index[slot] < window.bar_index)
    return (key > window.bar) | tied
