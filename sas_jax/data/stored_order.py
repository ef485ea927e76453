"""Where tfds has stored an image that was published at some place, of data sets that do not say it themselves.

tfds stores the examples of a split in the order of a hash of the keys that the builder gives them, salted with the
split's name. It promises not to change that hash, for slices of splits rest on it.
"""

import functools
from collections.abc import Sequence
from typing import Any

KEYED_BY_INDEX = frozenset(("stl10",))
"""Data sets whose keys are the indices in the published order, and whose examples have no id."""


def published(info: Any, split: str) -> Sequence[int]:
    """Returns, for each stored example of a split of one of `KEYED_BY_INDEX`, its index in the published order.

    Args:
        info: tfds's DatasetInfo.
        split: a whole split's name.
    """
    return _by_hash(split, info.splits[split].num_examples)


@functools.lru_cache(maxsize=8)
def _by_hash(salt: str, count: int) -> Sequence[int]:
    """0 to count - 1 in the order in which tfds stores what has these keys."""
    from tensorflow_datasets.core import hashing

    return sorted(range(count), key=hashing.Hasher(salt).hash_key)
