"""The cases of the selection benchmark: synthetic embeddings, and the similarities that all implementations receive."""

import dataclasses
from pathlib import Path
from typing import BinaryIO

import numpy as np

SEED = 0
DIMENSION = 128
COMPONENTS = 50
"""Components of the mixture that each latent class is drawn from."""

OBJECTIVES = ("facility_location", "sas")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the benchmark: an objective, a budget and classes of some sizes."""

    name: str
    objective: str
    fraction: float
    sizes: tuple[int, ...]  # of the classes
    given: str = "similarity"  # input of the peers: "similarity", or "embeddings" if there is no matrix
    files: tuple[str, ...] = ()  # embeddings and classes, if they are not synthetic

    @property
    def batched(self) -> bool:
        """Whether there are several classes."""
        return len(self.sizes) > 1


def one_class(objective: str, size: int, fraction: float) -> Case:
    """Returns a case of a single class with a given similarity matrix."""
    return Case(f"{objective}-{size}-{fraction:.2f}", objective, fraction, (size,))


def from_embeddings(objective: str, size: int) -> Case:
    """Returns a case of a single class without a matrix."""
    return Case(f"{objective}-embeddings-{size}-0.20", objective, 0.2, (size,), "embeddings")


def standard(sizes: list[int] | None = None, unpartitioned: list[int] | None = None) -> list[Case]:
    """Returns all cases; `sizes` are of the single classes with a matrix, `unpartitioned` of those without."""
    cases = []
    for objective, defaults in (("facility_location", (500, 5000, 10_000, 20_000)), ("sas", (500, 5000, 10_000))):
        for size in sizes or defaults:
            cases += [one_class(objective, size, fraction) for fraction in (0.2, 0.8)]
    # Multiples of 5, so that a fifth of each class is a whole number.
    mixed = tuple(int(size) for size in 5 * np.round(np.geomspace(30, 3000, 50) / 5))
    return [
        *cases,
        Case("facility_location-100x500-0.20", "facility_location", 0.2, (500,) * 100),
        Case("sas-100x500-0.20", "sas", 0.2, (500,) * 100),
        Case("facility_location-mixed-0.20", "facility_location", 0.2, mixed),
        Case("facility_location-10x5000-0.20", "facility_location", 0.2, (5000,) * 10),
        *(from_embeddings(objective, size) for size in unpartitioned or (50_000,) for objective in OBJECTIVES),
    ]


def quick() -> list[Case]:
    """Returns tiny cases of the same kinds, to check that everything runs; their numbers are not for quoting."""
    return [
        *(one_class(objective, 60, fraction) for objective in OBJECTIVES for fraction in (0.2, 0.8)),
        Case("facility_location-3x40-0.20", "facility_location", 0.2, (40,) * 3),
        Case("facility_location-mixed-0.20", "facility_location", 0.2, (10, 60, 25)),
        *(from_embeddings(objective, 300) for objective in OBJECTIVES),
    ]


def from_files(embeddings: str, classes: str) -> list[Case]:
    """Returns cases of both objectives on the user's embeddings, within given classes."""
    sizes = tuple(np.unique(np.load(classes), return_counts=True)[1].tolist())
    name = Path(embeddings).stem
    return [
        Case(f"{objective}-{name}-0.20", objective, 0.2, sizes, files=(embeddings, classes)) for objective in OBJECTIVES
    ]


def examples(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Returns a case's embeddings (float32 [n, d], norms of at most 1) and classes (int64 [n])."""
    if case.files:
        z, classes = np.load(case.files[0]).astype(np.float32), np.load(case.files[1]).astype(np.int64)
        norms = np.linalg.norm(z, axis=1, keepdims=True)
        # Means of unit vectors, as the pipeline makes them, have norms of at most 1 and are not normalized.
        return (z if norms.max() <= 1 + 1e-5 else z / norms), classes
    rng = np.random.default_rng(SEED)
    z = np.concatenate([mixture(size, rng) for size in case.sizes])
    return z, np.repeat(np.arange(len(case.sizes)), case.sizes)


def mixture(n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws unit vectors, float32 [n, DIMENSION], around COMPONENTS centres; noise and centres have equal variance."""
    centres = rng.normal(size=(COMPONENTS, DIMENSION))
    z = centres[rng.integers(COMPONENTS, size=n)] + rng.normal(size=(n, DIMENSION))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def members(classes: np.ndarray) -> list[np.ndarray]:
    """Returns the indices of each class's examples, in ascending order."""
    sizes = np.unique(classes, return_counts=True)[1]
    return np.split(np.argsort(classes, kind="stable"), np.cumsum(sizes)[:-1])


def similarity(z: np.ndarray) -> np.ndarray:
    """Returns max(0, z_i . z_j), with 1 on the diagonal, rounded to multiples of 2^-23: float32 [n, n].

    Differences of multiples of 2^-23 in [0, 1] are exact in float32, and their sums in float64. Implementations that
    sum in float64 therefore have exact gains, and pick differently only at exact ties.
    """
    s = aligned((len(z), len(z)))
    np.matmul(z, z.T, out=s)
    return _finished(s, np.arange(len(z)))


def similarity_rows(z: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns rows of `similarity(z)`, float32 [k, n], up to the last bits of the products."""
    return _finished(z[indices] @ z.T, indices)


def _finished(s: np.ndarray, indices: np.ndarray) -> np.ndarray:
    np.clip(s, 0, 1, out=s)
    s *= 2.0**23
    np.rint(s, out=s)
    s *= 2.0**-23
    s[np.arange(len(indices)), indices] = 1
    return s


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an empty float32 array aligned to 64 bytes: on a CPU, JAX reads it in place instead of copying it."""
    size = int(np.prod(shape))
    buffer = np.empty(size + 16, np.float32)
    start = -buffer.ctypes.data % 64 // buffer.itemsize
    return buffer[start : start + size].reshape(shape)


def append_matrix(file: BinaryIO, matrix: np.ndarray) -> None:
    """Appends a matrix to a file whose matrices each begin at a multiple of 64 bytes."""
    file.write(matrix.data)
    file.write(bytes(-matrix.nbytes % 64))


def split_matrices(values: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Returns the matrices [k, k] of a file written by `append_matrix`, as views of its float32 values."""
    matrices, start = [], 0
    for size in sizes:
        matrices.append(values[start : start + size * size].reshape(size, size))
        start += -(-size * size // 16) * 16
    return matrices
