"""A run on real digits, as the pipeline passes it to the report, with arms whose numbers a test sets."""

import html.parser
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from sas_jax import Ranking


class Page(html.parser.HTMLParser):
    """The page as a reader sees it: its text by section, and its tags with their attributes."""

    def __init__(self, source: str):
        super().__init__()
        self.source = source
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: dict[str, list[str]] = {"": []}
        self.rows: list[list[str]] = []
        self._identity: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("meta", "img", "br"):
            return
        self.open.append(tag)
        self._identity.append(dict(attrs).get("id") or (self._identity[-1] if self._identity else ""))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
        self._identity.pop()

    def handle_data(self, data):
        if "style" in self.open or "head" in self.open:
            return
        data = data.replace("\u00a0", " ")
        self.words.setdefault(self._identity[-1] if self._identity else "", []).append(data)
        if self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data if not self.rows[-1][-1] else " " + data

    @property
    def text(self) -> str:
        return " ".join(word for words in self.words.values() for word in words)

    def part(self, identity: str) -> str:
        return "".join(self.words.get(identity, []))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def accuracy(value: float, n: int = 360) -> dict[str, float]:
    """Returns an accuracy's dict with its Wilson 95 % interval."""
    z = 1.959964
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (value * (1 - value) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    error = (value * (1 - value) / n) ** 0.5
    return {"value": value, "low": centre - half, "high": centre + half, "standard_error": error, "n": n}


def arm(selector: str | None, fraction: float | None, probe: float | None, seed: int = 0) -> dict[str, Any]:
    """Returns an arm's row of results.json; its kNN accuracy is 2 points below the probe's."""
    trained = selector is not None
    size = round(1437 * fraction) if fraction else 0
    return {
        "name": f"{selector}-{fraction:.2f}-s{seed}" if trained else "untrained",
        "selector": selector,
        "fraction": fraction,
        "seed": seed,
        "size": size,
        "epochs": 40 if trained else 0,
        "steps": 40 * (size // 128),
        "loss": 4.123 if trained else None,
        "probe": None if probe is None else accuracy(probe),
        "knn": None if probe is None else accuracy(probe - 0.02),
        "train_seconds": 0.06 * size,
        "views_per_second": 900.0 if trained else None,
    }


def curve(stage: str, steps: int, epochs: int) -> list[dict[str, Any]]:
    """Returns records of a falling loss."""
    rng = np.random.default_rng(len(stage))
    at = np.arange(1, steps + 1)
    loss = 4.0 + 1.5 * np.exp(-3 * at / steps) + 0.03 * rng.standard_normal(steps)
    return [
        {"stage": stage, "step": int(t), "epoch": epochs * int(t) / steps, "loss": float(v), "elapsed_seconds": 0.1 * t}
        for t, v in zip(at, loss, strict=True)
    ]


def greedy_sas(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Implements Algorithm 1 of the paper on one class, ranking all of it."""
    gain = similarity.sum(axis=1) - np.diag(similarity)
    position = np.empty(len(gain), np.int32)
    gains = np.empty(len(gain), np.float32)
    left = np.ones(len(gain), bool)
    for place in range(len(gain)):
        pick = int(np.argmax(np.where(left, gain, -np.inf)))
        position[pick], gains[pick], left[pick] = place, gain[pick], False
        gain = gain - 2 * similarity[pick]
    return position, gains


@pytest.fixture(scope="session")
def digits_run() -> dict[str, Any]:
    """The arguments of `sas_jax.report.html` for a whole run, read-only: tests override copies."""
    digits = datasets.load_digits()
    pixels, labels = digits.images[:1437], digits.target[:1437].astype(np.int32)
    flat = pixels.reshape(len(pixels), -1)
    centred = flat - flat.mean(axis=0)
    projected = centred @ np.linalg.svd(centred, full_matrices=False)[2][:16].T
    embeddings = (0.97 * projected / np.linalg.norm(projected, axis=1, keepdims=True)).astype(np.float32)
    classes = labels.copy()
    swapped = np.random.default_rng(0).random(len(labels)) < 0.08
    classes[swapped] = (classes[swapped] + 3) % 10
    position = np.empty(len(labels), np.int32)
    gain = np.empty(len(labels), np.float32)
    for label in range(10):
        members = np.flatnonzero(classes == label)
        position[members], gain[members] = greedy_sas(np.maximum(embeddings[members] @ embeddings[members].T, 0))
    grey = (pixels * 255 / 16).astype(np.uint8)
    arms = [
        arm(None, None, 0.70),
        arm("sas", 0.2, 0.612),
        arm("random", 0.2, 0.601),
        arm("full", 1.0, 0.93),
    ]
    stages = {"data": 1.2, "proxy": 81.0, "embeddings": 9.4, "latent_classes": 2.1, "ranking": 3.3, "arms": 142.0,
              "evaluation": 12.5}  # fmt: skip
    return {
        "results": {
            "dataset": {"name": "digits", "train_size": 1437, "test_size": 360, "num_classes": 10, "skipped": []},
            "latent_classes": {
                "method": "kmeans",
                "num_classes": 10,
                "sizes": np.bincount(classes).tolist(),
                "agreement": {"accuracy": 0.918, "nmi": 0.861},
            },
            "selection": {"objective": "sas", "similarity": "cosine", "turning_fraction": 0.47},
            "stages": {name: {"wall_seconds": seconds} for name, seconds in stages.items()},
            "arms": arms,
        },
        "config": {"data": {"name": "digits", "image_size": 16}, "proxy": {"embeddings": "", "epochs": 40}, "seed": 0},
        "environment": {
            "versions": {"jax": "0.10.2", "flax": "0.12.8"},
            "devices": ["TFRT_CPU_0"],
            "commit": "0123abc",
        },
        "metrics": curve("proxy", 440, 40)
        + [record for row in arms[1:] for record in curve(f"arms/{row['name']}", row["steps"], 40)],
        "ranking": types.SimpleNamespace(position=position, gain=gain, classes=classes),
        "embeddings": embeddings,
        "images": np.repeat(grey[..., None], 3, axis=3),
        "labels": labels,
        "class_names": tuple(str(digit) for digit in range(10)),
    }


@pytest.fixture(scope="session")
def measured() -> dict[str, Any]:
    """Sections of results.json of a run that measured everything; all accuracies differ. Read-only."""
    part = {"n": 1437, "classes": 10, "alignment": 0.3217, "largest_product": 0.8123, "closest_classes": [3, 8],
            "mean_product": 0.1119, "nearest_centre": accuracy(0.777)}  # fmt: skip
    arms = [arm(None, None, 0.70), arm("sas", 0.2, 0.612), arm("random", 0.2, 0.601), arm("full", 1.0, 0.93),
            arm("file", 1.0, 0.655)]  # fmt: skip
    for at, row in enumerate(arms):
        row["probe_few"] = {"0.1": accuracy(0.31 + 0.01 * at), "0.01": accuracy(0.21 + 0.01 * at)}
        row["probe_coarse"] = accuracy(0.81 + 0.01 * at)
        row["supervised"] = accuracy(0.41 + 0.01 * at) if at else None
        row["geometry"] = {"whole": part, "subset": part | {"n": 287, "alignment": 0.4321} if at else None,
                           "distances": [0.1, None], "largest_distance": 0.2468 if at else None}  # fmt: skip
    arms[4].update(size=287, name="file-1.00-s0")
    latent = {
        "method": "few_labels",
        "num_classes": 10,
        "embeddings": "clip",
        "few_labels": {"num_labelled": 14, "l2": 1e-3, "accuracy": 0.654},
        "chosen": {"decided": True, "tried": [2, 3, 10], "silhouettes": [0.111, 0.222, 0.333]},
    }
    return {"arms": arms, "latent_classes": latent}


@pytest.fixture(scope="session")
def make_arm() -> Any:
    """Returns `arm(selector, fraction, probe, seed)`."""
    return arm


@pytest.fixture(scope="session")
def make_accuracy() -> Any:
    """Returns `accuracy(value, n)`."""
    return accuracy


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    """Returns `read_page(source)`, which parses a page and checks that its tags are balanced."""

    def read(source: str) -> Page:
        page = Page(source)
        assert not page.open, f"never closed: {page.open}"
        return page

    return read


@pytest.fixture(scope="session")
def make_workdir(digits_run) -> Callable[..., Path]:
    """Returns `make_workdir(path, config={...})`, which writes the run's files, with these sections of the config."""

    def make(path: Path, config: dict[str, Any] | None = None) -> Path:
        path.mkdir()
        settings = {"data": {"name": "digits", "image_size": 8}, "proxy": {"embeddings": ""}, "seed": 0} | (
            config or {}
        )
        results = digits_run["results"] | {
            "stages": {"proxy": {"wall_seconds": 81.0}, "evaluate/untrained": {"wall_seconds": 1.0}}
        }
        for name, content in (("config", settings), ("results", results), ("environment", digits_run["environment"])):
            (path / f"{name}.json").write_text(json.dumps(content))
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in digits_run["metrics"]))
        np.save(path / "embeddings.npy", digits_run["embeddings"])
        ranking = digits_run["ranking"]
        Ranking(ranking.position, ranking.gain, ranking.classes).save(str(path / "ranking.parquet"))
        return path

    return make
