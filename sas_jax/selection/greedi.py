"""GreeDi: greedy in two rounds, for a ground set that one mesh cannot hold. Partition, select, merge, select.

The candidates are dealt to parts at random. Greedy picks the budget from each part; then it picks the budget from the
union of those picks; the result is that merged solution, or the best part's where that is better.

Every run computes one and the same objective, that of all n examples or of a uniform sample of them, and not that of
its own part: the guarantees need it, and a sample as large as a part costs no more than the part itself would. The
devices hold the candidates of one run only, [n / partitions, d] and then [partitions x budget, d]. The examples to be
represented stay where they are, in the host's memory or in a mapped file, and pass by in blocks. No n x n is made.

It computes one similarity for each pair of a candidate and a represented example and, for `facility_location`, again
each time a pick raises an example's coverage, one for each candidate of the run. So with all n represented it needs
less memory than `greedy`, and not less time; a sample is what saves time. The merged run has partitions x budget
candidates: where that is no fewer than n, use `greedy`.

Source: Mirzasoleiman, Karbasi, Sarkar & Krause, Distributed submodular maximization: identifying representative
elements in massive data (NIPS 2013); Barbosa, Ene, Nguyen & Ward, The power of randomization: distributed
submodular maximization on massive datasets (ICML 2015), for each candidate's part drawn independently.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sas_jax import settings
from sas_jax.errors import InputError
from sas_jax.selection import checks, fixed_point
from sas_jax.selection.fixed_point import ONE, Total

_TILE = 64
"""Represented examples in a product: no more than an int32 holds the sum of, and never another number, so that a
similarity has the same bits in every sum it enters."""

_CHUNK = 64 * _TILE
"""Represented examples in a call; one with fewer computes fewer tiles."""

_BLOCK = 2**22  # similarities, or numbers of embeddings, that the host holds at a time

_TAKEN = np.iinfo(np.int64).min  # below every gain


@settings.fixed
def facility_location(
    key: jax.Array,
    embeddings: np.ndarray,
    *,
    budget: int,
    partitions: int,
    where: np.ndarray | None = None,
    sample: int | None = None,
    self_similarity: float = 1.0,
    mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Picks examples that together represent all well: a large sum over i of max over j picked of s_ij.

    Guarantee, against the best choice of `budget` candidates: the expected value over keys is at least (1 - 1/e) / 2
    of it, and with every key the value is at least (1 - 1/e) / partitions of it and 1 / budget of it. With a sample of
    r this holds for the objective of the sample. Scaled to n, that is within epsilon n of the objective, for all
    choices at once and with probability 1 - delta, epsilon = sqrt((budget ln n + ln(2 / delta)) / (2 r)); so what is
    lost is at most 2 epsilon n more. Examples of the sample also represent themselves and are picked somewhat more
    readily than others: let r be many times the budget.

    Args:
      key: a typed PRNG key, which deals the candidates and draws the sample.
      embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j). May be a mapped file.
      budget: how many to pick, at most the number of candidates.
      partitions: how many parts, at most the number of candidates. 1 is `greedy`, with the examples on the host.
      where: bool [n], the candidates; the others are not picked, and count among those to be represented. All if None.
      sample: how many examples, from 1 to n, stand for all when gains are computed; None computes them on all n.
      self_similarity: in [0, 1]: each example's similarity to itself.
      mesh: spread the candidates of a run over its devices, all of this process; one device where None.

    Returns:
      (picks int32 [budget], gains float32 [budget]), indices among the n in the order of picking and their gains on
      all n. Ties go to the lowest index. Gains never rise, unless a sample stood in for all.

    Raises:
      InputError: something given cannot be used; the message says what, and what to do.

    Source: Barbosa et al. (2015) for the first bound, Mirzasoleiman et al. (2013) for the others.
    """
    return _two_rounds("facility_location", key, embeddings, budget, partitions, where, sample, self_similarity, mesh)


@settings.fixed
def sas(
    key: jax.Array,
    embeddings: np.ndarray,
    *,
    budget: int,
    partitions: int,
    where: np.ndarray | None = None,
    sample: int | None = None,
    mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Picks examples most similar in expectation to those not picked: a large sum over i not picked, j picked of s_ij.

    No guarantee in general: the cut is not monotone, and the budget is filled though gains turn negative; plain greedy
    has no constant factor there, on one machine or on many. What holds: the cut is at least that of every part's own
    picks (on the sample, if there is one). And where no example has more than half of its similarity in any
    2 budget others, as when the budget is small, the cut is monotone as far as it matters, and the guarantees of
    `facility_location` without a sample hold.

    Args:
      key: a typed PRNG key, which deals the candidates and draws the sample.
      embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j). May be a mapped file.
      budget: how many to pick, at most the number of candidates.
      partitions: how many parts, at most the number of candidates. 1 is `greedy`, with the examples on the host.
      where: bool [n], the candidates; the others are not picked, and count as not picked. All if None.
      sample: how many examples, from 1 to n, each example's similarity to all is estimated from; None sums over all n.
        The similarity among the picked is exact in any case.
      mesh: spread the candidates of a run over its devices, all of this process; one device where None.

    Returns:
      (picks int32 [budget], gains float32 [budget]), indices among the n in the order of picking and their gains on
      all n. Ties go to the lowest index. Gains never rise, unless a sample stood in for all.

    Raises:
      InputError: something given cannot be used; the message says what, and what to do.
    """
    return _two_rounds("sas", key, embeddings, budget, partitions, where, sample, 0.0, mesh)


@settings.fixed
def similarity_sum(
    key: jax.Array,
    embeddings: np.ndarray,
    *,
    budget: int,
    partitions: int,
    where: np.ndarray | None = None,
    sample: int | None = None,
    self_similarity: float = 1.0,
    mesh: Mesh | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Picks the examples with the largest similarity to all.

    Guarantee: the picks are those of `greedy`, for whatever is among the first of all is among the first of its part.
    With a sample of r they are those with the largest estimates; each is within epsilon n of the truth, for all n at
    once and with probability 1 - delta, epsilon = sqrt(ln(2 n / delta) / (2 (r - 1))).

    Args:
      key: a typed PRNG key, which deals the candidates and draws the sample.
      embeddings: float [n, d], norms of at most 1; the similarity is max(0, z_i . z_j). May be a mapped file.
      budget: how many to pick, at most the number of candidates.
      partitions: how many parts, at most the number of candidates. 1 is `greedy`, with the examples on the host.
      where: bool [n], the candidates. All if None.
      sample: how many examples, from 1 to n, each example's similarity to all is estimated from; None sums over all n.
      self_similarity: in [0, 1]: each example's similarity to itself.
      mesh: spread the candidates of a run over its devices, all of this process; one device where None.

    Returns:
      (picks int32 [budget], gains float32 [budget]), indices among the n in the order of picking and their gains on
      all n. Ties go to the lowest index. Gains never rise, unless a sample stood in for all.

    Raises:
      InputError: something given cannot be used; the message says what, and what to do.
    """
    return _two_rounds("similarity_sum", key, embeddings, budget, partitions, where, sample, self_similarity, mesh)


@settings.fixed
def deal(key: jax.Array, number: int, partitions: int) -> np.ndarray:
    """Deals candidates to parts, each independently and to every part with the same probability.

    Args:
      key: the typed PRNG key that the functions above are given.
      number: of candidates; they are dealt in ascending order of their indices.
      partitions: how many parts; one may remain empty.

    Returns:
      int32 [number] in [0, partitions).
    """
    return np.asarray(jax.random.randint(jax.random.fold_in(key, 0), (number,), 0, partitions))


@settings.fixed
def draw(key: jax.Array, n: int, sample: int) -> np.ndarray:
    """Draws the examples that stand for all when gains are computed, every set of them with the same probability.

    Args:
      key: the typed PRNG key that the functions above are given.
      n: how many examples there are.
      sample: how many to draw, from 1 to n.

    Returns:
      int32 [sample] in [0, n), ascending.
    """
    return np.sort(np.asarray(jax.random.choice(jax.random.fold_in(key, 1), n, (sample,), replace=False)))


def _two_rounds(
    objective: str,
    key: jax.Array,
    embeddings: np.ndarray,
    budget: int,
    partitions: int,
    where: np.ndarray | None,
    sample: int | None,
    self_similarity: float,
    mesh: Mesh | None,
) -> tuple[np.ndarray, np.ndarray]:
    embeddings, norm = _checked(embeddings)
    n = len(embeddings)
    candidates = np.flatnonzero(checks.candidates(where, n))
    budget = _whole("The budget", budget, len(candidates), "candidates")
    partitions = _whole("The number of partitions", partitions, len(candidates), "candidates")
    self_similarity = checks.unit_interval("self_similarity", self_similarity)
    one = float(fixed_point.one_of(jnp.float32(max(self_similarity, norm**2))))
    itself = round(self_similarity / one * ONE)
    mesh = checks.mesh(mesh)
    drawn = None if sample is None else draw(key, n, _whole("The sample", sample, n, "examples"))
    ground_set = _GroundSet(embeddings, drawn, itself, one)

    dealt = deal(key, len(candidates), partitions)
    parts = [candidates[dealt == part] for part in range(partitions)]
    largest = max(len(part) for part in parts)  # all are padded to it: one shape is compiled
    solutions = [_greedy(objective, ground_set, part, budget, largest, mesh) for part in parts if len(part)]
    if len(solutions) > 1:
        # The merged solution is the first, and so the one that is kept if a part's is as good.
        union = np.sort(np.concatenate([picks for picks, _ in solutions]))
        solutions.insert(0, _greedy(objective, ground_set, union, budget, len(union), mesh))
    # A part with fewer candidates than the budget is no solution; all of it is in the union.
    picks, gains = max((s for s in solutions if len(s[0]) == budget), key=lambda s: sum(s[1]))
    if drawn is not None:
        gains = _gains(objective, embeddings, picks, itself, one)
    return picks.astype(np.int32), (np.array(gains, np.float64) / ONE * one).astype(np.float32)


class _GroundSet:
    """The represented examples, on the host; their similarities in fixed point, their sums in int64."""

    def __init__(self, embeddings: np.ndarray, drawn: np.ndarray | None, itself: int, one: float):
        """With `drawn`, ascending indices, these stand for all; `itself` is an example's similarity to itself.

        `one` is the similarity that fixed point calls 1.
        """
        self.embeddings = embeddings
        self.represented = embeddings if drawn is None else np.asarray(embeddings[drawn], np.float32)
        self.indices = np.arange(len(embeddings)) if drawn is None else drawn
        self.itself, self.one = itself, one

    def column(self, index: int) -> np.ndarray:
        """int32 [represented]: the similarity of the represented examples to the example at an index."""
        vector = np.asarray(self.embeddings[index], np.float32)
        column = np.empty(len(self.indices), np.int32)
        for rows in _blocks(len(column), self.represented.shape[1]):
            column[rows] = _quantise(np.asarray(self.represented[rows], np.float32) @ vector, self.one)
        column[self.indices == index] = self.itself
        return column

    def between(self, candidates: "_Candidates", rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """int64 [candidates]: the sum over some represented examples of what of their similarity is in [low, high].

        `rows` are places among the represented, `low` and `high` int32, one for each: a candidate that is similar by
        s gets clip(s, low, high) - low.
        """
        totals = np.zeros(candidates.number, np.int64)
        for begin in range(0, len(rows), _CHUNK):
            part = slice(begin, begin + _CHUNK)
            size = len(rows[part])
            chunk = np.zeros((_CHUNK, self.represented.shape[1]), np.float32)
            chunk[:size] = self.represented[rows[part]]
            levels = np.full((3, _CHUNK), -1, np.int32)  # of the places that are not taken, low and high are the same
            levels[:, :size] = self.indices[rows[part]], low[part], high[part]
            total = _between(*candidates.arrays, chunk, *levels, -(-size // _TILE), self.itself, self.one)
            upper, lower = (np.asarray(part)[: candidates.number].astype(np.int64) for part in total)
            totals += upper * 2**16 + lower
        return totals

    def first(self, candidates: "_Candidates") -> np.ndarray:
        """int64 [candidates]: the sums of each candidate's similarity to the represented examples."""
        rows = np.arange(len(self.indices))
        return self.between(candidates, rows, np.zeros_like(rows), np.full_like(rows, ONE))

    def to_others(self, candidates: "_Candidates") -> np.ndarray:
        """int64 [candidates]: each one's similarity to all others of the n in sum, estimated if there is a sample."""
        drawn = np.isin(candidates.indices, self.indices)
        others, sampled = len(self.embeddings) - 1, np.maximum(len(self.indices) - drawn, 1)
        sums = self.first(candidates) - self.itself * drawn
        # sums * others / sampled, rounded down, without a product that int64 does not hold.
        return sums // sampled * others + sums % sampled * others // sampled


class _Candidates:
    """The candidates of one run, on the devices."""

    def __init__(self, embeddings: np.ndarray, indices: np.ndarray, padded: int, mesh: Mesh | None):
        """Of embeddings [n, d] those at ascending `indices`; padded to a number, for fewer shapes, and to the mesh."""
        self.indices, self.number = indices, len(indices)
        self.values = np.asarray(embeddings[indices], np.float32)
        devices = 1 if mesh is None else mesh.size
        padding = -(-padded // devices) * devices - self.number
        arrays = np.pad(self.values, ((0, padding), (0, 0))), np.pad(indices.astype(np.int32), (0, padding))
        sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
        self.arrays = jax.device_put(arrays, sharding)


def _greedy(
    objective: str, ground_set: _GroundSet, indices: np.ndarray, budget: int, padded: int, mesh: Mesh | None
) -> tuple[np.ndarray, list[int]]:
    """The picks, up to the budget, among the examples at ascending indices, and their gains in units of one / ONE."""
    candidates = _Candidates(ground_set.embeddings, indices, padded, mesh)
    if objective == "facility_location":
        gains = ground_set.first(candidates)
    else:
        gains = ground_set.to_others(candidates) + ground_set.itself
    coverage = np.zeros(len(ground_set.indices), np.int32)
    available = np.ones(len(indices), bool)
    picks, picked_gains = [], []
    for _ in range(min(budget, len(indices))):
        best = int(np.argmax(np.where(available, gains, _TAKEN)))  # the first of the largest
        available[best] = False
        picks.append(indices[best])
        picked_gains.append(int(gains[best]))
        if objective == "facility_location":
            # Only where the pick raises the coverage do gains change: see objectives.py.
            column = ground_set.column(indices[best])
            raised = np.flatnonzero(column > coverage)
            gains -= ground_set.between(candidates, raised, coverage[raised], column[raised])
            coverage[raised] = column[raised]
        elif objective == "sas":
            gains -= 2 * _quantise(candidates.values @ candidates.values[best], ground_set.one).astype(np.int64)
    return np.array(picks), picked_gains


def _gains(objective: str, embeddings: np.ndarray, picks: np.ndarray, itself: int, one: float) -> list[int]:
    """The gains on all n of picks in their order, in units of one / ONE."""
    chosen = np.asarray(embeddings[picks], np.float32)
    gains = np.zeros(len(picks), np.int64)
    for rows in _blocks(len(embeddings), len(picks)):
        similarity = _quantise(np.asarray(embeddings[rows], np.float32) @ chosen.T, one)
        similarity[picks == np.arange(rows.start, rows.start + len(similarity))[:, None]] = itself
        if objective == "facility_location":
            similarity = np.diff(np.maximum.accumulate(similarity, axis=1), axis=1, prepend=0)
        gains += similarity.sum(0, dtype=np.int64)
    if objective == "sas":
        for step in range(len(picks) - 1):
            gains[step + 1 :] -= 2 * _quantise(chosen[step + 1 :] @ chosen[step], one).astype(np.int64)
    return gains.tolist()


@jax.jit
def _between(
    candidates: jax.Array,
    indices: jax.Array,
    rows: jax.Array,
    row_indices: jax.Array,
    low: jax.Array,
    high: jax.Array,
    tiles: jax.Array | int,
    itself: jax.Array | int,
    one: jax.Array | float,
) -> Total:
    """`_GroundSet.between` of the first `tiles` tiles of rows [k, d], for candidates [c, d]; exact."""

    def add_tile(tile, total):
        def of_tile(values):
            return jax.lax.dynamic_slice_in_dim(values, tile * _TILE, _TILE)[:, None]

        # Accelerators would multiply in TF32 or bf16 unless told otherwise.
        product = jnp.dot(of_tile(rows)[:, 0], candidates.T, precision=jax.lax.Precision.HIGHEST)
        similarity = jnp.where(of_tile(row_indices) == indices, itself, fixed_point.quantise(product, one))
        parts = jnp.clip(similarity - of_tile(low), 0, of_tile(high - low))
        return fixed_point.add(total, jnp.sum(parts, axis=0))

    nothing = jnp.zeros_like(indices)
    return jax.lax.fori_loop(0, tiles, add_tile, Total(nothing, nothing))


def _quantise(similarity: np.ndarray, one: float) -> np.ndarray:
    """`fixed_point.quantise` on the host."""
    return np.rint(np.clip(similarity, 0, one) * np.float32(ONE / one)).astype(np.int32)


def _blocks(n: int, width: int) -> list[slice]:
    """Slices of n rows of a width that the host holds at a time."""
    step = max(1, _BLOCK // width)
    return [slice(begin, begin + step) for begin in range(0, n, step)]


def _whole(what: str, value: Any, most: int, of: str) -> int:
    """A whole number from 1 to as many as there are."""
    found = checks.integer(value)
    if found is None or not 1 <= found <= most:
        raise InputError(
            f"{what} is a whole number from 1 to the {most} {of}, and this is {checks.shown(value)}; give one in that "
            f"range."
        )
    return found


def _checked(embeddings: Any) -> tuple[np.ndarray, float]:
    """Embeddings as they are, if their shape, type and values will do, and their largest norm."""
    embeddings = checks.array("Embeddings", embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise InputError(
            f"Embeddings have the shape [n, d], and these have {list(embeddings.shape)}; give one row an example."
        )
    checks.floating("Embeddings", embeddings)
    largest = 0.0
    for rows in _blocks(*embeddings.shape):
        with np.errstate(over="ignore"):  # what float64 does not hold counts as infinite
            norms = np.linalg.norm(np.asarray(embeddings[rows], np.float64), axis=1)
        bad = np.flatnonzero(~(norms <= 1 + 1e-5))
        if bad.size:
            raise InputError(
                f"Embeddings have finite rows with norms of at most 1, and that of row {rows.start + bad[0]} is "
                f"{norms[bad[0]]:.8g}; divide the rows by their norms."
            )
        largest = max(largest, float(norms.max()))
    return embeddings, largest
