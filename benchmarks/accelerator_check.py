"""Computes arrays that compare an accelerator with a CPU: `python -m benchmarks.accelerator_check FILE` writes an .npz.

`accelerator.py` runs it twice, the second time with JAX_PLATFORMS=cpu, and compares the arrays by `TOLERANCES`.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import cases, stand_ins

TOLERANCES = {
    "views": 1e-4,
    "views-blurred": 1e-4,
    "nt-xent-gradient": 1e-4,
    # An accelerator multiplies float32 within a convolution in TF32 or bfloat16.
    "loss-float32": 1e-2,
    "gradient-float32": 5e-2,
    "embeddings": 1e-2,
    "loss-bfloat16": 3e-2,
    "gradient-bfloat16": 0.2,
    "kmeans-centres": 1e-4,
    "gains-facility_location": 1e-5,
    "gains-sas": 1e-5,
    "gains-similarity_sum": 1e-5,
    "logistic-probabilities": 1e-3,
}
"""Maximum of |accelerator - CPU| / |CPU|, in the norm of a whole array."""


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Returns the relative difference of two arrays in norm; inf if a number is not finite."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    apart = float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30))
    return apart if np.isfinite(apart) else float("inf")


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns each array's difference, its tolerance and whether the difference is within it."""
    return {
        name: {
            "difference": (apart := difference(found[name], wanted[name])),
            "tolerance": tolerance,
            "within": apart <= tolerance,
        }
        for name, tolerance in TOLERANCES.items()
    }


def compute(*, width: float = 0.25, images: int = 32, examples: int = 2000) -> dict[str, np.ndarray]:
    """Returns the arrays of `TOLERANCES`, each computed by the function that a run calls."""
    from sas_jax import embedding, logistic
    from sas_jax.latent_classes.kmeans import kmeans
    from sas_jax.models import ProjectionHead, ResNet
    from sas_jax.selection.rank import rank
    from sas_jax.training import SimCLR
    from sas_jax.training.losses import nt_xent
    from sas_jax.views import Views, view

    rng, key = np.random.default_rng(0), jax.random.key(0)
    # Smooth images: rounding changes their views less than those of noise.
    coarse = rng.integers(0, 256, (images, 4, 4, 3)).astype(np.float32)
    pixels = np.asarray(jax.image.resize(coarse, (images, 32, 32, 3), "linear")).astype(np.uint8)
    found: dict[str, Any] = {}
    keys = jax.random.split(key, images)
    for name, blur in (("views", 0.0), ("views-blurred", 1.0)):
        found[name] = jax.jit(jax.vmap(functools.partial(view, views=Views(size=32, blur=blur))))(keys, pixels)
    z = cases.mixture(examples, rng)
    found["nt-xent-gradient"] = jax.jit(jax.grad(functools.partial(nt_xent, temperature=0.5)))(
        z[:128].reshape(64, 2, -1)
    )

    pairs = jnp.stack([found["views"], found["views"][:, :, ::-1]], axis=1)
    for dtype in ("float32", "bfloat16"):
        method = SimCLR(
            ResNet(depth=18, width=width, dtype=jnp.dtype(dtype)),
            ProjectionHead(dtype=jnp.dtype(dtype)),
            temperature=0.5,
        )
        variables = jax.jit(functools.partial(method.init, train=False))(key, pairs[:1, 0])

        def loss(params: Any, method: SimCLR = method, variables: Any = variables) -> jax.Array:
            given = {"params": params, "batch_stats": variables["batch_stats"]}
            return method.apply(given, pairs, method="loss", mutable=["batch_stats", "seen"])[0]

        found[f"loss-{dtype}"], gradient = jax.jit(jax.value_and_grad(loss))(variables["params"])
        found[f"gradient-{dtype}"] = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])
        if dtype == "float32":
            found["embeddings"] = embedding.embed(
                lambda variables, images, method=method: method.apply(variables, images, train=False),
                variables,
                pixels,
                views=Views(size=32),
                num_views=4,
                batch_size=16,
                key=key,
                devices=tuple(jax.local_devices()[:1]),
            )

    labels = np.repeat(np.arange(4), examples // 4)
    apart = z + 3 * np.eye(4, z.shape[1], dtype=np.float32)[labels]
    found["kmeans-centres"] = kmeans(key, apart, num_classes=4, restarts=1).centres
    for objective in ("facility_location", "sas", "similarity_sum"):
        ranking = rank(z, objective=objective, budget=examples // 5)
        gains = ranking.gain[ranking.position >= 0]
        found[f"gains-{objective}"] = np.sort(gains)  # ties may be broken differently
    model = logistic.fit(apart, labels, num_classes=4, l2=1e-2)
    found["logistic-probabilities"] = jax.nn.softmax(apart @ np.asarray(model.weights) + np.asarray(model.bias))
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the .npz file to write")
    parser.add_argument("--quick", action="store_true", help="compute tiny cases, to check that everything works")
    options = parser.parse_args()
    stand_ins.install()
    np.savez(options.file, **compute(**({"width": 0.125, "images": 4, "examples": 200} if options.quick else {})))


if __name__ == "__main__":
    main()
