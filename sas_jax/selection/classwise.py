"""Greedy selection within each of many classes of different sizes.

Programs are compiled for fixed shapes, so classes are padded to one of a few sizes; the fewer classes, the fewer sizes.
One program ranks all classes of a size from their similarity matrices, with the devices in parallel. A class too large
for a matrix is ranked from its embeddings by all devices together.

With several processes, each ranks a share of the classes on its own devices, and a class that is more work than a share
is ranked by all together. The result is the same, because a class's picks depend neither on the process that ranks it
nor on the number of devices.
"""

import collections
import dataclasses
import functools
import heapq
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from sas_jax import arrays, devices, settings
from sas_jax.errors import InputError
from sas_jax.selection import checks, greedy
from sas_jax.selection.objectives import OBJECTIVES
from sas_jax.selection.similarity import one_of_embeddings, products
from sas_jax.selection.work import Work

_LARGEST_MATRIX = 8192
"""Classes of up to this size are ranked from a similarity matrix (at most 256 MB); larger ones from embeddings."""

_AT_ONCE = 2**24
"""Approximate number of similarities that a device handles per call: about a second between progress reports."""

_PROGRAM = 2**25
"""Approximate number of similarities that are ranked in the time that tracing and loading another program takes.

On a CPU it is a third of a second. Compiling takes a few seconds more, but its result is often found on disk.
"""

_STEP_SECONDS = 1.0
"""Target seconds between progress reports of a class that is ranked by itself."""


def divide(classes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns each example's class index, and the members of each class in ascending order."""
    _, of, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return of, np.split(np.argsort(of, kind="stable"), np.cumsum(sizes)[:-1])


def padded(size: int) -> int:
    """Rounds up to a size that programs are compiled for: 32, 64, 128, 256, 384, 512, 768, ..., 8192, 8704, ..."""
    power = 1 << (max(size, 32) - 1).bit_length()
    if power > _LARGEST_MATRIX:
        # For large classes, padding costs more than compiling.
        return -(-size // (power // 32)) * (power // 32)
    return power * 3 // 4 if power > 256 and size <= power * 3 // 4 else power


def shared_sizes(classes: Mapping[int, int]) -> dict[int, int]:
    """Decides which padded sizes share a program; maps each to the largest of those that do.

    Args:
        classes: The number of classes of each padded size.
    """
    shared: dict[int, int] = {}
    joined: list[int] = []
    for size in sorted(classes):
        if joined and sum(classes[each] for each in joined) * (size**2 - joined[-1] ** 2) > _PROGRAM:
            joined = []
        joined.append(size)
        shared |= dict.fromkeys(joined, size)
    return shared


def places_on_a_device(classes: int, size: int, devices: int) -> int:
    """Returns how many classes of a padded size a device ranks per call; few distinct values, for few compilations."""
    return max(1, min(1 << (-(-classes // devices) - 1).bit_length(), _AT_ONCE // size**2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The inputs of a ranking, except the similarities."""

    objective: str
    members: list[np.ndarray]  # indices of each class's members, ascending
    steps: list[int]  # number of picks of each class
    where: np.ndarray  # bool [n], the candidates
    initial: np.ndarray  # int64 [k], already chosen, not candidates
    weights: np.ndarray | None  # float64 [n]
    self_similarity: float | None
    mesh: Mesh  # of this process, or of several that make the same call

    @functools.cached_property
    def dealt(self) -> tuple[list[int], list[int]]:
        """The classes that this process ranks by itself, and those that all rank together; both ascending.

        Classes are assigned largest first, each to the process with the least work so far.
        """
        work = {label: float(len(self.members[label])) ** 2 for label, wanted in enumerate(self.steps) if wanted}
        loads = [(0.0, process) for process in devices.processes(self.mesh)]
        if len(loads) == 1:
            return list(work), []
        share = sum(work.values()) / len(loads)
        mine, together = [], []
        for label in sorted(work, key=lambda label: -work[label]):
            if work[label] > share and len(self.members[label]) > _LARGEST_MATRIX:
                together.append(label)
                continue
            load, process = heapq.heappop(loads)
            heapq.heappush(loads, (load + work[label], process))
            if process == jax.process_index():
                mine.append(label)
        return sorted(mine), sorted(together)

    @functools.cached_property
    def _shared(self) -> dict[int, int]:
        """`shared_sizes` of the classes that are ranked from matrices, by all processes."""
        sizes = (padded(len(members)) for members, wanted in zip(self.members, self.steps, strict=True) if wanted)
        return shared_sizes(collections.Counter(size for size in sizes if size <= _LARGEST_MATRIX))

    def _padded(self, label: int) -> int:
        """Returns the size that a class is padded to."""
        size = padded(len(self.members[label]))
        return self._shared.get(size, size)

    @functools.cached_property
    def _own(self) -> Mesh:
        """The mesh of this process's devices."""
        return devices.local_mesh(self.mesh)

    def from_embeddings(self, z: arrays.Rows, work: Work) -> None:
        """Ranks from embeddings [n, d] of norm at most 1; only the rows of the classes being ranked are read.

        Raises:
            InputError: a class does not fit in memory.
        """
        mine, together = self.dealt
        groups: dict[int, list[int]] = {}
        for label in mine:
            if not work.has(self.members[label], self.steps[label]):
                groups.setdefault(self._padded(label), []).append(label)
                self._check_memory(label, z.shape[1], 1)
        for label in together:
            self._check_memory(label, z.shape[1], len(devices.processes(self.mesh)))
        for size, labels in sorted(groups.items()):
            if size > _LARGEST_MATRIX:
                for label in labels:
                    values = np.pad(z[self.members[label]], ((0, size - len(self.members[label])), (0, 0)))
                    self._one(label, size, work, embeddings=values, mesh=self._own if self._own.size > 1 else None)
            else:
                for picks, gains in self._many(z, size, labels):
                    work.add(picks, gains)
        for label in together:
            if devices.everywhere(work.has(self.members[label], self.steps[label])):
                continue
            members = self.members[label]
            size = padded(len(members))
            size += -size % self.mesh.size
            read = functools.partial(lambda members, rows: z[members[rows]], members)
            split = devices.split(read, len(members), (size, z.shape[1]), self.mesh)
            self._one(label, size, work, embeddings=split, mesh=self.mesh)

    def _check_memory(self, label: int, features: int, processes: int) -> None:
        """Raises InputError unless this process can hold its part of a class's rows, as read and on devices."""
        number = len(self.members[label])
        needed = 3 * 4 * number * features // processes
        if number > _LARGEST_MATRIX and needed > (free := devices.free_memory()):
            raise InputError(
                f"A latent class must fit in memory to be ranked, got one of {number:,} examples, which needs "
                f"{needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free. Use more latent classes."
            )

    def from_matrices(
        self, matrix_of: Callable[[np.ndarray], np.ndarray], work: Work, self_similarity: float | None = None
    ) -> str:
        """Ranks classes one after the other, each from the matrix that `matrix_of` returns for its members.

        `self_similarity` is used if the run's is None. Returns the first warning about a class, or "".
        """
        to_itself = self_similarity if self.self_similarity is None else self.self_similarity
        counts = 0.0 if OBJECTIVES[self.objective].cut else to_itself  # a cut ignores the diagonal
        warning = ""
        mine, together = self.dealt
        first = jax.process_index() == devices.processes(self.mesh)[0]
        for label in sorted(mine + together) if first else mine:
            members = self.members[label]
            if work.has(members, self.steps[label]):
                continue
            # A single class is not padded: nothing else is as large as its matrix.
            size = self._padded(label) if len(self.members) > 1 else len(members)
            padding = size - len(members)
            matrix = matrix_of(members)
            largest, found = checks.largest_similarity(matrix, counts)
            warning = warning or found
            scale = 1.0
            if 0 < largest < checks.SMALLEST_SCALE:  # greedy itself scales larger values
                exponent = np.frexp(largest)[1]
                scale = float(np.ldexp(1.0, exponent))
                matrix = np.ldexp(np.asarray(matrix, np.float64), -exponent).astype(np.float32)
            matrix = np.pad(matrix, (0, padding)) if padding else matrix
            diagonal = None if to_itself is None else to_itself / scale
            self._one(label, size, work, scale, similarity=matrix, self_similarity=diagonal)
        return warning

    def _one(self, label: int, size: int, work: Work, scale: float = 1.0, **source) -> None:
        """Ranks one class of a padded size by itself, in steps; its similarities were divided by `scale`."""
        members, wanted = self.members[label], self.steps[label]
        padding = size - len(members)
        where = np.pad(self.where[members], (0, padding))
        weights, of_weights = self._weights(label)
        weights = None if weights is None else np.pad(weights, (0, padding))
        source = {"self_similarity": self.self_similarity} | source
        problem = _problem(objective=self.objective, weights=weights, **source)
        begin = functools.partial(greedy.start, budget=size, where=where, initial=self._initial(label))
        left = work.unfinished(members)
        if left is None:
            state = begin(problem)
        else:
            state = jax.tree.unflatten(jax.tree.structure(jax.eval_shape(begin, problem)), left)
        picked, steps = int(state.step), 1
        while picked < wanted:
            began = time.perf_counter()
            state = greedy.advance(problem, state, min(steps, wanted - picked))
            now = int(state.step)
            rate = (now - picked) / (time.perf_counter() - began)
            steps, picked = max(1, min(2 * steps, round(rate * _STEP_SECONDS))), now
            if state.gains.high.is_fully_addressable:
                work.within(members, state, now)
            else:  # other processes hold parts: all take the same number of steps, and the state is not saved
                steps = devices.as_writer_sees(steps)
                work.within(members, None, now)
        picks, gains = (np.asarray(x)[:wanted] for x in greedy.result(problem, state))
        work.add(members[picks], _scaled(gains, scale * of_weights))

    def _many(self, z: arrays.Rows, size: int, labels: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ranks classes of one padded size; yields each class's picks, as indices among all examples, and gains."""
        begun = [self._initial(label) for label in labels]
        chosen = max(len(each) for each in begun)
        chosen = 1 << (chosen - 1).bit_length() if chosen else 0
        places = places_on_a_device(len(labels), size, self._own.size)
        together = places * self._own.size
        for first in range(0, len(labels), together):
            part = labels[first : first + together]
            # Only the rows of these classes are transferred, each to one device, which may not hold all n rows.
            rows = np.zeros((together, size, z.shape[1]), np.float32)
            where = np.zeros((together, size), bool)
            weights = None if self.weights is None else np.zeros((together, size), np.float32)
            steps = np.zeros(together, np.int32)
            initial = np.full((together, chosen), -1, np.int32)
            scales = []
            # Classes are assigned to the devices round-robin.
            at = [turn % self._own.size * places + turn // self._own.size for turn in range(len(part))]
            for row, label, already in zip(at, part, begun[first : first + together], strict=True):
                members = self.members[label]
                rows[row, : len(members)] = z[members]
                where[row, : len(members)] = self.where[members]
                of_class, scale = self._weights(label)
                scales.append(scale)
                if weights is not None:
                    weights[row, : len(members)] = of_class
                initial[row, : len(already)] = already
                steps[row] = self.steps[label]
            # Sharded here, because jit would not shard them on a mesh of Explicit axes, JAX's default.
            given = jax.device_put((rows, where, weights, initial, steps), devices.batched(self._own))
            options = {"objective": self.objective, "self_similarity": self.self_similarity, "mesh": self._own}
            picks, gains = map(np.asarray, rank_many(*given, **options))
            for row, label, scale in zip(at, part, scales, strict=True):
                yield self.members[label][picks[row, : steps[row]]], _scaled(gains[row, : steps[row]], scale)

    def _weights(self, label: int) -> tuple[np.ndarray | None, float]:
        """Returns a class's weights as float32 of at most 1, and the power of two by which they were divided."""
        if self.weights is None:
            return None, 1.0
        weights = self.weights[self.members[label]]
        exponent = int(np.frexp(weights.max())[1])
        return np.ldexp(weights, -exponent).astype(np.float32), float(np.ldexp(1.0, exponent))

    def _initial(self, label: int) -> np.ndarray:
        """Returns the members of a class that are already chosen, as indices among its members."""
        members = self.members[label]
        return np.searchsorted(members, np.intersect1d(members, self.initial)).astype(np.int32)


def _scaled(gains: np.ndarray, scale: float) -> np.ndarray:
    """Multiplies gains by a power of two, as float32, with NumPy: XLA flushes values below 2^-126 to 0.

    Gains that underflow float32 keep their sign, which determines the turning point of a ranking.
    """
    scaled = (gains.astype(np.float64) * scale).astype(np.float32)
    return np.where((scaled == 0) & (gains != 0), np.copysign(np.finfo(np.float32).smallest_subnormal, gains), scaled)


_problem = jax.jit(greedy.problem, static_argnames=("objective", "self_similarity", "mesh"))


@settings.fixed
@functools.partial(jax.jit, static_argnames=("objective", "self_similarity", "mesh"))
def rank_many(
    rows: jax.Array,
    where: jax.Array,
    weights: jax.Array | None,
    initial: jax.Array,
    steps: jax.Array,
    *,
    objective: str,
    self_similarity: float | None,
    mesh: Mesh,
):
    """Ranks classes of one padded size from embeddings [classes, size, d]; returns picks and gains [classes, size]."""
    # On a CPU one after the other: under vmap every class would take as many steps, and every step as many rows, as
    # the slowest. On an accelerator in batches, because single classes would leave it idle.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    size = rows.shape[1]
    together = None if on_cpu else max(1, _AT_ONCE // size**2)

    def one(z, where, weights, initial, steps):
        problem = greedy.problem(
            products(z, z),
            objective=objective,
            weights=weights,
            self_similarity=1.0 if self_similarity is None else self_similarity,
        )
        # From the norms, as for Embeddings, so that the rounding of unit rows does not depend on the rest of the class.
        bound = one_of_embeddings(z, problem.similarity.self_similarity)
        problem = dataclasses.replace(problem, similarity=dataclasses.replace(problem.similarity, one=bound))
        state = greedy.start(problem, budget=size, where=where, initial=initial)
        return greedy.result(problem, greedy.advance(problem, state, steps))

    def part(*classes):
        nothing = jnp.full(size, -1, jnp.int32), jnp.full(size, jnp.nan, jnp.float32)
        return jax.lax.map(
            lambda each: jax.lax.cond(each[-1] > 0, lambda: one(*each), lambda: nothing), classes, batch_size=together
        )

    split = PartitionSpec(mesh.axis_names[0])
    # The devices do not communicate, so there is nothing for check_vma to check.
    return jax.shard_map(part, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)(
        rows, where, weights, initial, steps
    )
