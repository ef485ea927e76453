"""Recovers the published order of tfds data sets whose examples do not record it.

tfds orders the examples of a split by a hash of the builder's keys, salted with the split's name. It promises not to
change the hash, because slices of splits depend on it.
"""

import functools
from collections.abc import Sequence
from typing import Any

KEYED_BY_INDEX = frozenset(("stl10",))
"""Data sets whose keys are indices in the published order and whose examples have no ids."""


def published(info: Any, split: str) -> Sequence[int]:
    """Returns, for each stored example of a split of one of `KEYED_BY_INDEX`, its index in the published order.

    Args:
        info: tfds's DatasetInfo.
        split: a whole split's name.
    """
    return _by_hash(split, info.splits[split].num_examples)


@functools.lru_cache(maxsize=8)
def _by_hash(salt: str, count: int) -> Sequence[int]:
    """Returns 0 to count - 1 in the order in which tfds stores examples with these keys."""
    from tensorflow_datasets.core import hashing

    return sorted(range(count), key=hashing.Hasher(salt).hash_key)
