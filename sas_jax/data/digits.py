"""`digits`: scikit-learn's 1,797 scanned digits as a tfds data set.

The data is small and real, and scikit-learn includes it, so a first run needs no network. 8 x 8 pixels, 10 classes,
from the test set of Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits" (UCI, 1998).
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

_TEST_EVERY = 5


def split_indices(target: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the fixed split: with images ordered by class, every fifth is a test image.

    The split uses no random numbers, so it does not depend on a generator's version. It is stratified to within one
    image per class.

    Args:
        target: int [n], the class of each image.

    Returns:
        Ascending indices int [n'] for "train" and "test".
    """
    by_class = np.argsort(target, kind="stable")
    test = np.sort(by_class[::_TEST_EVERY])
    return {"train": np.setdiff1d(by_class, test), "test": test}


@functools.cache
def builder_class() -> Any:
    """Returns the tfds builder. It is created on demand, because importing tfds takes a second."""
    import tensorflow_datasets as tfds

    class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        """Scikit-learn's scanned digits."""

        name = "digits"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description="1,797 scanned digits of 8 x 8 pixels, from sklearn.datasets.load_digits.",
                homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
                features=tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                        "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            del dl_manager  # nothing is downloaded
            from sklearn import datasets

            digits = datasets.load_digits()
            return {
                split: self._generate_examples(digits, indices)
                for split, indices in split_indices(digits.target).items()
            }

        def _generate_examples(self, digits: Any, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
            for i in indices.tolist():
                pixels = np.round(digits.images[i] * (255 / 16)).astype(np.uint8)
                yield (
                    i,
                    {
                        "id": f"digits_{i:04d}",  # the index in load_digits
                        "image": Image.fromarray(pixels),  # a PIL image needs no TensorFlow to encode
                        "label": int(digits.target[i]),
                    },
                )

    return Digits
