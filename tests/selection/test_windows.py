"""Several picks at a time against one at a time, where gains differ by less than float32 resolves or not at all."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sas_jax.selection import fixed_point, windows
from sas_jax.selection.fixed_point import Total
from sas_jax.selection.similarity import Examples

N, WINDOW = 24, 5


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Indices:
    """The part of a similarity that the windows use."""

    axis: ClassVar[None] = None
    size: ClassVar[int] = N

    def examples(self, index):
        return Examples(index, None, None)


def total_of(values):
    values = np.asarray(values, np.int64)
    return Total(jnp.asarray(values >> 16, jnp.int32), jnp.asarray(values & 0xFFFF, jnp.int32))


def exact(total):
    return np.asarray(total.high, np.int64) * 2**16 + np.asarray(total.low, np.int64)


@jax.jit
def best(gains, available):
    return windows.best(gains, available, WINDOW, Indices())


@functools.partial(jax.jit, static_argnames="lazily")
def greedy(gains, falls, available, steps, *, lazily):
    """Returns all picks, window by window; picking i lowers the gain of j by falls [i, j], as for the cut."""

    def lowered(gains, picked, rows):
        return fixed_point.minus(gains, fixed_point.summed(jnp.where(picked, rows, 0)))

    def several(carry):
        gains, available, picks, found, done, rounds = carry
        window = windows.best(gains, available, WINDOW, Indices())
        index = window.examples.index

        def gain(picked, slot):
            return lowered(window.gains.at(slot), picked, falls[index, index[slot]])

        def pick(picked, slot):
            return picked.at[slot].set(True)

        if lazily:
            nothing = jnp.zeros(WINDOW, bool)
            chosen, picked = windows.choose_lazily(window, steps - done, gain, pick, nothing)
        else:

            def lower(gains, slot):
                return fixed_point.add(gains, -falls[index, index[slot]])

            chosen = windows.choose(window, steps - done, lower)
            counted = jnp.arange(WINDOW) < chosen.number
            picked = jnp.any(counted[:, None] & (chosen.slots[:, None] == jnp.arange(WINDOW)), axis=0)
        where = jnp.where(jnp.arange(WINDOW) < chosen.number, done + jnp.arange(WINDOW), 2 * N)
        return (
            lowered(gains, picked, falls[index].T),
            available.at[jnp.where(picked, index, N)].set(False, mode="drop"),
            picks.at[where].set(index[chosen.slots], mode="drop"),
            found.at[where].set(chosen.gains, mode="drop"),
            done + chosen.number,
            rounds + 1,
        )

    start = gains, available, jnp.full(N, -1), jnp.full(N, jnp.nan), jnp.int32(0), jnp.int32(0)
    _, _, picks, found, _, rounds = jax.lax.while_loop(lambda carry: carry[-2] < steps, several, start)
    return picks, found, rounds


def slow_greedy(gains, falls, available, steps):
    gains, available, picks, found = gains.copy(), available.copy(), [], []
    for _ in range(steps):
        best = int(np.argmax(np.where(available, gains, np.iinfo(np.int64).min)))
        picks.append(best)
        found.append(gains[best])
        available[best] = False
        gains -= falls[best]
    return picks, found


# Around 0, around where float32 begins to round, far above it, and below 0: with differences of about a unit.
BASES = [0, 2**23 - 2, 2**23, 2**24, 2**30 - 1, 2**40, -(2**23), -(2**30), -(2**40)]
OFFSETS = st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 2**10, 2**15, -1]), min_size=N, max_size=N)
CANDIDATES = st.lists(st.booleans(), min_size=N, max_size=N).filter(any)


@st.composite
def gains(draw):
    base = draw(st.sampled_from([[base] for base in BASES] + [BASES]))
    bases = draw(st.lists(st.sampled_from(base), min_size=N, max_size=N))
    return np.array(bases, np.int64) + np.array(draw(OFFSETS), np.int64)


@settings(max_examples=200, deadline=None)
@given(gains(), CANDIDATES)
def test_the_window_holds_the_best_and_the_bar_is_over_the_others(gains, available):
    available = np.array(available)
    window = jax.tree.map(np.asarray, best(total_of(gains), jnp.asarray(available)))
    index = window.examples.index
    assert len(set(index.tolist())) == WINDOW
    np.testing.assert_array_equal(exact(window.gains), gains[index])
    np.testing.assert_array_equal(window.candidate, available[index])
    assert window.candidate.sum() == min(WINDOW, available.sum())
    # The best of all, with the lowest index, is inside.
    assert int(np.argmax(np.where(available, gains, np.iinfo(np.int64).min))) in index
    outside = np.setdiff1d(np.flatnonzero(available), index)
    shown = np.asarray(fixed_point.to_float(total_of(gains)))
    if not outside.size:
        assert window.bar == -np.inf
        return
    assert window.bar == shown[outside].max()
    if abs(window.bar) < 1:  # above 1, ties with the bar do not count
        assert window.bar_index == outside[shown[outside] == window.bar].min()


@settings(max_examples=100, deadline=None)
@given(gains(), CANDIDATES, st.sampled_from([0, 1, 2, 2**23]), st.integers(0, 2**32 - 1), st.integers(1, N))
def test_window_by_window_is_one_by_one(gains, available, largest_fall, seed, steps):
    available = np.array(available)
    falls = np.random.default_rng(seed).integers(0, largest_fall + 1, (N, N))
    falls = np.maximum(falls, falls.T)
    np.fill_diagonal(falls, 0)
    steps = min(steps, int(available.sum()))
    expected, expected_gains = slow_greedy(gains, falls, available, steps)
    given = total_of(gains), jnp.asarray(falls, jnp.int32), jnp.asarray(available), steps
    for lazily in (True, False):
        picks, found, _ = greedy(*given, lazily=lazily)
        assert picks[:steps].tolist() == expected
        np.testing.assert_array_equal(picks[steps:], -1)
        np.testing.assert_array_equal(found[:steps], np.asarray(fixed_point.to_float(total_of(expected_gains))))
        assert np.isnan(found[steps:]).all()


@pytest.mark.parametrize("lazily", [False, True])
def test_a_window_gives_many_picks(lazily):
    """Whole windows are picked at once if no gain falls, and also if all gains are equal."""

    def rounds(gains, fall=0):
        falls = jnp.full((N, N), fall, jnp.int32)
        picks, _, rounds = greedy(total_of(gains), falls, jnp.ones(N, bool), N, lazily=lazily)
        assert sorted(picks.tolist()) == list(range(N))
        return int(rounds)

    windows_in_all = -(-N // WINDOW)
    assert rounds(2**30 * np.arange(1, N + 1)) == windows_in_all
    assert rounds(np.zeros(N, np.int64)) == windows_in_all
    assert rounds(np.full(N, 2**23 - 1)) == windows_in_all
    # Gains whose differences are as large as the effect of several picks.
    assert rounds(2**25 * np.arange(1, N + 1), 2**22) < N
    # A pick moves all others below the bar; only the last window has no bar.
    assert rounds(np.zeros(N, np.int64), 2**23) == N - WINDOW + 1


def test_a_window_of_all_has_no_bar():
    window = windows.best(total_of(np.arange(N)), jnp.ones(N, bool), N, Indices())
    assert window.examples.index.tolist() == list(range(N))[::-1]
    assert float(window.bar) == -np.inf


@pytest.mark.parametrize("k", [1, 7, N])
def test_top_k_is_a_stable_sort(k):
    rng = np.random.default_rng(0)
    for _ in range(20):
        key = rng.choice(np.float32([0, 1, 2, -1, -np.inf]), N)
        found = windows.top_k(jnp.asarray(key), k)
        assert found.dtype == jnp.int32
        assert found.tolist() == np.argsort(-key, kind="stable")[:k].tolist()


@pytest.mark.parametrize("base", [2, 2**30])
def test_one_is_picked_whatever_is_found(base):
    """At least one pick is made even if later gains are lower than before, as with a slightly asymmetric matrix.

    Exact below 1, rounded above, and every candidate at the bar.
    """
    gains = np.full(N, base)
    lower = jnp.asarray(np.random.default_rng(1).permutation(N), jnp.int32)  # slots equal indices: all are tied

    @functools.partial(jax.jit, static_argnums=0)
    def choose(limit):
        window = windows.best(total_of(gains), jnp.ones(N, bool), WINDOW, Indices())

        def gain(_, slot):
            return fixed_point.add(window.gains.at(slot), -1 - lower[slot])

        return windows.choose_lazily(window, jnp.int32(limit), gain, lambda memory, slot: memory, ())[0]

    chosen = choose(3)
    assert int(chosen.number) == 1
    assert int(chosen.slots[0]) == int(np.argmin(lower[:WINDOW]))
