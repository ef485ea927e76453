"""The implementations to compare: sas_jax, three packages and NumPy, each prepared as a function and then timed.

Imports are inside the functions: each implementation runs in its own process, and a missing package does not affect
the others.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks import cases, numpy_greedy

Call = Callable[[], list[np.ndarray]]
"""The timed call: returns each class's picks, as indices within the class, in order."""


class Task(NamedTuple):
    """The input of an implementation."""

    objective: str
    embeddings: np.ndarray  # float32 [n, d]
    classes: np.ndarray  # int64 [n]
    budgets: list[int]  # per class
    matrices: list[np.ndarray]  # float32 [k, k] per class; empty if only embeddings are given
    devices: int  # number of simulated CPU devices for sas_jax


class Implementation(NamedTuple):
    """An implementation to compare."""

    title: str
    package: str | None  # the distribution that must be installed
    prepare: Callable[[Task], Call]  # imports the package and converts the input; not timed
    bytes_per_pair: dict[str, int]  # by objective: memory per pair of examples beyond the given float32
    compiles: bool = False  # whether later processes can reuse its compiled programs


def _sas_jax(task: Task) -> Call:
    import jax

    if task.devices > 1:
        jax.config.update("jax_num_cpu_devices", task.devices)
    from sas_jax import devices
    from sas_jax.selection import greedy
    from sas_jax.selection.rank import rank

    on_cpu = jax.default_backend() == "cpu"
    if task.matrices and len(task.matrices) == 1:
        # A CPU reads the matrix in place; an accelerator holds it before timing starts.
        given = task.matrices[0] if on_cpu else jax.block_until_ready(jax.device_put(task.matrices[0]))
        run = getattr(greedy, task.objective)
        return lambda: [np.asarray(run(given, budget=task.budgets[0])[0])]

    members = cases.members(task.classes)

    def call() -> list[np.ndarray]:
        ranking = rank(
            task.embeddings,
            task.classes,
            objective=task.objective,
            normalize=False,
            budget=sum(task.budgets),
            mesh=devices.mesh(),
        )
        return [_in_order(ranking.position[of]) for of in members]

    return call


def _sas_jax_matrices(task: Task) -> Call:
    """Prepares the jitted functions for given matrices of one size, with the devices in parallel."""
    import jax
    from jax.sharding import PartitionSpec

    jax.config.update("jax_num_cpu_devices", task.devices)
    from sas_jax import devices
    from sas_jax.selection import greedy

    mesh, number = devices.mesh(), len(task.matrices)
    whole = -(-number // mesh.size) * mesh.size
    given = np.stack([*task.matrices, *[task.matrices[0]] * (whole - number)])
    given = jax.block_until_ready(jax.device_put(given, devices.batched(mesh)))
    largest = max(task.budgets)
    one = functools.partial(getattr(greedy, task.objective), budget=largest)
    split = PartitionSpec(mesh.axis_names[0])
    # Accelerators rank the classes of a device together (vmap), a CPU one after the other.
    together = None if jax.default_backend() == "cpu" else whole // mesh.size
    each = functools.partial(jax.lax.map, one, batch_size=together)
    run = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=split, out_specs=split, check_vma=False))

    def call() -> list[np.ndarray]:
        picks = np.asarray(run(given)[0])
        return [picks[k, :budget] for k, budget in enumerate(task.budgets)]

    return call


def _in_order(position: np.ndarray) -> np.ndarray:
    ranked = np.flatnonzero(position >= 0)
    return ranked[np.argsort(position[ranked])]


def _apricot(task: Task, *, recompile: bool) -> Call:
    import apricot
    from apricot.functions import facilityLocation, graphCut

    if not recompile:
        # Every fit calls these functions, which return newly compiled numba functions.
        facilityLocation.calculate_gains = functools.cache(facilityLocation.calculate_gains)
        facilityLocation.calculate_gains_sieve = functools.cache(facilityLocation.calculate_gains_sieve)
        graphCut.calculate_gains_sieve = functools.cache(graphCut.calculate_gains_sieve)
    # For alpha = 1, alpha sum over v in V, x in X of s_vx - sum over x, y in X of s_xy is the cut.
    selection = (
        apricot.FacilityLocationSelection
        if task.objective == "facility_location"
        else functools.partial(apricot.GraphCutSelection, alpha=1)
    )
    return lambda: [
        np.asarray(selection(budget, metric="precomputed").fit(matrix).ranking)
        for matrix, budget in zip(task.matrices, task.budgets, strict=True)
    ]


def _submodlib(task: Task) -> Call:
    import submodlib

    def function(matrix: np.ndarray):
        if task.objective == "facility_location":
            return submodlib.FacilityLocationFunction(n=len(matrix), mode="dense", separate_rep=False, sijs=matrix)
        # For lambda = 1, sum over v in V, x in X of s_vx - lambda sum over x, y in X of s_xy is the cut.
        return submodlib.GraphCutFunction(n=len(matrix), mode="dense", lambdaVal=1, separate_rep=False, ggsijs=matrix)

    return lambda: [
        np.array([e for e, _ in function(matrix).maximize(budget=budget, optimizer="LazyGreedy", show_progress=False)])
        for matrix, budget in zip(task.matrices, task.budgets, strict=True)
    ]


def _kmedoids(task: Task) -> Call:
    import kmedoids

    for matrix in task.matrices:
        np.subtract(1, matrix, out=matrix)
    return lambda: [
        np.asarray(kmedoids.pam_build(matrix, budget).medoids).astype(np.int64)
        for matrix, budget in zip(task.matrices, task.budgets, strict=True)
    ]


def _numpy(task: Task) -> Call:
    if not task.matrices:
        rows = functools.partial(cases.similarity_rows, task.embeddings)
        return lambda: [numpy_greedy.greedy(task.objective, rows, len(task.embeddings), task.budgets[0])]
    return lambda: [
        numpy_greedy.greedy(task.objective, matrix.__getitem__, len(matrix), budget)
        for matrix, budget in zip(task.matrices, task.budgets, strict=True)
    ]


IMPLEMENTATIONS = {
    "sas_jax": Implementation("sas_jax", None, _sas_jax, {"facility_location": 4, "sas": 4}, compiles=True),
    "sas_jax_matrices": Implementation(
        "sas_jax, matrices given", None, _sas_jax_matrices, {"facility_location": 8, "sas": 8}, compiles=True
    ),
    "apricot": Implementation(
        "apricot, as shipped",
        "apricot-select",
        functools.partial(_apricot, recompile=True),
        {"facility_location": 8, "sas": 8},
    ),
    "apricot_compiled": Implementation(
        "apricot, compiled once",
        "apricot-select",
        functools.partial(_apricot, recompile=False),
        {"facility_location": 8, "sas": 8},
    ),
    "submodlib": Implementation(
        "submodlib",
        "submodlib-py",
        _submodlib,
        # The graph cut converts the matrix to lists of Python floats (32 bytes each) and to a C++ vector.
        {"facility_location": 4, "sas": 56},
    ),
    "kmedoids": Implementation("kmedoids BUILD", "kmedoids", _kmedoids, {"facility_location": 0}),
    "numpy": Implementation("NumPy, incremental", None, _numpy, {"facility_location": 0, "sas": 0}),
}
"""By name, sas_jax first; the keys of `bytes_per_pair` are the objectives that an implementation supports."""
