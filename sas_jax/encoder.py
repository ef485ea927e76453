"""Loads the trained encoder of a run, and computes features with it."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from sas_jax import arrays, devices, plan, settings, weights
from sas_jax.data.streamed import StreamedImages
from sas_jax.embedding import embed
from sas_jax.errors import InputError, shown
from sas_jax.files import expanded, reason
from sas_jax.images import Images
from sas_jax.models import ResNet, convolution
from sas_jax.networks import apply_encoder, make_trainer
from sas_jax.training import load_trained
from sas_jax.views import Views
from sas_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Encoder:
    """A trained encoder.

    Attributes:
        arm: the arm of the run that trained it.
        steps: number of steps that its parameters were trained for.
        views: the size and normalisation of its images.
        network: the module that computes the features.
        variables: its parameters and BatchNorm statistics.
    """

    arm: str
    steps: int
    views: Views
    network: ResNet
    variables: Any

    @functools.cached_property
    def _encode(self) -> Any:
        """The features as a function of (variables, images); cached, so that its program is reused."""
        return functools.partial(apply_encoder, self.network)

    def apply(self, images: np.ndarray | Images, *, batch_size: int = 256) -> np.ndarray:
        """Computes the features of images.

        Args:
            images: [n, h, w, 3], uint8, or float in [0, 1]; resized to the encoder's image size if they differ. Or
                images of `sas_jax.data` that are decoded on access.
            batch_size: images on one device at a time.

        Returns:
            float32 [n, d].

        Raises:
            InputError: the images have another shape, dtype or range, or the batch size is invalid.
        """
        if not isinstance(images, StreamedImages):
            images = _uint8(arrays.array("images", images))
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise InputError(f"batch_size must be a whole number, 1 or more, got {shown(batch_size)}. Choose one.")
        return embed(self._encode, self.variables, images, views=self.views, batch_size=batch_size, label="features")

    def save(self, path: str) -> None:
        """Writes the weights for PyTorch, by torchvision's names, to a .safetensors, which `load_encoder` can read.

        Args:
            path: path of the file.

        Raises:
            InputError: the suffix is another, or the file cannot be written.
        """
        network, views = self.network, self.views
        built = weights.Built(
            depth=network.depth,
            width=float(network.width),
            stem=network.stem,
            image_size=views.size,
            mean=views.mean,
            std=views.std,
            arm=self.arm,
            steps=self.steps,
        )
        weights.write(path, self.variables, built)


def _uint8(images: np.ndarray) -> np.ndarray:
    """Checks images and converts them to uint8."""
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise InputError(
            f"`images` must have shape [n, h, w, 3] without empty axes, got {list(images.shape)}. Stack RGB images."
        )
    if np.issubdtype(images.dtype, np.floating):
        if not (np.isfinite(images).all() and images.min(initial=0) >= 0 and images.max(initial=0) <= 1):
            raise InputError(
                f"`images` of floats must be finite and in [0, 1], got values from {images.min():g} to "
                f"{images.max():g}. Divide by 255, or give uint8."
            )
        images = np.round(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise InputError(f"`images` must be uint8, or float in [0, 1], got {images.dtype}. Convert them.")
    return images


@settings.fixed
def load_encoder(workdir: epath.PathLike, *, arm: str | None = None, allow_older: bool = False) -> Encoder:
    """Loads an encoder that a run trained.

    Args:
        workdir: the run's directory, or a .safetensors written by `Encoder.save`.
        arm: the arm's name, such as "full-1.00-s0"; the first of config.arms by default.
        allow_older: if the arm's last checkpoint is damaged, use the newest intact one; its features are not those that
            the run evaluated.

    Returns:
        The encoder.

    Raises:
        InputError: the directory has no run or no such arm, the arm is not fully trained, its last checkpoint is
            damaged, or the file cannot be used.
    """
    if expanded(workdir).suffix == ".safetensors":
        if arm is not None:
            raise InputError(
                f"`arm` must be left out with a .safetensors file, got {shown(arm)} with {workdir}. Give only the file."
            )
        return _from_file(workdir)
    directory = Workdir(workdir)
    stored = directory.stored_config()
    if stored is None:
        raise InputError(
            f"`workdir` must be the directory of a run, got {workdir}, which has no config.json. Give the "
            "--workdir of the run."
        )
    config = ConfigDict(stored)
    with _has_every_field(directory / "config.json"):
        arms = {each.name: each for each in plan.arms(config)}
    if not arms:
        raise InputError(
            f"`workdir` must hold a trained arm, got {workdir}, a run without arms. Set config.arms and run it again."
        )
    arm = arm or next(iter(arms))
    if not isinstance(arm, str) or arm not in arms:
        raise InputError(f"`arm` must be one of {', '.join(arms)}, got {shown(arm)}. Choose an arm of {workdir}.")
    method = arms[arm].method
    with _has_every_field(directory / "config.json"):
        section = plan.training(config, method)
        trainer = make_trainer(config, config.encoder, section, mesh=devices.mesh(1), method=method)
    path = directory / "arms" / arm
    stamp = directory.stamp(f"train/{arm}")
    if stamp is None or not path.exists():
        raise InputError(
            f"`workdir` must hold the trained arm {arm}, got {workdir}, where its training is unfinished. Finish the "
            "run first."
        )
    state = load_trained(trainer, path / "checkpoints", steps=stamp["steps"], allow_older=allow_older)
    variables = {"params": state.params["encoder"], "batch_stats": state.batch_stats["encoder"]}
    network = trainer.method.encoder
    assert isinstance(network, ResNet)
    steps = int(state.step)
    return Encoder(arm=arm, steps=steps, views=trainer.views, network=network, variables=variables)


def _from_file(path: epath.PathLike) -> Encoder:
    network, variables, built = weights.load(path)
    dtype = jnp.dtype(devices.compute_dtype("auto"))
    network = network.clone(dtype=dtype, convolution=convolution.fastest(dtype))
    views = Views(size=built.image_size, mean=built.mean, std=built.std)  # type: ignore[arg-type]
    return Encoder(arm=built.arm, steps=built.steps, views=views, network=network, variables=variables)


@contextlib.contextmanager
def _has_every_field(path: epath.Path) -> Iterator[None]:
    """Converts errors in the block for missing fields of the config in `path` to InputError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} must be a complete config of this version, got an incomplete or different one ({reason(error)}). "
            "Run python -m sas_jax.main on this workdir again to rewrite it."
        ) from error
