"""A run made of real digits: what the pipeline would hand to the report, with arms whose numbers a test sets."""

import types
from typing import Any

import numpy as np
import pytest
from sklearn import datasets


def accuracy(value: float, n: int = 360) -> dict[str, float]:
    """An accuracy's dict with its Wilson 95 % interval."""
    z = 1.959964
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (value * (1 - value) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    error = (value * (1 - value) / n) ** 0.5
    return {"value": value, "low": centre - half, "high": centre + half, "standard_error": error, "n": n}


def arm(selector: str | None, fraction: float | None, probe: float | None, seed: int = 0) -> dict[str, Any]:
    """An arm's row of results.json; its kNN accuracy lies 2 points under the probe's."""
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
    """Records of a falling loss."""
    rng = np.random.default_rng(len(stage))
    at = np.arange(1, steps + 1)
    loss = 4.0 + 1.5 * np.exp(-3 * at / steps) + 0.03 * rng.standard_normal(steps)
    return [
        {"stage": stage, "step": int(t), "epoch": epochs * int(t) / steps, "loss": float(v), "elapsed_seconds": 0.1 * t}
        for t, v in zip(at, loss, strict=True)
    ]


def greedy_sas(similarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of the paper, one class, all of it."""
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
    """The arguments of `sas_jax.report.html` for a whole run; treat them as read-only and override by copies."""
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
def make_arm() -> Any:
    """`arm(selector, fraction, probe, seed)`."""
    return arm


@pytest.fixture(scope="session")
def make_accuracy() -> Any:
    """`accuracy(value, n)`."""
    return accuracy
