"""The published rankings in docs/rankings, and the snippet that shows how to use them."""

import re
from pathlib import Path

import numpy as np
import pytest

from sas_jax import Ranking

DOCS = Path(__file__).parent.parent / "docs"
KEPT = sorted((DOCS / "rankings").glob("*.parquet"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_ranking_is_of_all_of_cifar100(path):
    ranking = Ranking.load(str(path), n=50_000)
    numbers = [int(name.removeprefix("train_")) for name in ranking.ids]
    np.testing.assert_array_equal(np.sort(numbers), np.arange(50_000))
    assert (ranking.position >= 0).all()
    assert path.stem.startswith(f"cifar100-{ranking.metadata['objective']}-")
    assert ranking.metadata["made"].keys() == {"config", "commit", "date", "latent_classes"}
    assert f"rankings/{path.name}" in (DOCS / "rankings.md").read_text()


def test_the_snippet_gives_indices_in_torchvisions_order(monkeypatch):
    monkeypatch.chdir(DOCS.parent)
    names = {}
    exec(re.search(r"```python\n(.*?)```", (DOCS / "rankings.md").read_text(), re.DOTALL)[1], names)
    ranking = Ranking.load(str(KEPT[2]))
    original = np.array(names["original"])
    assert len(original) == len(set(names["original"])) == 10_000
    stored = np.argsort([int(name.removeprefix("train_")) for name in ranking.ids])
    assert set(stored[original]) == set(names["chosen"])
