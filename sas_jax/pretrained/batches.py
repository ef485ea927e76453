"""Runs images through a network in batches, while all cores prepare the next ones."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from sas_jax import devices


def in_batches(
    n: int,
    prepare: Callable[[np.ndarray], Any],
    forward: Callable[[Any], np.ndarray],
    *,
    batch_size: int,
    label: str,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Yields forward(prepare(indices)) for each batch in order, with a progress bar; all cores prepare batches ahead.

    Args:
        n: number of images.
        prepare: takes int [b], the indices of a batch; called on several threads.
        forward: maps a prepared batch to [b, d].
        batch_size: images per batch, at least 1.
        label: the label of the progress bar.
        first: the index of the first image.
    """

    def prepared(start: int) -> Any:
        return prepare(np.arange(start, min(start + batch_size, n)))

    with tqdm(total=n, initial=first, desc=label, unit=" images", disable=None) as bar:
        for batch in _ahead(prepared, range(first, n, batch_size)):
            found = forward(batch)
            bar.update(len(found))
            yield found


def _ahead(function: Callable[[int], Any], arguments: Iterable[int]) -> Iterator[Any]:
    """Yields function(a) for each argument in order, computed a few ahead on all cores."""
    workers = devices.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Any] = deque()
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
